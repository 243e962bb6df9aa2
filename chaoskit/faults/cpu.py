"""Keep processors busy beside a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from chaoskit.capabilities import HasBurdens
from chaoskit.faults.burden import Burden
from chaoskit.model.units import Percent, Share, Unit

SOON = 0.3
"""Seconds after which a helper's work can be told from its start-up."""


@dataclass(frozen=True)
class Cpu(Burden):
    """Load processors: so many cores, or a percentage of those the target may use."""

    load: Annotated[float, Unit.NUMBER] | Percent | Share = field(
        metadata={"doc": "cores (1.5), or a percentage of the processors that the target may use"}
    )
    pin: bool | tuple[int, ...] = field(
        default=False,
        metadata={"doc": "pinned to the target's processors (true), or to these ([0, 1])"},
    )
    name = "cpu"
    examples = ({"load": 1}, {"load": "30%", "pin": True})

    def problems(self) -> list[tuple[str, str]]:
        load = self.load.fraction if isinstance(self.load, Share) else self.load
        return [] if load > 0 else [("load", "expected more than 0")]

    def refuse(self, target: HasBurdens) -> str | None:
        if isinstance(self.pin, tuple):
            import os

            missing = set(self.pin) - os.sched_getaffinity(0)
            if missing:
                return f"there is no processor {min(missing)} to pin to"
        cores = self._cores(target)
        if cores > 4 * (os_cpus := len(target.cpus())):
            return f"a load of {cores:g} cores on {os_cpus} processors is more than four times all"
        return None

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        cores = self._cores(target)
        shares = [1.0] * int(cores)
        if (rest := cores - int(cores)) > 0.001:
            shares.append(rest)
        cpus = list(self.pin) if isinstance(self.pin, tuple) else target.cpus() if self.pin else []
        return [(["cpu", f"{share:.3f}"], cpus) for share in shares]

    def felt(self, target: HasBurdens, mark: str, report: dict[str, float]) -> bool:
        """It ran or waited for a processor for most of the share it should have: on a machine
        that is busy already, wanting one is the load."""
        if report["age"] < SOON:
            return False
        share = self._share(target, int(mark.rpartition("-")[2]))
        return report["wanted"] >= 0.5 * share * (report["age"] - 0.1)

    def _share(self, target: HasBurdens, number: int) -> float:
        cores = self._cores(target)
        return 1.0 if number <= int(cores) else cores - int(cores)

    def _cores(self, target: HasBurdens) -> float:
        if isinstance(self.load, Share):
            # Asked of the plan's own moment: the journal keeps what was asked for, not the sum.
            return self.load.fraction * len(target.cpus())
        return self.load
