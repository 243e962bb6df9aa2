"""A link that leads nowhere of its own: a rule of ours sends connections to it that were going
somewhere else, and there it leads them."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from chaoskit.proxy.addresses import Address
from chaoskit.proxy.tcp import TcpLink

if TYPE_CHECKING:
    from chaoskit.proxy.connection import Connection
    from chaoskit.proxy.server import Server

ORIGINAL_DST = 80
"""SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: where a redirected connection was going."""
_SIZE4 = 16
_SIZE6 = 28


class RedirectedLink(TcpLink):
    """Listens for IPv4 and IPv6 at a free port: a rule that redirects what comes from outside
    leads to the address that it came to, not to the loopback.

    socket_mark: of what it dials, by which the rules know our own connections.
    """

    def __init__(self, server: Server, name: str, socket_mark: int) -> None:
        super().__init__(server, name, ":0", "where it was going")
        self.socket_mark = socket_mark

    def start(self) -> None:
        try:
            super().start()
        except OSError:  # A kernel without IPv6 at all.
            self.listen = "0.0.0.0:0"
            super().start()

    def lead(self, connection: Connection) -> None:
        where = _original(connection.client)
        if where is None:
            self.refused(connection, "it was not redirected")
            connection.reset()
        else:
            connection.dial([where])

    def stop(self) -> None:
        """With resets: the end of file would claim that the other side had said all."""
        for connection in list(self.connections()):
            connection.reset()
        super().stop()


def _original(client: socket.SocketType) -> Address | None:
    """None for who came to our own port: leading him there would go round and round."""
    here = client.getsockname()
    for level, size in ((socket.IPPROTO_IP, _SIZE4), (socket.IPPROTO_IPV6, _SIZE6)):
        try:
            told = client.getsockopt(level, ORIGINAL_DST, size)
        except OSError:
            continue
        port = struct.unpack_from("!H", told, 2)[0]
        if level == socket.IPPROTO_IP:
            host = socket.inet_ntop(socket.AF_INET, told[4:8])
            same = here[0].removeprefix("::ffff:") == host and here[1] == port
            return None if same else (socket.AF_INET, (host, port))
        host = socket.inet_ntop(socket.AF_INET6, told[8:24])
        scope = struct.unpack_from("=I", told, 24)[0]
        if here[0].partition("%")[0] == host and here[1] == port:
            return None
        return socket.AF_INET6, (host, port, 0, scope)
    return None
