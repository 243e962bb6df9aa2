"""Requests that are answered with an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaoskit.faults.http_requests import HttpRequests


@dataclass(frozen=True)
class HttpError(HttpRequests):
    """Answer requests in the service's place; it never sees them."""

    status: int = field(default=503, metadata={"min": 200, "max": 599, "doc": "of the answer"})
    body: str = field(default="", metadata={"doc": "of the answer"})
    headers: Mapping[str, str] = field(default_factory=dict, metadata={"doc": "by name"})
    name = "http-error"
    takes = ("status", "body", "headers")
    examples = ({"status": 503, "body": "busy", "headers": {"Retry-After": "1"}, "path": "/a.*"},)
