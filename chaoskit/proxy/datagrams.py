"""A UDP link: a session for each client that sends, with a socket of its own to the upstream.

Datagrams stay whole and are never merged; one that there is no room for is dropped, as a router
drops it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.clock import now
from chaoskit.proxy.addresses import Address, bind_to, parse_upstream, shown
from chaoskit.proxy.link import Link
from chaoskit.proxy.loop import IN, Loop, Timer
from chaoskit.proxy.stage import Chunk, Memory, Next, Stage
from chaoskit.proxy.stream import Meter

if TYPE_CHECKING:
    from chaoskit.proxy.server import Server

AT_ONCE = 64
"""Datagrams that are taken before others have their turn."""
IDLE = 60.0
"""Seconds after which a session that carries nothing is forgotten."""
MOST = 10_000
"""Sessions that a link may have."""
LARGEST = 65_535


class UdpLink(Link):
    protocol = "udp"

    def __init__(self, server: Server, name: str, listen: str, upstream: str) -> None:
        super().__init__(server, name, listen, upstream)
        self.socket: socket.socket | None = None
        self._sessions: dict[Any, Session] = {}
        self._sweeper: Timer | None = None

    @property
    def open(self) -> int:
        return len(self._sessions)

    def connections(self) -> Iterable[Session]:
        return self._sessions.values()

    def start(self) -> None:
        parse_upstream(self.upstream)
        self.socket = bind_to(self.listen, socket.SOCK_DGRAM)
        self.listen = shown(self.socket.getsockname())
        self.loop.watch(self.socket.fileno(), self._readable, IN)
        self._sweep()

    def stop(self) -> None:
        if self.socket is not None:
            self.loop.unwatch(self.socket.fileno())
            self.socket.close()
            self.socket = None
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in list(self._sessions.values()):
            session.close()

    def forget(self, session: Session) -> None:
        self._sessions.pop(session.client, None)
        if self.server.listeners:
            self.tell("connection-closed", connection=session.number)

    def _readable(self, events: int) -> None:
        for _ in range(AT_ONCE):
            if self.socket is None:
                return
            try:
                data, client = self.socket.recvfrom(LARGEST)
            except OSError:
                return  # Nothing more, or the news that an answer did not arrive.
            session = self._sessions.get(client)
            if session is None:
                if len(self._sessions) >= MOST:
                    self.counters.refused += 1
                    continue
                session = self._open(client)
            session.up.take(data)

    def _open(self, client: Any) -> Session:
        self.counters.accepted += 1
        session = Session(self, client, self.counters.accepted)
        self._sessions[client] = session
        if self.server.listeners:
            self.tell("connection-opened", connection=session.number)
        self.equip(session)
        self.server.names.find(self.upstream, session)
        return session

    def _sweep(self) -> None:
        before = now() - IDLE
        for session in list(self._sessions.values()):
            if session.used < before:
                session.close()
        self._sweeper = self.loop.at(now() + IDLE / 6, self._sweep)


class Session:
    """All datagrams between one client and the upstream."""

    def __init__(self, link: UdpLink, client: Any, number: int) -> None:
        self.link = link
        self.client = client
        self.number = number
        self.over = False
        self.used = now()
        self.upstream: socket.socket | None = None
        self._waiting: list[Chunk] = []
        self.up = DatagramStream(self, "upstream", link.counters.up, self._send_up)
        self.down = DatagramStream(self, "downstream", link.counters.down, self._send_down)
        self.up.peer, self.down.peer = self.down, self.up

    def dial(self, addresses: Sequence[Address]) -> None:
        """The upstream's name has been looked up."""
        if self.over:
            return
        why = "no address"
        for family, address in addresses:
            try:
                made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError as error:
                why = error.strerror or str(error)
                continue
            try:
                made.connect(address)
            except OSError as error:
                made.close()
                why = error.strerror or str(error)
                continue
            self.upstream = made
            self.link.loop.watch(made.fileno(), self._readable, IN)
            waiting, self._waiting = self._waiting, []
            for data in waiting:
                self._send_up(data)
            return
        self.link.counters.refused += 1
        self.link.tell("connection-refused", connection=self.number, why=why)
        self.close()

    def reset(self) -> None:
        self.close()

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        self.up.gone()
        self.down.gone()
        if self.upstream is not None:
            self.link.loop.close_later(self.upstream)
        self.link.forget(self)

    def _readable(self, events: int) -> None:
        assert self.upstream is not None
        for _ in range(AT_ONCE):
            try:
                data = self.upstream.recv(LARGEST)
            except OSError:
                return  # Nothing more, or the news that nobody listens there.
            self.down.take(data)
            if self.over:
                return

    def _send_up(self, data: Chunk) -> bool:
        if self.upstream is None:
            if len(self._waiting) < AT_ONCE:
                self._waiting.append(data)
            return False
        try:
            self.upstream.send(data)
        except OSError:
            return False  # Lost, as datagrams are.
        return True

    def _send_down(self, data: Chunk) -> bool:
        listener = self.link.socket
        if listener is None:
            return False
        try:
            listener.sendto(data, self.client)
        except OSError:
            return False
        return True


class DatagramStream:
    """One direction of a session: from a socket through the stages to the other socket."""

    datagrams = True

    def __init__(self, session: Session, name: str, meter: Meter, send: Any) -> None:
        self.connection = session
        self.name = name
        self.loop: Loop = session.link.loop
        self.memory: Memory = session.link.memory
        self.peer: DatagramStream
        self.stages: list[Stage] = []
        self._meter = meter
        self._send = send

    def take(self, data: Chunk) -> None:
        """A datagram has come in."""
        self.connection.used = now()
        self._meter.received += len(data)
        if not any(stage.full for stage in self.stages):
            self.inject(data)

    def add(self, stage: Stage, at: int) -> None:
        self.stages.insert(at, stage)
        self._join()

    def take_out(self, stage: Stage) -> None:
        stage.let_go()
        if stage in self.stages:
            self.stages.remove(stage)
            self._join()
        stage.gone()

    def inject(self, data: Chunk) -> None:
        (self.stages[0] if self.stages else self).feed(data)

    def cut(self) -> None:
        """A client's datagrams are no connection that could end: they pass again without the stage
        that drops them."""

    def relieved(self) -> None:
        """Nobody was paused: what there was no room for was dropped."""

    def gone(self) -> None:
        stages, self.stages = self.stages, []
        for stage in stages:
            stage.gone()

    def feed(self, data: Chunk) -> None:
        if not self.connection.over and self._send(data):
            self._meter.sent += len(data)

    def finish(self) -> None:
        """Datagrams have no end."""

    def _join(self) -> None:
        after: list[Next] = [*self.stages[1:], self]
        for stage, following in zip(self.stages, after, strict=False):
            stage.next = following
