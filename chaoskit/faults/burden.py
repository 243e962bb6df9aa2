"""What all faults have in common that are a helper process of ours beside the target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaoskit.capabilities import HasBurdens
from chaoskit.errors import Gone
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.units import Json


@dataclass(frozen=True)
class Burden(Fault[HasBurdens]):
    """One cell for each helper: None -> its mark. A helper also ends by itself, when the run's
    lifeline closes or its own deadline comes."""

    needs = HasBurdens

    @abstractmethod
    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        """Of each helper: what it works on, and the processors that it is pinned to (none: any)."""

    @abstractmethod
    def felt(self, target: HasBurdens, mark: str, report: dict[str, float]) -> bool:
        """Whether the helper of that mark does what it should."""

    @property
    def ends(self) -> Ends:
        return Ends.BY_ITSELF

    def way_back(self) -> str:
        return "the helper process is ended"

    def changes(self, target: HasBurdens) -> Iterator[Change]:
        for number in range(1, len(self.helpers(target)) + 1):
            yield Change(f"{target.mark}-{number}", None, f"{target.mark}-{number}")

    def look(self, target: HasBurdens, change: Change) -> Json:
        return change.key if target.burden_alive(change.key) else None

    def make(self, target: HasBurdens, change: Change) -> None:
        work, cpus = self.helpers(target)[int(change.key.rpartition("-")[2]) - 1]
        target.burden(change.key, work, cpus)

    def unmake(self, target: HasBurdens, change: Change) -> None:
        target.end_burden(change.key)

    def took(self, target: HasBurdens, changes: Sequence[Change]) -> bool:
        try:
            return bool(changes) and all(
                self.felt(target, change.key, target.burden_report(change.key))
                for change in changes
            )
        except Gone:
            return False
