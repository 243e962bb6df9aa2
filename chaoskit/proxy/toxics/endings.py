"""What ends connections: after some bytes, after some silence, or with a reset."""

from __future__ import annotations

from dataclasses import dataclass

from chaoskit.clock import now
from chaoskit.proxy.stage import Chunk, Direction, Keeping, Stage
from chaoskit.proxy.toxic import Toxic
from chaoskit.proxy.toxics.delays import LONGEST


@dataclass(eq=False)
class LimitData(Toxic):
    """The connection ends after so many bytes in this direction."""

    bytes: int = 0
    type = "limit_data"

    def problems(self) -> str | None:
        return None if self.bytes >= 0 else "bytes must be at least 0"

    def stage(self, stream: Direction) -> Stage:
        return _Limited(stream, self)


class _Limited(Stage):
    __slots__ = ("_ending", "_passed")

    def __init__(self, stream: Direction, toxic: LimitData) -> None:
        super().__init__(stream, toxic)
        self._passed = 0
        self._ending = False

    def feed(self, data: Chunk) -> None:
        if self._ending:
            return
        rest = self.toxic.bytes - self._passed
        if self.stream.datagrams and len(data) > rest:
            rest = 0  # There is no half of a datagram.
        if rest > 0:
            part = data if len(data) <= rest else memoryview(data)[:rest]
            self._passed += len(part)
            self.emit(part)
        if self._passed >= self.toxic.bytes or len(data) > rest:
            self._ending = True
            self.stream.cut()
            self.end()


@dataclass(eq=False)
class Timeout(Toxic):
    """Nothing passes, and what comes is lost; after `timeout` milliseconds (0: never by itself),
    or when the toxic is removed, the connection ends."""

    timeout: float = 0.0
    type = "timeout"

    def problems(self) -> str | None:
        return None if 0 <= self.timeout <= LONGEST else "timeout must be between 0 ms and one day"

    def stage(self, stream: Direction) -> Stage:
        return _Silent(stream, self)


class _Silent(Keeping):
    __slots__ = ("_began",)

    def __init__(self, stream: Direction, toxic: Timeout) -> None:
        super().__init__(stream, toxic)
        self._began = now()
        self.changed()

    def changed(self) -> None:
        timeout = float(self.toxic.timeout)
        self.alarm(self._began + timeout / 1000 if timeout else None)

    def feed(self, data: Chunk) -> None:
        """It is lost."""

    def ring(self) -> None:
        if not self.stream.datagrams:
            self.stream.cut()
            self.end()

    def let_go(self) -> None:
        self.ring()


@dataclass(eq=False)
class ResetPeer(Toxic):
    """Both sides get a reset `timeout` milliseconds after the toxic and the connection met; until
    then nothing passes, and it does if the toxic is removed before."""

    timeout: float = 0.0
    type = "reset_peer"
    protocols = ("tcp",)

    def problems(self) -> str | None:
        return None if 0 <= self.timeout <= LONGEST else "timeout must be between 0 ms and one day"

    def stage(self, stream: Direction) -> Stage:
        return _Doomed(stream, self)


class _Doomed(Keeping):
    __slots__ = ("_began",)

    def __init__(self, stream: Direction, toxic: ResetPeer) -> None:
        super().__init__(stream, toxic)
        self._began = now()
        self.changed()

    def changed(self) -> None:
        self.alarm(self._began + float(self.toxic.timeout) / 1000)

    def ring(self) -> None:
        self.stream.connection.reset()
