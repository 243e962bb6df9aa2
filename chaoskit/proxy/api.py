"""The routes of Toxiproxy's interface and ours beside them, from a request to its exact answer.

Nothing in here knows of sockets. What a real Toxiproxy 2.12 answers was asked of it: the table in
the tests holds each answer, and the few that differ on purpose with the reason.
"""

from __future__ import annotations

import posixpath
import re
import secrets
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from chaoskit.proxy import metrics, wire
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.populate import PROXY, change, check, check_lengths, create, populate, read
from chaoskit.version import __version__

if TYPE_CHECKING:
    from chaoskit.proxy.link import Link
    from chaoskit.proxy.server import Server

JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """target: as it was sent, path and query. agent: the User-Agent."""

    method: str
    target: str
    agent: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """events: the body is the stream of events, which does not end."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    events: bool = False


class BadTarget(Exception):
    """The target of a request is no path."""


class Api:
    """One server's interface."""

    def __init__(self, server: Server) -> None:
        self._server = server
        one = r"([^/]+)"
        self._routes: list[tuple[re.Pattern[str], dict[str, _Handler]]] = [
            (re.compile(path), handlers)
            for path, handlers in (
                ("/proxies", {"GET": self._index, "POST": self._create}),
                ("/populate", {"POST": self._populate}),
                ("/reset", {"POST": self._reset}),
                ("/version", {"GET": self._version}),
                ("/metrics", {"": self._metrics}),
                ("/events", {"GET": self._events}),
                (
                    f"/proxies/{one}",
                    {
                        "GET": self._show,
                        "POST": self._update,
                        "PATCH": self._update,
                        "DELETE": self._delete,
                    },
                ),
                (f"/proxies/{one}/toxics", {"GET": self._toxics, "POST": self._add}),
                (
                    f"/proxies/{one}/toxics/{one}",
                    {
                        "GET": self._toxic,
                        "POST": self._change,
                        "PATCH": self._change,
                        "DELETE": self._remove,
                    },
                ),
            )
        ]

    def answer(self, request: Request) -> Answer:
        """Never raises but BadTarget: what goes wrong is an answer too."""
        path, query = _path(request.target)
        clean = _clean(path)
        if clean != path:
            place = quote(clean.encode("utf-8", "surrogateescape"), _UNQUOTED)
            return Answer(301, headers=(("Location", place + query),))
        for pattern, handlers in self._routes:
            if found := pattern.fullmatch(path):
                handler = handlers.get(request.method) or handlers.get("")
                if handler is None:
                    return Answer(405)
                answer = self._handled(handler, request, found.groups())
                identity = ("X-Toxiproxy-Request-Id", _identity())
                return Answer(
                    answer.status, answer.body, (*answer.headers, identity), answer.events
                )
        return plain_text(404, "404 page not found")

    def _handled(self, handler: _Handler, request: Request, names: tuple[str, ...]) -> Answer:
        if request.agent.startswith("Mozilla/"):
            return plain_text(403, "User agent not allowed")
        try:
            return handler(request, *names)
        except ProxyError as error:
            return refusal(str(error), error.status)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return refusal(f"internal error: {type(error).__name__}: {error}", 500)

    # --- proxies ---------------------------------------------------------------------------------

    def _index(self, request: Request) -> Answer:
        links = self._server.links
        return _json(200, {name: links[name].show() for name in sorted(links)})

    def _create(self, request: Request) -> Answer:
        given = wire.fields(wire.decode(request.body), PROXY, "toxiproxy.Proxy", "Proxy")
        check(given)
        return _json(201, create(self._server, given).show())

    def _populate(self, request: Request) -> Answer:
        done: list[Link] = []
        status, told = 201, {}
        try:
            populate(self._server, read(request.body), done)
        except ProxyError as error:
            status, told = error.status, {"error": str(error), "status": error.status}
        return _json(status, {**told, "proxies": [link.show() for link in done] or None})

    def _show(self, request: Request, name: str) -> Answer:
        return _json(200, self._server.link(name).show())

    def _update(self, request: Request, name: str) -> Answer:
        link = self._server.link(name)
        given = wire.fields(wire.decode(request.body), PROXY, "toxiproxy.Proxy", "Proxy")
        change(link, given, given.get("enabled", link.enabled))
        return _json(200, link.show())

    def _delete(self, request: Request, name: str) -> Answer:
        self._server.delete(name)
        return Answer(204)

    def _reset(self, request: Request) -> Answer:
        self._server.reset()
        return Answer(204)

    # --- toxics ----------------------------------------------------------------------------------

    def _toxics(self, request: Request, name: str) -> Answer:
        return _json(200, [toxic.show() for toxic in self._server.link(name).toxics()])

    def _add(self, request: Request, name: str) -> Answer:
        link = self._server.link(name)
        document = wire.decode(request.body)
        go_types = "toxics.ToxicWrapper", "ToxicWrapper", "toxics.NoopToxic"
        given = wire.fields(document, TOXIC, *go_types)
        check_lengths(given)
        return _json(200, link.add(given).show())

    def _toxic(self, request: Request, name: str, toxic: str) -> Answer:
        return _json(200, self._server.link(name).toxic(toxic).show())

    def _change(self, request: Request, name: str, toxic: str) -> Answer:
        link = self._server.link(name)
        go_type = f"toxics.{link.toxic(toxic).type.title().replace('_', '')}Toxic"
        given = wire.fields(wire.decode(request.body), CHANGE, _CHANGED, "", go_type)
        return _json(200, link.change(toxic, given).show())

    def _remove(self, request: Request, name: str, toxic: str) -> Answer:
        self._server.link(name).remove(toxic)
        return Answer(204)

    # --- the rest --------------------------------------------------------------------------------

    def _version(self, request: Request) -> Answer:
        text = f'{{"version": "{self._server.version}", "chaoskit": "{__version__}"}}\n'
        return Answer(200, text.encode(), (("Content-Type", "application/json;charset=utf-8"),))

    def _metrics(self, request: Request) -> Answer:
        text = metrics.text(self._server)
        return Answer(200, text.encode(), (("Content-Type", metrics.CONTENT_TYPE),))

    def _events(self, request: Request) -> Answer:
        return Answer(200, events=True)


