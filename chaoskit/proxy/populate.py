"""Many proxies at once: those that are there already with the same addresses are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.proxy import wire
from chaoskit.proxy.addresses import parse_upstream, split
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
        if link is None:
            link = create(server, one)
        elif (one.get("protocol") or "tcp") != link.protocol:
            server.delete(link.name)
            link = create(server, one)
        elif change(link, one, one.get("enabled", True), keep_same=True):
            link.remove_all()
        done.append(link)


def change(link: Link, given: Mapping[str, Any], enabled: bool, keep_same: bool = False) -> bool:
    """Give a proxy the addresses that are given, and enable it or not; whether that changed where
    it listens or leads. keep_same: leave it alone if not. Raises ProxyError; when the new address
    is taken, the proxy is disabled, and otherwise as it was."""
    check_lengths(given)
    listen, upstream = given.get("listen", link.listen), given.get("upstream", link.upstream)
    if given.get("listen"):
        try:
            split(listen, "")
        except ProxyError as error:
            raise ProxyError(str(error).removeprefix(": "), error.status) from error
    parse_upstream(upstream)
    # A proxy knows the address that it really has.
    resolved = re.sub("^localhost:", "127.0.0.1:", listen)
    differs = (resolved, upstream) != (link.listen, link.upstream)
    if differs or not keep_same:
        link.update(listen if differs else link.listen, upstream, enabled)
    return differs
