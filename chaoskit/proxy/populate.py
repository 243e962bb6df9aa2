"""Many proxies at once: those that are there already with the same addresses are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.proxy import wire
from chaoskit.proxy.errors import ProxyError, bad_request
from chaoskit.proxy.server import MOST_LINKS

if TYPE_CHECKING:
    from chaoskit.proxy.link import Link
    from chaoskit.proxy.server import Server

LONGEST = 1000
"""Characters of a name or an address."""

PROXY: Mapping[str, type] = {
    "name": str,
    "listen": str,
    "upstream": str,
    "enabled": bool,
    "protocol": str,
}
_ELEMENT = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


def read(body: bytes) -> list[dict[str, Any]]:
    """The proxies that a request lists, each checked by itself. Raises ProxyError."""
    document = wire.decode(body)
    if document is None:
        return []
    if not isinstance(document, list):
        found = wire.kind(document)
        raise bad_request(f"json: cannot unmarshal {found} into Go value of type []{_ELEMENT}")
    if len(document) > MOST_LINKS:
        raise ProxyError(f"there are at most {MOST_LINKS} proxies", 409)
    given = [wire.fields(one, PROXY, _ELEMENT, _PARTS) for one in document]
    for number, one in enumerate(given, 1):
        check(one, f" at proxy {number}")
    return given


_PARTS = {"enabled": "", "": ".Proxy"}


def check(given: Mapping[str, Any], where: str = "") -> None:
    """Raise ProxyError when a new proxy cannot be as it is described."""
    for name in ("name", "upstream"):
        if not given.get(name):
            raise ProxyError(f"missing required field: {name}{where}", 400)
    check_lengths(given)


def check_lengths(given: Mapping[str, Any]) -> None:
    for name in ("name", "listen", "upstream"):
        if len(given.get(name, "")) > LONGEST:
            raise bad_request(f"{name} is longer than {LONGEST} characters")


def create(server: Server, given: Mapping[str, Any]) -> Link:
    """A new proxy as it is described. Raises ProxyError."""
    return server.create(
        given["name"],
        given.get("listen", ""),
        given["upstream"],
        enabled=given.get("enabled", True),
        protocol=given.get("protocol", "tcp"),
    )


def populate(server: Server, given: Sequence[Mapping[str, Any]], done: list[Link]) -> None:
    """Create or replace each in turn and put it into `done`. Raises ProxyError at the first that
    cannot be; those before it stay."""
    for one in given:
        link = server.links.get(one["name"])
        if link is not None and not _same(link, one):
            server.delete(link.name)
            link = None
        done.append(link or create(server, one))


def _same(link: Link, given: Mapping[str, Any]) -> bool:
    listen = given.get("listen", "").replace("localhost:", "127.0.0.1:", 1)
    wanted = (listen, given["upstream"], given.get("protocol", "tcp"))
    return wanted == (link.listen, link.upstream, link.protocol)
