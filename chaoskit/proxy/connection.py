"""One TCP connection through a link: a client, an upstream, and two streams between them."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chaoskit.proxy.loop import OUT, READS
from chaoskit.proxy.stream import Stream

if TYPE_CHECKING:
    from chaoskit.proxy.tcp import TcpLink

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing sends a reset."""
_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_FAILED = select.EPOLLERR | select.EPOLLHUP
_ON_ITS_WAY = (0, errno.EINPROGRESS)
_LATER = (errno.ECONNRESET, errno.EPIPE)
"""It did answer, and has reset the connection since: one that does not is ECONNREFUSED."""

Address = tuple[socket.AddressFamily, tuple[object, ...]]


class Connection:
    """Made when a client was accepted; dials by itself; tells the link when it is over."""

    __slots__ = (
        "_addresses",
        "_early",
        "_one_way",
        "_waits",
        "asked",
        "begun",
        "broken",
        "client",
        "down",
        "link",
        "number",
        "over",
        "up",
        "upstream",
    )

    def __init__(self, link: TcpLink, client: socket.SocketType, number: int) -> None:
        self.link = link
        self.client = client
        self.number = number
        self.upstream: socket.SocketType | None = None
        self.up: Stream | None = None
        self.down: Stream | None = None
        self.over = False
        self.begun = False  # Something may have passed already.
        self.asked = False  # The client has sent last, and may be waiting for an answer.
        self.broken = False  # One side has reset it: so does the other when all is delivered.
        self._one_way = False
        self._waits = False  # The client is watched, and waits for the upstream.
        self._early = 0  # What has happened to the client meanwhile.
        self._addresses: Iterator[Address]

    def dial(self, addresses: Sequence[Address]) -> None:
        """Connect to the first of these that answers."""
        if not self.over:
            self._addresses = iter(addresses)
            self._dial_next("no address")

    def _dial_next(self, why: str) -> None:
        for family, address in self._addresses:
            try:
                upstream = socket.SocketType(family, _KIND)
            except OSError as error:
                why = error.strerror or str(error)
                continue
            if self.link.socket_mark:
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.link.socket_mark)
            code = upstream.connect_ex(address)
            if code in _ON_ITS_WAY:
                self.upstream = upstream
                loop = self.link.loop
                loop.watch(upstream.fileno(), self._dialled)
                if not self._waits:
                    self._waits = True
                    loop.watch(self.client.fileno(), self._too_early, READS)
                return
            why = errno.errorcode.get(code, str(code))
            upstream.close()
        self.link.refused(self, f"the upstream does not answer: {why}")
        self.reset()

    def _dialled(self, events: int) -> None:
        assert self.upstream is not None
        code = 0
        if events & _FAILED:
            code = self.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code in _LATER:
            self.reset()
        elif code:
            self.link.loop.close_later(self.upstream)
            self.upstream = None
            self._dial_next(errno.errorcode.get(code, str(code)))
        elif events & OUT:
            self._connected(self.upstream, events)

    def _too_early(self, events: int) -> None:
        """What the client does while the upstream is dialled is looked at afterwards. Who has left
        waits for nobody; half-closing is not leaving."""
        if events & _FAILED:
            self.reset()
        else:
            self._early |= events

    def _connected(self, upstream: socket.SocketType, events: int) -> None:
        """events: what has happened to the upstream's socket by now."""
        link, client = self.link, self.client
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = link.loop
        up = Stream(self, "upstream", client, upstream, link.counters.up)
        down = Stream(self, "downstream", upstream, client, link.counters.down)
        up.peer, down.peer = down, up
        up.room_told = True
        self.up, self.down = up, down
        link.equip(self)
        self.begun = True
        if self.over:
            return  # A toxic has ended it at once.
        loop.hand_over(client.fileno(), up.event)
        loop.hand_over(upstream.fileno(), down.event)
        if self._early:
            up.event(self._early)
        if events != OUT and not self.over:
            down.event(events)

    def end_of(self, stream: Stream) -> None:
        """All of one direction has been written; after the second one it is over."""
        if self.broken:
            self.reset()
            return
        if self._one_way or stream.cutting:
            self.close()
            return
        self._one_way = True
        try:
            stream.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.reset()

    def reset(self) -> None:
        """End both sides with a reset: what is on its way is lost, as it is in a network."""
        for side in (self.client, self.upstream):
            if side is not None and not self.over:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        if self.up is not None and self.down is not None:
            self.up.gone()
            self.down.gone()
            self.up = self.down = None
        link = self.link
        link.loop.close_later(self.client)
        if self.upstream is not None:
            link.loop.close_later(self.upstream)
        link.forget(self)
