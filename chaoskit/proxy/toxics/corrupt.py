"""Wrong bytes."""

from __future__ import annotations

from dataclasses import dataclass

from chaoskit.proxy.stage import SEGMENT, Chunk, Direction, Stage
from chaoskit.proxy.toxic import Toxic


@dataclass(eq=False)
class Corrupt(Toxic):
    """In a `share` of the TCP segments (of 1448 bytes) or datagrams, one bit is flipped. It is the
    payload that changes: no checksum of the network's notices."""

    share: float = 0.0
    type = "corrupt"

    def problems(self) -> str | None:
        return None if 0 <= self.share <= 1 else "share must be between 0 and 1"

    def stage(self, stream: Direction) -> Stage:
        return _Flipped(stream, self)


class _Flipped(Stage):
    __slots__ = ("_chance",)

    def __init__(self, stream: Direction, toxic: Corrupt) -> None:
        super().__init__(stream, toxic)
        self._chance = toxic.random(stream.connection.number)

    def feed(self, data: Chunk) -> None:
        size = max(1, len(data)) if self.stream.datagrams else SEGMENT
        changed: bytearray | None = None
        for start in range(0, len(data), size):
            if self._chance.random() < self.toxic.share:
                if changed is None:
                    changed = bytearray(data)
                at = self._chance.randrange(start, min(start + size, len(data)))
                changed[at] ^= 1 << self._chance.randrange(8)
        self.emit(data if changed is None else bytes(changed))
