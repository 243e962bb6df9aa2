"""A TCP link: accepts, dials for each client, and never waits for any of them."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chaoskit.clock import now
from chaoskit.proxy.addresses import bind_to, shown
from chaoskit.proxy.connection import Connection
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.link import Link
from chaoskit.proxy.loop import IN

if TYPE_CHECKING:
    from chaoskit.proxy.server import Server

BACKLOG = 4096
AT_ONCE = 32
"""Connections that are accepted before others have their turn."""
PAUSE = 0.1
"""Seconds without accepting when there is no descriptor left."""


class TcpLink(Link):
    protocol = "tcp"
    socket_mark = 0
    """SO_MARK of the sockets that dial, for those who have rules; 0: none."""

    def __init__(self, server: Server, name: str, listen: str, upstream: str) -> None:
        super().__init__(server, name, listen, upstream)
        self._listener: socket.socket | None = None
        self._refusing = False
        self._connections: dict[int, Connection] = {}

    @property
    def open(self) -> int:
        return len(self._connections)

    def connections(self) -> Iterable[Connection]:
        return self._connections.values()

    def start(self) -> None:
        listener = bind_to(self.listen, socket.SOCK_STREAM)
        try:
            # What it accepts inherits this.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise ProxyError(
                f"listen tcp {self.listen}: bind: {(error.strerror or '').lower()}", 500
            ) from error
        self._listener = listener
        self.listen = shown(listener.getsockname())
        self._refusing = False
        self.loop.watch(listener.fileno(), self._accept, IN)
        self.listen_or_not()

    def stop(self) -> None:
        if self._listener is not None:
            self.loop.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for connection in list(self._connections.values()):
            connection.close()

    def listen_or_not(self) -> None:
        if self._listener is None:
            return
        refusing = any(toxic.type == "refuse" for toxic in self._toxics)
        if refusing and not self._refusing:
            # Still bound, so that nobody takes the port meanwhile, but listening no more. Who would
            # share an address with whoever lets it be shared could take it all the same.
            self.loop.unwatch(self._listener.fileno())
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            for connection in list(self._connections.values()):
                connection.reset()
        elif self._refusing and not refusing:
            # What is left of old connections is in the way of who does not share.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._listener.listen(BACKLOG)
            except OSError:
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                raise
            self.loop.watch(self._listener.fileno(), self._accept, IN)
        self._refusing = refusing

    def refused(self, connection: Connection, why: str) -> None:
        self.counters.refused += 1
        self.tell("connection-refused", connection=connection.number, why=why)

    def forget(self, connection: Connection) -> None:
        del self._connections[connection.number]
        if self.server.listeners:
            self.tell("connection-closed", connection=connection.number)

    def _accept(self, events: int) -> None:
        listener = self._listener
        if listener is None:
            return
        counters, family = self.counters, listener.family
        for _ in range(AT_ONCE):
            try:
                # `accept` makes enums of numbers, and `socket.socket` is made and closed in Python:
                # a tenth of all that a connection costs us.
                number, _ = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    counters.refused += 1
                    self.tell("connection-refused", connection=0, why=error.strerror)
                    self.loop.modify(listener.fileno(), 0)
                    self.loop.at(now() + PAUSE, self._accept_again)
                    return
                continue  # It was gone before it was accepted.
            client = socket.SocketType(family, socket.SOCK_STREAM, 0, number)
            client.setblocking(False)
            counters.accepted += 1
            connection = Connection(self, client, counters.accepted)
            self._connections[connection.number] = connection
            if self.server.listeners:
                self.tell("connection-opened", connection=connection.number)
            self.lead(connection)

    def lead(self, connection: Connection) -> None:
        """Have it dial where it leads."""
        self.server.names.find(self.upstream, connection)

    def _accept_again(self) -> None:
        if self._listener is not None and not self._refusing:
            self.loop.modify(self._listener.fileno(), IN)
