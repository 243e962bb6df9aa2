"""Hold memory beside a target, and never so much that the OOM killer is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import HasBurdens
from chaoskit.faults.burden import Burden
from chaoskit.model.units import Percent, Share, Size, show_size

NEAR = 0.95
"""How much of the size must be resident."""


@dataclass(frozen=True)
class Memory(Burden[HasBurdens]):
    """Hold memory: so many bytes, or a percentage of what is free."""

    size: Size | Percent | Share = field(
        metadata={"above": 0, "doc": "64MiB, or a percentage of what is free when it begins"}
    )
    name = "memory"
    patience = 30.0
    examples = ({"size": "24MiB"},)

    def refuse(self, target: HasBurdens) -> str | None:
        wanted, free, room = self._bytes(target), target.memory_free(), target.memory_room()
        if wanted > room:
            return (
                f"{show_size(wanted)} of memory are wanted; of the {show_size(free)} that are "
                f"free, {show_size(room)} may be taken before the OOM killer is near"
            )
        return super().refuse(target)

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        return [(["memory", str(self._bytes(target))], [])]

    def felt(self, target: HasBurdens, work: Sequence[str], report: dict[str, float]) -> bool:
        # What a percentage came to is what the helper was told, not what it would be now.
        return report["held"] >= NEAR * int(work[1])

    def _bytes(self, target: HasBurdens) -> int:
        if isinstance(self.size, Share):
            return int(self.size.fraction * target.memory_free())
        return int(self.size)
