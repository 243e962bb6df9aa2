"""Keep processors busy beside a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from chaoskit.capabilities import HasBurdens
from chaoskit.faults.burden import Burden
from chaoskit.model.units import Percent, Share, Unit

SOON = 0.3
"""Seconds after which a helper's work can be told from its start-up."""
START = 0.1
"""Seconds that a helper may take to start."""
NEAR = 0.8
"""How much of the load must be there: wanting a processor counts, so a busy machine is no excuse,
but a helper that is stopped does not even want one."""
MOST = 4
"""A load of more than so many times all processors is a mistake."""


@dataclass(frozen=True)
class Cpu(Burden[HasBurdens]):
    """Load processors: so many cores, or a percentage of those the target may use."""

    load: Annotated[float, Unit.NUMBER] | Percent | Share = field(
        metadata={
            "above": 0,
            "doc": "cores (1.5), or a percentage of the processors that the target may use",
        }
    )
    pin: bool | tuple[int, ...] = field(
        default=False,
        metadata={"doc": "pinned to the target's processors (true), or to these ([0, 1])"},
    )
    name = "cpu"
    examples = ({"load": 1}, {"load": "30%", "pin": True})

    def problems(self) -> list[tuple[str, str]]:
        return [("pin", "expected at least one processor")] if self.pin == () else []

    def refuse(self, target: HasBurdens) -> str | None:
        import os

        theirs = target.cpus()
        if isinstance(self.pin, tuple):
            for processor in self.pin:
                if processor not in theirs and processor not in os.sched_getaffinity(0):
                    return f"there is no processor {processor} to pin to"
        if (cores := self._cores(target)) > MOST * len(theirs):
            return (
                f"a load of {cores:g} cores is more than {MOST} times the {len(theirs)} processors"
            )
        return super().refuse(target)

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        cores = self._cores(target)
        shares = [1.0] * int(cores)
        if (rest := cores - int(cores)) > 0.0001:
            shares.append(rest)
        cpus = list(self.pin) if isinstance(self.pin, tuple) else target.cpus() if self.pin else []
        return [(["cpu", f"{share:.4f}"], cpus) for share in shares or [cores]]

    def felt(self, target: HasBurdens, work: Sequence[str], report: dict[str, float]) -> bool:
        """It ran or waited for a processor for most of the share it should have: on a machine that
        is busy already, or in a group that has used up its quota, wanting one is the load."""
        if report["stopped"] or report["age"] < SOON:
            return False
        return report["wanted"] >= NEAR * float(work[1]) * (report["age"] - START)

    def _cores(self, target: HasBurdens) -> float:
        if isinstance(self.load, Share):
            return self.load.fraction * len(target.cpus())
        return self.load
