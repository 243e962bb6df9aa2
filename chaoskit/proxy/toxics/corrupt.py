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
    __slots__ = ()

    def feed(self, data: Chunk) -> None:
        chance, share = self.chance, self.toxic.share
        size = max(1, len(data)) if self.stream.datagrams else SEGMENT
        changed: bytearray | None = None
        for start in range(0, len(data), size):
            if chance.random() < share:
                if changed is None:
                    changed = bytearray(data)
                at = chance.randrange(start, min(start + size, len(data)))
                changed[at] ^= 1 << chance.randrange(8)
        self.emit(data if changed is None else bytes(changed))
