"""Stages that read what passes, for a bounded time."""

from __future__ import annotations

import collections

from chaoskit.clock import now
from chaoskit.proxy.stage import SMALL, Chunk, Direction, Stage
from chaoskit.proxy.toxic import Toxic

TURN = 0.002
"""Seconds of reading before others have their turn."""
TINY = 1024
"""Bytes of a chunk to which the next one is joined: by itself it takes many times its size."""


class Scanning(Stage):
    """Keeps what comes until it has been scanned, step by step."""

    __slots__ = ("_at", "_ended", "_queue", "_soon", "_working", "ending", "leaving")

    capacity = SMALL

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        super().__init__(stream, toxic)
        self.ending = False
        self.leaving = False  # What is passed on may bring an answer at once: read no more then.
        self._queue: collections.deque[bytes] = collections.deque()
        self._at = 0
        self._soon = False
        self._working = False
        self._ended = False

    def feed(self, data: Chunk) -> None:
        # The first may be in someone's hands; how what goes on now was cut may matter.
        if len(self._queue) > 1 and len(self._queue[-1]) < TINY and self.blocked():
            self._queue[-1] += data
        else:
            self._queue.append(bytes(data))
        self.hold(len(data))
        if not self._soon:
            self.work()

    def finish(self) -> None:
        self.ending = True
        self.work()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            super().end()

    def gone(self) -> None:
        self._queue.clear()
        super().gone()

    def work(self) -> None:
        """Go on as far as possible."""
        if self._working or self.leaving or self.closed:
            return
        self._working = True
        end = now() + TURN
        try:
            while not self.closed and self._queue and not self.blocked():
                if now() > end:
                    self._go_on_soon()
                    break
                self.step(self._queue[0], self._at)
        finally:
            self._working = False
        if self.ending and not self._queue and not self.closed:
            self.drained()

    def _go_on_soon(self) -> None:
        if not self._soon:
            self._soon = True
            self.stream.loop.soon(self._go_on)

    def _go_on(self) -> None:
        self._soon = False
        self.work()

    def blocked(self) -> bool:
        """Whether nothing may be scanned now."""
        return False

    def step(self, data: bytes, at: int) -> None:
        """Scan on from there, and `advance`."""

    def drained(self) -> None:
        """Everything was scanned, and the end of file has come."""
        self.end()

    def advance(self, data: bytes, end: int) -> None:
        if end == len(data):
            self._queue.popleft()
            self._at = 0
        else:
            self._at = end

    def send(self, data: bytes, at: int, end: int) -> None:
        """Pass on a part of it."""
        self.release(end - at)
        if at < end:
            self.emit(data if end - at == len(data) else memoryview(data)[at:end])

    def let_go(self) -> None:
        self.leaving = True
        while self._queue:
            data, at = self._queue.popleft(), self._at
            self._at = 0
            self.send(data, at, len(data))
        if self.ending and not self.closed:
            self.end()
