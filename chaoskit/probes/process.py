"""Look at processes: how many, and what they use."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from chaoskit.clock import now
from chaoskit.errors import Gone, ProbeError, Refused
from chaoskit.matching import ProcessMatch
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Unit
from chaoskit.procfs import Process

FIRST_LOOK = 0.1
"""Seconds over which the first reading measures the processors' use."""


@dataclass(frozen=True)
class ProcessProbe(ProcessMatch, Probe):
    """How many processes match, and their cpu, memory, threads, descriptors and age."""

    timeout: Duration = 2.0
    kind = "process"
    readings = {
        "count": Unit.NUMBER,
        "cpu": Unit.PERCENT,
        "rss": Unit.SIZE,
        "threads": Unit.NUMBER,
        "descriptors": Unit.NUMBER,
        "age": Unit.DURATION,
    }
    main = "count"

    def read(self, context: Context) -> Reading:
        """Sums over all that match. Where none does, `count` is 0 and the rest is not there."""
        found = self._find()
        if not found:
            context.memory.pop("cpu", None)  # Whoever comes was not there at the last reading.
            return {"count": 0}
        before = context.memory.get("cpu")
        if before is None:
            before = (now(), _cpu(found))
            context.cancel.wait(min(FIRST_LOOK, self.timeout / 2))
        at, used = now(), _cpu(found)
        context.memory["cpu"] = (at, used)
        spent = 0.0
        for key, (seconds, age) in used.items():
            # Of one that matches only now and is older, nobody knows when it spent that.
            begun_since = age <= at - before[0]
            spent += seconds - before[1].get(key, (0.0 if begun_since else seconds, 0.0))[0]
        reading: dict[str, Json] = {
            "count": len(found),
            "cpu": max(0.0, spent) / max(at - before[0], 1e-6),
        }
        try:
            reading["rss"] = sum(process.rss() for process in found)
            reading["threads"] = sum(process.threads() for process in found)
            reading["age"] = min(process.age() for process in found)
            with contextlib.suppress(PermissionError):
                reading["descriptors"] = sum(process.open_files() for process in found)
        except Gone:
            return self.read_again(context)
        return reading

    def read_again(self, context: Context) -> Reading:
        """One ended while it was looked at: the others are counted anew, and only counted."""
        return {"count": len(self._find())}

    def _find(self) -> list[Process]:
        try:
            return self.find_processes()
        except Refused as error:
            raise ProbeError(str(error)) from error

    def describe(self) -> str:
        return f"process {self.written()}"


def _cpu(found: list[Process]) -> dict[str, tuple[float, float]]:
    """Seconds of processor time, and its age, by incarnation."""
    used = {}
    for process in found:
        with contextlib.suppress(Gone):
            used[process.key] = process.cpu_seconds(), process.age()
    return used
