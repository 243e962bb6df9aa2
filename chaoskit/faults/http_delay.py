"""Requests that wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.http_requests import HttpRequests
from chaoskit.faults.network import LONGEST
from chaoskit.model.units import Duration


@dataclass(frozen=True)
class HttpDelay(HttpRequests):
    """Let requests wait before the service gets them."""

    delay: Duration = field(metadata={"above": 0, "max": LONGEST, "doc": "how long they wait"})
    jitter: Duration = field(default=0.0, metadata={"max": LONGEST, "doc": "more or less so much"})
    name = "http-delay"
    takes = ("delay", "jitter")
    examples = ({"delay": "200ms", "method": "GET"},)
