"""Hold memory beside a target, and never so much that the OOM killer is called."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.capabilities import HasBurdens
from chaoskit.faults.burden import Burden
from chaoskit.model.units import Percent, Share, Size, show_size

RESERVE_SHARE = 0.05
RESERVE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Memory(Burden):
    """Hold memory: so many bytes, or a percentage of what is free."""

    size: Size | Percent | Share = field(
        metadata={"doc": "64MiB, or a percentage of what is free when it begins"}
    )
    name = "memory"
    patience = 30.0
    examples = ({"size": "24MiB"},)

    def problems(self) -> list[tuple[str, str]]:
        size = self.size.fraction if isinstance(self.size, Share) else self.size
        return [] if size > 0 else [("size", "expected more than 0")]

    def refuse(self, target: HasBurdens) -> str | None:
        free, wanted = target.memory_free(), self._bytes(target)
        if free - wanted < _reserve(target):
            return (
                f"{show_size(wanted)} of the {show_size(free)} that are free would leave less "
                f"than {show_size(_reserve(target))}, and the OOM killer is near"
            )
        return None

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        return [(["memory", str(self._bytes(target)), str(_reserve(target))], [])]

    def felt(self, target: HasBurdens, mark: str, report: dict[str, float]) -> bool:
        if isinstance(self.size, Share):
            # What was free then is not known any more; what is free now and what it holds is.
            return report["rss"] >= 0.9 * self.size.fraction * (
                target.memory_free() + report["rss"]
            )
        return report["rss"] >= 0.95 * self.size

    def _bytes(self, target: HasBurdens) -> int:
        if isinstance(self.size, Share):
            return int(self.size.fraction * target.memory_free())
        return int(self.size)


def _reserve(target: HasBurdens) -> int:
    return max(int(target.memory_total() * RESERVE_SHARE), RESERVE_BYTES)
