"""Small packets."""

from __future__ import annotations

from dataclasses import dataclass

from chaoskit.clock import now
from chaoskit.proxy.stage import Chunk, Direction, Keeping, Stage
from chaoskit.proxy.toxic import Toxic

LONGEST = 60 * 1000 * 1000
TURN = 64
"""Pieces that are sent before others have their turn."""


@dataclass(eq=False)
class Slicer(Toxic):
    """Data is cut into pieces of `average_size` bytes, more or less by `size_variation`, each sent
    `delay` microseconds after the one before."""

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0
    type = "slicer"
    protocols = ("tcp",)

    def problems(self) -> str | None:
        if self.average_size < 1:
            return "average_size must be at least 1 byte"
        if not 0 <= self.size_variation < self.average_size:
            return "size_variation must be at least 0 and less than average_size"
        if not 0 <= self.delay <= LONGEST:
            return "delay must be between 0 and 60000000 microseconds"
        return None

    def stage(self, stream: Direction) -> Stage:
        return _Sliced(stream, self)


class _Sliced(Keeping):
    """Cuts when a piece's time has come, not before: a large chunk would be very many pieces."""

    __slots__ = ("_due", "_waiting")

    def __init__(self, stream: Direction, toxic: Slicer) -> None:
        super().__init__(stream, toxic)
        self._due = 0.0
        self._waiting = False

    def feed(self, data: Chunk) -> None:
        super().feed(data)
        if not self._waiting:
            self._cut()

    def finish(self) -> None:
        super().finish()
        if not self._queue:
            self.end()

    def changed(self) -> None:
        if self._waiting:
            self._due = 0.0
            self.alarm(now())

    def ring(self) -> None:
        self._waiting = False
        self._cut()

    def _cut(self) -> None:
        toxic: Slicer = self.toxic
        delay = toxic.delay / 1e6
        for _ in range(TURN):
            if not self._queue or self.closed:
                break
            if (due := self._due + delay) > now():
                self._wait(due)
                return
            self._due = max(due, now() - delay)
            size = toxic.average_size
            if toxic.size_variation:
                size += self.chance.randint(-toxic.size_variation, toxic.size_variation)
            self.emit(self.take(size))
        if self._queue:
            self._wait(now())
        elif self._ending and not self.closed:
            self._ending = False
            self.end()

    def _wait(self, until: float) -> None:
        self._waiting = True
        self.alarm(until)
