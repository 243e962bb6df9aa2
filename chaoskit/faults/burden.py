"""What all faults have in common that are helper processes of ours beside the target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chaoskit.capabilities import HasBurdens
from chaoskit.errors import Gone
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.units import Json

B = TypeVar("B", bound=HasBurdens)


@dataclass(frozen=True)
class Burden(Fault[B]):
    """One cell for each helper: None -> its mark. A helper also ends by itself, when the run's
    lifeline closes or its own deadline comes."""

    needs = HasBurdens

    @abstractmethod
    def helpers(self, target: B) -> list[tuple[list[str], list[int]]]:
        """Of each helper: what it works on, and the processors that it is pinned to (none: any)."""

    @abstractmethod
    def felt(self, target: B, work: Sequence[str], report: dict[str, float]) -> bool:
        """Whether a helper that was started with this work does what it should."""

    @property
    def ends(self) -> Ends:
        return Ends.BY_ITSELF

    def way_back(self) -> str:
        return "the helper process is ended"

    def refuse(self, target: B) -> str | None:
        return target.no_burden()

    def changes(self, target: B) -> Iterator[Change]:
        try:
            count = len(self.helpers(target))
        except Gone:
            return
        for number in range(1, count + 1):
            mark = f"{target.mark}-{number}"
            yield Change(f"helper:{mark}", None, mark)

    def look(self, target: B, change: Change) -> Json:
        mark = _mark(change)
        return mark if target.burden_alive(mark) else None

    def make(self, target: B, change: Change) -> None:
        mark = _mark(change)
        number = int(mark.rpartition("-")[2])
        # Asked anew: by now there may be fewer of them (the target lost a processor).
        for work, cpus in self.helpers(target)[number - 1 : number]:
            target.burden(mark, work, cpus)

    def unmake(self, target: B, change: Change) -> None:
        target.end_burden(_mark(change))

    def took(self, target: B, changes: Sequence[Change]) -> bool:
        try:
            return bool(changes) and all(
                self.felt(target, target.burden_work(mark), target.burden_report(mark))
                for mark in map(_mark, changes)
            )
        except Gone:
            return False


def _mark(change: Change) -> str:
    return change.key.removeprefix("helper:")
