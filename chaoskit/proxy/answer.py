"""An answer that is ours and not the upstream's."""

from __future__ import annotations

import dataclasses
import http
from collections.abc import Mapping
from dataclasses import dataclass

EMPTY = (204, 205, 304)
"""Statuses whose answers have no body (RFC 9110, 15.3.5, 15.3.6, 15.4.5)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """method: what was asked. closes: the connection ends behind it.
    keeps: the client must be told that it does not (HTTP/1.0)."""

    method: str
    status: int
    body: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    closes: bool = False
    keeps: bool = False

    def last(self, really: bool = True) -> Answer:
        """The same one, and the connection ends behind it."""
        return dataclasses.replace(self, closes=self.closes or really)

    def render(self, *, closes: bool) -> bytes:
        body = self.body.encode("utf-8", "surrogatepass")
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        # RFC 9110, 8.6: a length would make no sense in these.
        if self.status not in (204, 304) and not self._tunnel:
            lines.append(f"Content-Length: {len(body)}")
        if closes and "connection: close" not in map(str.lower, lines):
            lines.append("Connection: close")
        elif self.keeps and not closes:
            lines.append("Connection: keep-alive")
        head = "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogatepass")
        return head if self.method == "HEAD" or self._tunnel else head + body

    @property
    def _tunnel(self) -> bool:
        """Whether what follows the head is the tunnel that was asked for; ours is empty."""
        return self.method == "CONNECT" and 200 <= self.status < 300


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
