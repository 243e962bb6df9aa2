"""Addresses as Toxiproxy writes them, `host:port`, and the look-up of names beside the loop."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from chaoskit.clock import now
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.loop import Loop

Address = tuple[socket.AddressFamily, Any]

FRESH = 1.0
"""Seconds for which a name's addresses are taken as they were."""
AT_ONCE = 16
"""Names that are looked up at the same time; a name is looked up once at a time."""


def split(address: str, what: str) -> tuple[str, int]:
    """Host and port. Raises ProxyError 500 in Go's words."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise ProxyError(
            f"{what}: address {address}: "
            + ("too many colons in address" if colon else "missing port in address"),
            500,
        )
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ProxyError(f"{what}: address {port}: invalid port", 500)
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_upstream(address: str) -> tuple[str, int]:
    """Raises ProxyError 400: an upstream that can never be dialled is told when it is set."""
    try:
        host, port = split(address, "upstream")
    except ProxyError as error:
        raise ProxyError(f"bad request body: {error}", 400) from error
    if not port:
        raise ProxyError(f"bad request body: upstream: address {address}: no port", 400)
    return host, port


def shown(name: Any) -> str:
    """A socket's own address."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_to(listen: str, kind: socket.SocketKind) -> socket.socket:
    """A bound socket, not yet listening. An empty host is every address of this machine, as the
    file says it; nothing at all is the loopback. Raises ProxyError 500 in Go's words."""
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    host, port = split(listen, f"listen {protocol}") if listen else ("127.0.0.1", 0)
    if host == "localhost":
        host = "127.0.0.1"
    try:
        family = (
            socket.AF_INET6 if not host or ipaddress.ip_address(host).version == 6 else
            socket.AF_INET
        )  # fmt: skip
    except ValueError:
        family, host = _own(host, listen, protocol)
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not host else 1)
        made.bind((host or "::", port))
        if not port and kind == socket.SOCK_STREAM:
            made = _bound_by_name(made)
    except OSError as error:
        made.close()
        raise ProxyError(
            f"listen {protocol} {host}:{port}: bind: {(error.strerror or str(error)).lower()}", 500
        ) from error
    return made


def _bound_by_name(made: socket.socket) -> socket.socket:
    """Another socket on the port that the system has chosen, bound to it by its number: only then
    does the kernel keep the port when the listener is shut and opened again."""
    with made:
        named = socket.socket(made.family, made.type)
        named.setblocking(False)
        named.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            only = made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            named.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        named.bind(made.getsockname())
    return named


def _own(host: str, listen: str, protocol: str) -> tuple[socket.AddressFamily, str]:
    """The address of a name of this machine; other names are nothing to listen on, and asking a
    name server for them would stop everything meanwhile."""
    if host == socket.gethostname():
        for family, _, _, _, address in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP):
            return socket.AddressFamily(family), str(address[0])
    raise ProxyError(f"listen {protocol}: lookup {host}: no such host", 500)


class Names:
    """Looks names up in threads and answers in the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._known: dict[str, tuple[float, list[Address]]] = {}
        self._asked: dict[str, list[Any]] = {}
        self._slots = threading.Semaphore(AT_ONCE)

    def find(self, upstream: str, who: Any) -> None:
        """Call `who.dial(addresses)`, at once if they are known. An empty list: not found."""
        found = _literal(upstream)
        if found is None:
            self._find_name(upstream, who)
        else:
            who.dial(found)

    def _find_name(self, upstream: str, who: Any) -> None:
        until, addresses = self._known.get(upstream, (0.0, []))
        if now() < until:
            who.dial(addresses)
        elif upstream in self._asked:
            self._asked[upstream].append(who)
        else:
            self._asked[upstream] = [who]
            try:
                threading.Thread(
                    target=self._ask, args=(upstream,), name=f"lookup {upstream}", daemon=True
                ).start()
            except RuntimeError:  # No more threads now: whoever comes next tries again.
                self._answer(upstream, [])()

    def _ask(self, upstream: str) -> None:
        host, port = parse_upstream(upstream)
        found: list[Address] = []
        with self._slots:
            try:
                for family, _, _, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                ):
                    found.append((socket.AddressFamily(family), address))
            except (OSError, UnicodeError):
                pass  # Not found, and told as that.
        self._loop.from_thread(self._answer(upstream, found))

    def _answer(self, upstream: str, found: list[Address]) -> Callable[[], None]:
        def answer() -> None:
            if found:
                self._known[upstream] = (now() + FRESH, found)
            for who in self._asked.pop(upstream, []):
                who.dial(found)

        return answer


@lru_cache(maxsize=1024)
def _literal(upstream: str) -> list[Address] | None:
    host, port = parse_upstream(upstream)
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
