"""A proxy server's HTTP interface, as Toxiproxy defined it: ours and the real one speak it.

Spoken directly: Toxiproxy's own Python client keeps its server in class globals, so two cannot be
talked to at once, and takes an error for an answer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.procfs import Process, listening
from chaoskit.web import NobodyListens, RequestFailed, send

TIMEOUT = 2.0
"""Seconds for one request."""
_WIDE = 120
"""Characters of a server's own words that are told."""


class NotFound(ChaoskitError):
    """It answered 404, as anything in front of the server may."""


class NotThere(NotFound):
    """The server knows no such link or toxic."""


class NoServer(Gone):
    """Nobody listens where the server was: what it had in went with it."""


@dataclass(frozen=True, slots=True)
class Client:
    """One server. url: normalised, without a path. place: the path of its Unix socket, if it is
    there that it listens. keeper: whose end is the server's, as `keeper_of` tells; None where
    nobody listening on this machine is enough: what was in ends by itself, or nothing was."""

    url: str
    place: str | None = None
    keeper: str | None = None

    @property
    def local(self) -> bool:
        """Whether it is reached on this machine."""
        return self.place is not None or is_loopback(urlsplit(self.url).hostname or "")

    def ended(self) -> bool:
        """Whether it has, when nobody listens: that may be a tunnel's end, or that of the port that
        leads to a container, and what was in is in still."""
        if self.keeper is None:
            return self.local
        return bool(self.keeper) and not Process.from_key(self.keeper).alive()

    def server(self) -> dict[str, Any]:
        """What it says of itself. Raises ChaoskitError when it is no such server."""
        try:
            told = self.ask("GET", "/version")
        except NotFound:
            told = None
        if not isinstance(told, dict) or "version" not in told:
            raise ChaoskitError(f"what answers at {self} is no Toxiproxy")
        return told

    def links(self) -> list[dict[str, Any]]:
        """Every link, by name."""
        told = self.ask("GET", "/proxies")
        if not isinstance(told, dict) or not all(isinstance(one, dict) for one in told.values()):
            raise ChaoskitError(f"what answers at {self} is no Toxiproxy")
        return [told[name] for name in sorted(told)]

    def link(self, name: str) -> dict[str, Any]:
        """Raises Gone when there is none of that name."""
        try:
            told = self.ask("GET", f"/proxies/{_quoted(name)}")
        except NotThere as error:
            raise Gone(f"there is no link {name} any more") from error
        if not isinstance(told, dict) or told.get("name") != name:
            raise ChaoskitError(f"what answers at {self} is no Toxiproxy")
        return told

    def toxic(self, link: str, name: str) -> dict[str, Any] | None:
        """None when the link has none of that name. Raises Gone when there is no such link."""
        found = self.link(link).get("toxics") or []
        return next((dict(toxic) for toxic in found if toxic.get("name") == name), None)

    def add(self, link: str, toxic: dict[str, Any]) -> None:
        try:
            self.ask("POST", f"/proxies/{_quoted(link)}/toxics", toxic)
        except NotThere as error:
            raise Gone(f"there is no link {link} any more") from error

    def remove(self, link: str, name: str) -> None:
        """Harmless when it is gone already; Gone when the link is."""
        try:
            self.ask("DELETE", f"/proxies/{_quoted(link)}/toxics/{_quoted(name)}")
        except NotThere:
            self.link(link)

    def enable(self, link: str, enabled: bool) -> None:
        try:
            self.ask("POST", f"/proxies/{_quoted(link)}", {"enabled": enabled})
        except NotThere as error:
            raise Gone(f"there is no link {link} any more") from error

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """One request. Raises NotThere, NoServer, ChaoskitError."""
        try:
            answer = send(
                method,
                self.url + path,
                timeout=TIMEOUT,
                headers={"Content-Type": "application/json"},
                body=None if document is None else json.dumps(document),
                place=self.place,
            )
        except NobodyListens as error:
            told = f"no proxy server at {self}: {error}"
            if self.ended():
                raise NoServer(told) from error
            still = "" if self.keeper is None else "; what was put in there may be in still"
            raise ChaoskitError(told + still) from error
        except RequestFailed as error:
            raise ChaoskitError(f"the proxy server at {self}: {error}") from error
        try:
            found: Any = json.loads(answer.body) if answer.body.strip() else None
        except ValueError:
            found = answer.body
        if not 200 <= answer.status < 300:
            why = found.get("error") if isinstance(found, dict) else None
            if answer.status == 404 and why in ("proxy not found", "toxic not found"):
                raise NotThere(f"{self} has no {path}")
            shown = " ".join(str(why or f"it answered {answer.status}").split())[:_WIDE]
            kind = NotFound if answer.status == 404 else ChaoskitError
            raise kind(f"the proxy server at {self}: {shown}")
        return found

    def __str__(self) -> str:
        return self.place or self.url


def keeper_of(url: str) -> str:
    """The key of the process that is the Toxiproxy at that URL; empty where it cannot be told, as
    when what listens here only leads there."""
    parts = urlsplit(url)
    if not (is_loopback(parts.hostname or "") and parts.port):
        return ""
    with contextlib.suppress(Gone, OSError):
        found, _ = listening(parts.port)
        for process in found:
            if "toxiproxy" in process.exe():
                return process.key
    return ""


def normal_url(url: str) -> str:
    """One name for each server: `localhost` is 127.0.0.1, and nothing follows the port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = "127.0.0.1" if host == "localhost" else f"[{host}]" if ":" in host else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _quoted(name: str) -> str:
    return quote(name, safe="")
