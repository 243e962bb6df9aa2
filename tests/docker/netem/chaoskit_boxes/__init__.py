"""Network namespaces as targets, where there is no daemon: what a container's network is to us.

A box is a process that sleeps in a network of its own, joined to this one by a pair of devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaoskit.faults.duplicate import Duplicate
from chaoskit.faults.reorder import Reorder
from chaoskit.faults.slow_network import SlowNetwork
from chaoskit.faults.spoiled_packets import SpoiledPackets
from chaoskit.model.binding import Binding
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.procfs import Process
from chaoskit.targets.disturbed import Disturbed


class Box(Disturbed, Target):
    kind = "box"

    def __init__(self, root: Process, binding: Binding) -> None:
        self.root = root
        self.binding = binding

    @property
    def key(self) -> str:
        return self.root.key

    @property
    def label(self) -> str:
        return f"box {self.root.pid}"

    def there(self) -> bool:
        return self.root.alive()

    def claim(self) -> Claim:
        return Claim(frozenset({self.key}))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return None

    def ref(self) -> Json:
        return self.key

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> Box:
        return cls(Process.from_key(str(ref)), binding)

    def addresses_of(self, peer: str) -> Sequence[str]:
        return ()


@dataclass(frozen=True)
class BoxSelector(Selector):
    """A box, by its process."""

    pid: int
    kind = "box"
    target = Box

    def find(self, binding: Binding) -> list[Target]:
        return [Box(Process.at(self.pid), binding)]

    def describe(self) -> str:
        return f"box {self.pid}"


class _Kind:
    """The same fault under another name."""

    @property
    def kind(self: Any) -> str:
        return str(self.name.removeprefix("box-"))


@dataclass(frozen=True)
class Latency(_Kind, SlowNetwork):
    """Latency of a box."""

    name = "box-latency"


@dataclass(frozen=True)
class Reordered(_Kind, Reorder):
    """Reordering of a box."""

    name = "box-reorder"


@dataclass(frozen=True)
class Duplicated(_Kind, Duplicate):
    """Duplication of a box."""

    name = "box-duplicate"


@dataclass(frozen=True)
class Spoiled(_Kind, SpoiledPackets):
    """Corruption of a box."""

    name = "box-corrupt"