_Handler = Callable[..., Answer]

TOXIC: Mapping[str, type] = {
    "name": str,
    "type": str,
    "stream": str,
    "toxicity": float,
    "attributes": dict,
    "ttl": float,
    "seed": int,
}
CHANGE: Mapping[str, type] = {"attributes": dict, "toxicity": float, "ttl": float}
_CHANGED = (
    'struct { Attributes interface {} "json:\\"attributes\\""; '
    'Toxicity float32 "json:\\"toxicity\\"" }'
)


def _json(status: int, value: Any) -> Answer:
    return Answer(status, wire.encode(value), (("Content-Type", JSON),))


def refusal(message: str, status: int) -> Answer:
    """An error as Toxiproxy tells it: JSON that calls itself text, with a newline."""
    return plain_text(status, wire.encode({"error": message, "status": status}).decode())


def plain_text(status: int, text: str) -> Answer:
    headers = (("Content-Type", _TEXT), ("X-Content-Type-Options", "nosniff"))
    return Answer(status, f"{text}\n".encode(), headers)


_UNQUOTED = "/$&+,:;=@"
"""What Go leaves as it is in the path of a URL, besides letters, digits and `-_.~`."""
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")


def _path(target: str) -> tuple[str, str]:
    """The decoded path of a request's target, and its query with the question mark."""
    if _BAD_ESCAPE.search(target.partition("?")[0]):
        raise BadTarget
    if not target.startswith("/"):
        found = re.fullmatch("[a-zA-Z][a-zA-Z0-9+.-]*://[^/?]*(.*)", target)
        if not found:
            raise BadTarget
        target = found[1] or "/"
    path, mark, query = target.partition("?")
    # Names are text: what is no UTF-8 is the name of nothing.
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape"), mark + query


def _clean(path: str) -> str:
    """The path without empty parts and dots, as the router of Toxiproxy wants it."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _identity() -> str:
    return "".join(secrets.choice("0123456789abcdefghijklmnopqrstuv") for _ in range(20))
