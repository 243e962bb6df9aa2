"""The proxy's server turned by the test itself: real sockets, no thread, every step in hand."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chaoskit.proxy.link import Link
from chaoskit.proxy.server import Server


class Inline:
    """A server with one TCP link, and the service behind it."""

    def __init__(self, **settings: Any) -> None:
        self.server = Server(**{"seed": 1, **settings})
        self.service = socket.create_server(("127.0.0.1", 0))
        self.link = self.create("link", f"127.0.0.1:{self.service.getsockname()[1]}")
        self._sockets: list[socket.socket] = []

    def create(self, name: str, upstream: str, **more: Any) -> Link:
        return self.server.create(name, "127.0.0.1:0", upstream, **more)

    def dial(self, link: Link | None = None) -> socket.socket:
        """A client that has connected; nothing more has happened yet."""
        host, port = (link or self.link).listen.rsplit(":", 1)
        client = socket.create_connection((host, int(port)), 5)
        client.setblocking(False)
        self._sockets.append(client)
        return client

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client and the service's end of its connection through the link."""
        client = self.dial()
        self.service.settimeout(0.001)
        accepted: list[socket.socket] = []

        def came() -> bool:
            with contextlib.suppress(TimeoutError):
                accepted.append(self.service.accept()[0])
            return bool(accepted)

        assert self.until(came)
        accepted[0].setblocking(False)
        self._sockets.append(accepted[0])
        # The link's side of it is set up too.
        assert self.until(lambda: all(c.up is not None for c in self.link.connections()))
        return client, accepted[0]

    def narrow(self) -> None:
        """Sockets that take little at once, so that everything has to wait everywhere."""
        for connection in self.link.connections():
            for side in (connection.client, connection.upstream):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

    def turn(self, seconds: float = 0.0) -> None:
        """Serve for so long, at least once."""
        end = time.monotonic() + seconds
        while True:
            self.server.loop.turn(max(0.0, min(0.001, end - time.monotonic())))
            if time.monotonic() >= end:
                return

    def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Serve until it holds; whether it came to hold in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.server.loop.turn(0.001)
        return True

    def send(self, side: socket.socket, data: bytes) -> None:
        """All of it, while the proxy is served."""
        view = memoryview(data)

        def sent() -> bool:
            nonlocal view
            with contextlib.suppress(BlockingIOError):
                view = view[side.send(view) :]
            return not view

        assert self.until(sent), f"{len(view)} bytes could not be sent"

    def read(self, side: socket.socket, size: int | None = None, seconds: float = 10.0) -> bytes:
        """So many bytes, or all until the end of file. Raises what reading raises."""
        found = bytearray()
        ended = False

        def enough() -> bool:
            nonlocal ended
            with contextlib.suppress(BlockingIOError):
                while size is None or len(found) < size:
                    part = side.recv(1 << 20 if size is None else size - len(found))
                    if not part:
                        ended = True
                        break
                    found.extend(part)
            return ended or (size is not None and len(found) >= size)

        assert self.until(enough, seconds), f"only {len(found)} bytes came"
        return bytes(found)

    def nothing(self, side: socket.socket, seconds: float = 0.05) -> bool:
        """Whether nothing comes for so long: no byte, no end, no reset."""
        self.turn(seconds)
        try:
            side.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    def add(self, kind: str, stream: str = "downstream", /, **given: Any) -> str:
        """Add a toxic; its name. Keys that are a toxic's own are taken for that, others are
        attributes."""
        own = {k: given.pop(k) for k in ("name", "toxicity", "ttl", "seed") if k in given}
        document: Mapping[str, Any] = {"type": kind, "stream": stream, "attributes": given, **own}
        return self.link.add(document).name

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        self.service.close()
        self.server.close()


@contextlib.contextmanager
def inline(**settings: Any) -> Iterator[Inline]:
    made = Inline(**settings)
    try:
        yield made
    finally:
        made.close()
