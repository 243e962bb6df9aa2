"""The proxy as a whole: its links, its memory, its chance, and who is told what happens."""

from __future__ import annotations

import random
from collections.abc import Callable

from chaoskit.proxy.addresses import Names, parse_upstream
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.link import Link
from chaoskit.proxy.loop import Loop
from chaoskit.proxy.pipes import Pipes
from chaoskit.proxy.stage import Memory

MOST_LINKS = 1000
MEMORY = 1024 * 1024 * 1024
"""Bytes that all toxics together may hold back before senders are slowed down."""

Listener = Callable[[str, dict[str, object]], None]


class Server:
    """Everything is for the loop's own thread, or before the loop runs.

    seed: of all draws that no toxic's own seed decides; None: a new one each time.
    memory: bytes that connections may hold together.
    """

    version = "2.12.0"
    """The version of Toxiproxy's interface that is spoken."""

    def __init__(self, *, seed: int | None = None, memory: int = MEMORY) -> None:
        self.loop = Loop()
        self.memory = Memory(memory)
        self.pipes = Pipes()
        self.names = Names(self.loop)
        self.links: dict[str, Link] = {}
        self.listeners: list[Listener] = []
        self._seeds = random.Random(seed)

    def create(
        self,
        name: str,
        listen: str,
        upstream: str,
        *,
        enabled: bool = True,
        protocol: str = "tcp",
    ) -> Link:
        """A new link. Raises ProxyError: 409 when there is one of that name, 500 when the address
        cannot be had, 400 for what makes no sense."""
        if name in self.links:
            raise ProxyError("proxy already exists", 409)
        if len(self.links) >= MOST_LINKS:
            raise ProxyError(f"there are at most {MOST_LINKS} proxies", 409)
        parse_upstream(upstream)
        link = self._kind(protocol)(self, name, listen, upstream)
        if enabled:
            link.enable()
        self.links[name] = link
        self.tell("proxy-created", proxy=name, listen=link.listen, upstream=upstream)
        return link

    def link(self, name: str) -> Link:
        try:
            return self.links[name]
        except KeyError:
            raise ProxyError("proxy not found", 404) from None

    def delete(self, name: str) -> None:
        link = self.link(name)
        link.disable()
        link.remove_all()
        del self.links[name]
        self.tell("proxy-deleted", proxy=name)

    def reset(self) -> None:
        """Enable every link and remove every toxic."""
        for link in self.links.values():
            link.enable()
            link.remove_all()

    def next_seed(self) -> int:
        return self._seeds.getrandbits(64)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call it with each event's kind and fields; what is returned ends that."""
        self.listeners.append(listener)

        def end() -> None:
            if listener in self.listeners:
                self.listeners.remove(listener)

        return end

    def tell(self, kind: str, **fields: object) -> None:
        for listener in list(self.listeners):
            listener(kind, fields)

    def close(self) -> None:
        """End every connection and give everything back."""
        for name in list(self.links):
            self.delete(name)
        self.loop.turn(0)
        self.pipes.close()
        self.loop.close()

    @staticmethod
    def _kind(protocol: str) -> type[Link]:
        # A proxy for one of them need not load the other.
        if protocol == "tcp":
            from chaoskit.proxy.tcp import TcpLink

            return TcpLink
        if protocol == "udp":
            from chaoskit.proxy.datagrams import UdpLink

            return UdpLink
        raise ProxyError("bad request body: protocol must be tcp or udp", 400)
