"""Stages that read what passes, a bounded number of steps at a time."""

from __future__ import annotations

import collections

from chaoskit.proxy.stage import SMALL, Chunk, Direction, Stage
from chaoskit.proxy.toxic import Toxic

TURN = 64
"""Steps before others have their turn."""


class Scanning(Stage):
    """Keeps what comes until it has been scanned, so many steps at a time."""

    __slots__ = ("_at", "_ended", "_queue", "_working", "ending")

    capacity = SMALL

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        super().__init__(stream, toxic)
        self.ending = False
        self._queue: collections.deque[bytes] = collections.deque()
        self._at = 0
        self._working = False
        self._ended = False

    def feed(self, data: Chunk) -> None:
        self._queue.append(bytes(data))
        self.hold(len(data))
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
        if self._working or self.closed:
            return
        self._working = True
        try:
            for _ in range(TURN):
                if self.closed or not self._queue or self.blocked():
                    break
                self.step(self._queue[0], self._at)
            else:
                self.stream.loop.soon(self.work)
        finally:
            self._working = False
        if self.ending and not self._queue and not self.closed:
            self.drained()

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
        while self._queue:
            data, at = self._queue.popleft(), self._at
            self._at = 0
            self.send(data, at, len(data))
        if self.ending and not self.closed:
            self.end()
