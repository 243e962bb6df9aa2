"""A narrow link."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.clock import now
from chaoskit.proxy.stage import Chunk, Direction, Keeping, Stage
from chaoskit.proxy.toxic import Toxic

TICK = 0.005
"""Seconds' worth of bytes that are sent at once."""


@dataclass(eq=False)
class Bandwidth(Toxic):
    """At most `rate` KB (1000 bytes) a second, for each connection or, with `shared`, for all of
    the link's connections together. A rate of 0 lets nothing through."""

    rate: int = 0
    shared: bool = field(default=False, metadata={"ours": True})
    type = "bandwidth"
    free_at = 0.0
    """When all connections together may send again."""

    def problems(self) -> str | None:
        return None if 0 <= self.rate <= 10**9 else "rate must be between 0 and 1000000000 KB/s"

    def stage(self, stream: Direction) -> Stage:
        return _Paced(stream, self)


class _Paced(Keeping):
    """Each piece leaves when the link has had the time to carry it."""

    __slots__ = ("_carrying", "_free_at", "_next")

    capacity = 64 * 1024

    def __init__(self, stream: Direction, toxic: Bandwidth) -> None:
        super().__init__(stream, toxic)
        self._carrying = False
        self._free_at = 0.0
        self._next = 0

    def feed(self, data: Chunk) -> None:
        super().feed(data)
        if not self._carrying:
            self._carry()

    def finish(self) -> None:
        super().finish()
        if not self._queue:
            self.end()

    def changed(self) -> None:
        self.alarm(None)
        self._carrying = False
        self._free_at = self.toxic.free_at = 0.0
        if self._queue:
            self._carry()

    def ring(self) -> None:
        """The link has carried the piece."""
        self._carrying = False
        self.emit(self.take(self._next))
        if self._queue:
            self._carry()
        elif self._ending and not self.closed:
            self.end()

    def _carry(self) -> None:
        toxic: Bandwidth = self.toxic
        speed = toxic.rate * 1000
        if not speed:
            return
        self._next = len(self._queue[0])
        if not self.stream.datagrams:
            self._next = min(self._next, max(1, int(speed * TICK)))
        takes = self._next / speed
        # An idle link saves nothing up, but a timer that came late is made up for.
        if toxic.shared:
            toxic.free_at = done = max(toxic.free_at, now() - TICK) + takes
        else:
            self._free_at = done = max(self._free_at, now() - TICK) + takes
        self._carrying = True
        self.alarm(done)
