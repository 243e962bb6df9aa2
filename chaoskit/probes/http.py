"""Ask a URL: status, latency, body, headers, JSON, certificate."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Unit
from chaoskit.model.url import Tls, problem_with, problem_with_method


@dataclass(frozen=True)
class HttpProbe(Probe):
    """An HTTP request: status, latency, body, headers, JSON, certificate."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    timeout: Duration = field(default=2.0, metadata={"doc": "for the whole answer"})
    follow: bool = field(default=False, metadata={"doc": "go after redirects, 5 at most"})
    tls: Tls = field(default_factory=Tls)
    wants: tuple[str, ...] = field(default=(), metadata={"internal": True})
    kind = "http"
    readings = {
        "status": Unit.NUMBER,
        "latency": Unit.DURATION,
        "body": Unit.TEXT,
        "headers *": Unit.TEXT,
        "json *": Unit.TEXT,
        "certificate-expires-in": Unit.DURATION,
    }
    main = "status"

    def read(self, context: Context) -> Reading:
        from chaoskit.web import RequestFailed, send

        try:
            answer = send(
                self.method,
                self.url,
                timeout=self.timeout,
                headers=self.headers,
                body=self.body,
                follow=self.follow,
                tls=self.tls,
            )
        except RequestFailed as error:
            raise ProbeError(str(error)) from error
        reading: dict[str, Json] = {
            "status": answer.status,
            "latency": answer.latency,
            "body": answer.body,
        }
        if answer.expires_in is not None:
            reading["certificate-expires-in"] = answer.expires_in
        for name in self.wants:
            kind, _, what = name.partition(" ")
            if kind == "headers":
                reading[name] = answer.headers.get(what.lower())
        paths = [name for name in self.wants if name.startswith("json ")]
        if paths:
            document = _document(answer.body)
            for name in paths:
                reading[name] = _at(document, name.removeprefix("json "))
        return reading

    def describe(self) -> str:
        return f"{self.method} {self.url}"

    def problems(self) -> list[tuple[str, str]]:
        told = {"url": problem_with(self.url), "method": problem_with_method(self.method)}
        return [(name, problem) for name, problem in told.items() if problem]


def _document(body: str) -> Any:
    try:
        return json_module.loads(body)
    except ValueError as error:
        raise ProbeError(f"the answer is no JSON: {error}") from error


def _at(document: Any, path: str) -> Json:
    """What a JSON path (RFC 9535) selects: the value when it is one, else the list of them."""
    import jsonpath

    found: list[Any] = jsonpath.findall(path, document)
    return found[0] if len(found) == 1 else found
