"""Use up file descriptors: the machine's, by a helper, or the target's own, by its limit."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from chaoskit.capabilities import HasBurdens, HasProcesses, Proc
from chaoskit.errors import Gone
from chaoskit.faults.burden import Burden
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.units import Json, Percent
from chaoskit.procfs import Process

SPARE = 1000
"""Descriptors of the machine's table that are always left."""
OWN = 16
"""Descriptors that a helper has open besides those it holds, at most."""
NEAR = 0.99
"""How much of `until` still counts: others open and close files all the time."""


@runtime_checkable
class HasBurdensAndProcesses(HasBurdens, HasProcesses, Protocol):
    """Both: a helper beside the target, and the target's own limits."""


@dataclass(frozen=True)
class OpenFiles(Burden[HasBurdensAndProcesses]):
    """Use up descriptors: `leave` so many to the target, or hold `count` of the machine's."""

    leave: int | None = field(
        default=None,
        metadata={
            "min": 0,
            "doc": "how many more files each process of the target may open (its soft limit)",
        },
    )
    count: int | None = field(
        default=None,
        metadata={"min": 1, "doc": "how many of the machine's descriptors a helper holds"},
    )
    until: Percent | None = field(
        default=None,
        metadata={
            "above": 0,
            "max": 1,
            "doc": "hold until this much of the machine's table is in use",
        },
    )
    name = "open-files"
    needs = HasBurdensAndProcesses
    examples = ({"leave": 3}, {"count": 200})

    def problems(self) -> list[tuple[str, str]]:
        given = [key for key in ("leave", "count", "until") if getattr(self, key) is not None]
        if len(given) != 1:
            return [(given[-1] if given else "", "say exactly one of leave, count and until")]
        return []

    @property
    def ends(self) -> Ends:
        return Ends.BY_RECOVER if self.leave is not None else Ends.BY_ITSELF

    def way_back(self) -> str:
        if self.leave is not None:
            return "the old limit of each process"
        return super().way_back()

    def refuse(self, target: HasBurdensAndProcesses) -> str | None:
        return self._refuse_limit(target) if self.leave is not None else self._refuse_hold(target)

    def _refuse_limit(self, target: HasBurdensAndProcesses) -> str | None:
        for process in target.tree():
            try:
                process.set_file_limit(process.file_limit()[0])
                target.open_numbers(process.key)
            except Gone:
                continue
            except PermissionError:
                return f"we may not change the limits of process {process.pid}"
        return None

    def _refuse_hold(self, target: HasBurdensAndProcesses) -> str | None:
        import resource

        used, most = target.descriptors()
        wanted = self._count(target)
        if wanted < 1:
            return f"{used} of {most} descriptors are in use already"
        if used + wanted > most - SPARE:
            return f"{used} of {most} descriptors are in use; {SPARE} must be left"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if wanted + OWN > hard:
            return f"a process of ours may open {hard} files, {wanted} are wanted"
        return super().refuse(target)

    def changes(self, target: HasBurdensAndProcesses) -> Iterator[Change]:
        if self.leave is None:
            yield from super().changes(target)
            return
        # A process that has not got its limit yet may fork: look again until nothing is new.
        seen: set[str] = set()
        made: list[Change] = []
        while new := [p for p in target.tree() if p.key not in seen]:
            elders = list(made)
            for process in new:
                seen.add(process.key)
                with contextlib.suppress(Gone):
                    made.append(self._limited(target, process, elders))
                    yield made[-1]

    def _limited(
        self, target: HasBurdensAndProcesses, process: Proc, elders: Sequence[Change]
    ) -> Change:
        soft, hard = process.file_limit()
        for elder in elders:
            # It was born meanwhile, with the limit that its parent has got from us.
            if elder.put == [soft, hard]:
                return Change(process.key, elder.was, elder.put)
        put = limit_for(target.open_numbers(process.key), self.leave or 0, soft)
        return Change(process.key, [soft, hard], [put, hard])

    def look(self, target: HasBurdensAndProcesses, change: Change) -> Json:
        if self.leave is None:
            return super().look(target, change)
        return list(target.process(change.key).file_limit())

    def make(self, target: HasBurdensAndProcesses, change: Change) -> None:
        if self.leave is None:
            super().make(target, change)
        else:
            _set(target.process(change.key), change.put)

    def unmake(self, target: HasBurdensAndProcesses, change: Change) -> None:
        if self.leave is None:
            super().unmake(target, change)
            return
        _set(target.process(change.key), change.was)
        while heirs := [p for p in self._younger(target, change) if _has(p, change.put)]:
            for process in heirs:
                with contextlib.suppress(Gone):
                    _set(process, change.was)

    def _younger(self, target: HasBurdensAndProcesses, change: Change) -> Iterator[Proc]:
        """What it has started meanwhile was born with the low limit, and has no cell of its own.
        (Who has one is younger, and so was undone before.) It may be below it no more: whose parent
        ends is given to another one, of a container to its first process."""
        yield from target.below(change.key)
        began = Process.from_key(change.key).start
        for process in target.tree():
            if Process.from_key(process.key).start > began:
                yield process

    def took(self, target: HasBurdensAndProcesses, changes: Sequence[Change]) -> bool:
        if self.leave is None:
            return super().took(target, changes)
        return Fault.took(self, target, changes)

    def helpers(self, target: HasBurdensAndProcesses) -> list[tuple[list[str], list[int]]]:
        return [(["files", str(max(1, self._count(target)))], [])]

    def felt(
        self, target: HasBurdensAndProcesses, work: Sequence[str], report: dict[str, float]
    ) -> bool:
        if report["files"] < int(work[1]):
            return False
        used, most = target.descriptors()
        return self.until is None or used >= NEAR * self.until * most

    def _count(self, target: HasBurdensAndProcesses) -> int:
        if self.count is not None:
            return self.count
        used, most = target.descriptors()
        return int((self.until or 0) * most) - used


def limit_for(numbers: Collection[int], leave: int, most: int) -> int:
    """The limit under which a process with these descriptors can open so many more, at most
    `most`. A limit is on the number of a descriptor, and a new one gets the lowest that is free:
    the free numbers below the limit are what counts, not how many are open."""
    free = 0
    for number in range(most):
        if number not in numbers:
            if free == leave:
                return number
            free += 1
    return most


def _set(process: Proc, limits: Json) -> None:
    assert isinstance(limits, list) and isinstance(limits[0], int)
    process.set_file_limit(limits[0])


def _has(process: Proc, limits: Json) -> bool:
    try:
        return list(process.file_limit()) == limits
    except Gone:
        return False
