"""A network that is gone: nothing passes, or nobody answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoskit.proxy.stage import Chunk, Direction, Keeping, Stage
from chaoskit.proxy.toxic import Toxic

if TYPE_CHECKING:
    from chaoskit.proxy.link import Link


@dataclass(eq=False)
class BlackHole(Toxic):
    """Nothing passes. A TCP stream loses nothing by it, as over a dead network: what was sent
    waits, the sender is held back, and all goes on when the toxic is removed. Datagrams are
    dropped."""

    type = "black_hole"

    def stage(self, stream: Direction) -> Stage:
        return _Hole(stream, self)


class _Hole(Keeping):
    __slots__ = ()

    def feed(self, data: Chunk) -> None:
        if not self.stream.datagrams:
            super().feed(data)


@dataclass(eq=False)
class Refuse(Toxic):
    """Connections are refused, and those that are there get a reset. The port stays ours."""

    type = "refuse"
    protocols = ("tcp",)
    partial = False

    def stage(self, stream: Direction) -> Stage:
        return Stage(stream, self)

    def added(self, link: Link) -> None:
        link.listen_or_not()

    def removed(self, link: Link) -> None:
        link.listen_or_not()
