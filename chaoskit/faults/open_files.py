"""Use up file descriptors: the machine's, by a helper, or the target's own, by its limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from chaoskit.capabilities import HasBurdens, HasProcesses
from chaoskit.errors import Gone
from chaoskit.faults.burden import Burden
from chaoskit.model.fault import Change, Ends
from chaoskit.model.units import Json, Percent

SPARE = 1000
"""Descriptors of the machine's table that are always left."""


@runtime_checkable
class HasBurdensAndProcesses(HasBurdens, HasProcesses, Protocol):
    """Both: a helper beside the target, and the target's own limits."""


@dataclass(frozen=True)
class OpenFiles(Burden):
    """Use up descriptors: `leave` so many to the target, or hold `count` of the machine's."""

    leave: int | None = field(
        default=None,
        metadata={"doc": "how many more files the target itself may open (its soft limit)"},
    )
    count: int | None = field(
        default=None, metadata={"doc": "how many of the machine's descriptors a helper holds"}
    )
    until: Percent | None = field(
        default=None, metadata={"doc": "hold until this much of the machine's table is in use"}
    )
    name = "open-files"
    needs = HasBurdensAndProcesses
    examples = ({"leave": 3}, {"count": 200})

    def problems(self) -> list[tuple[str, str]]:
        given = [key for key in ("leave", "count", "until") if getattr(self, key) is not None]
        if len(given) != 1:
            return [(given[-1] if given else "", "say exactly one of leave, count and until")]
        low = self.leave is not None and self.leave < 0
        if low or (self.count is not None and self.count < 1):
            return [(given[0], "expected a number from 1" if self.count else "expected 0 or more")]
        return []

    @property
    def ends(self) -> Ends:
        return Ends.BY_RECOVER if self.leave is not None else Ends.BY_ITSELF

    def way_back(self) -> str:
        if self.leave is not None:
            return "the old limit of each process"
        return super().way_back()

    def refuse(self, target: HasBurdens) -> str | None:
        if self.leave is not None:
            return None
        import resource

        used, most = target.descriptors()
        wanted = self._count(target)
        if wanted < 1:
            return f"{used} of {most} descriptors are in use already"
        if used + wanted > most - SPARE:
            return f"{used} of {most} descriptors are in use; {SPARE} must be left"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if wanted + 64 > hard:
            return f"a process of ours may open {hard} files, {wanted} are wanted"
        return None

    def changes(self, target: HasBurdens) -> Iterator[Change]:
        if self.leave is None:
            yield from super().changes(target)
            return
        assert isinstance(target, HasBurdensAndProcesses)
        for process in target.tree():
            try:
                soft, hard = process.file_limit()
                put = min(process.open_files() + self.leave, soft)
            except Gone:
                continue
            yield Change(process.key, [soft, hard], [put, hard])

    def look(self, target: HasBurdens, change: Change) -> Json:
        if self.leave is None:
            return super().look(target, change)
        assert isinstance(target, HasBurdensAndProcesses)
        return list(target.process(change.key).file_limit())

    def make(self, target: HasBurdens, change: Change) -> None:
        if self.leave is None:
            super().make(target, change)
        else:
            self._limit(target, change, change.put)

    def unmake(self, target: HasBurdens, change: Change) -> None:
        if self.leave is None:
            super().unmake(target, change)
        else:
            self._limit(target, change, change.was)

    def took(self, target: HasBurdens, changes: Sequence[Change]) -> bool:
        if self.leave is None:
            return super().took(target, changes)
        return super(Burden, self).took(target, changes)

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        return [(["files", str(self._count(target))], [])]

    def felt(self, target: HasBurdens, mark: str, report: dict[str, float]) -> bool:
        if self.count is not None:
            return report["files"] >= self.count
        used, most = target.descriptors()
        return used >= (self.until or 0) * most * 0.99

    def _limit(self, target: HasBurdens, change: Change, value: Json) -> None:
        assert isinstance(target, HasBurdensAndProcesses) and isinstance(value, list)
        target.process(change.key).set_file_limit(int(str(value[0])))

    def _count(self, target: HasBurdens) -> int:
        if self.count is not None:
            return self.count
        used, most = target.descriptors()
        return int((self.until or 0) * most) - used
