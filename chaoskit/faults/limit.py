"""Lower what a container may use at most, and put back exactly what was allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from chaoskit.capabilities import HasLimits
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.model.fault import Change, Fault
from chaoskit.model.limited import Limited
from chaoskit.model.units import Json, Percent, Rate, Share, Size, Unit, show_size

LEAST_CPU = 0.01
"""Of a processor: the kernel takes no less in a period of usual length."""
LEAST_RATE = 64 * 1024
"""Bytes a second. Less would hold up others who share a file system's journal with the target."""
MARGIN_SHARE = 0.1
MARGIN_BYTES = 4 * 1024 * 1024
"""What stays between the memory in use and its limit: that share of it or so many bytes, whichever
is more. Closer than that, the first thing that is done calls the OOM killer."""


@dataclass(frozen=True)
class Limit(Fault[HasLimits]):
    """Lower the limits of the container: processors, memory, processes, or a disk's rates.

    They are only ever lowered, in the files of its control groups. Its daemon knows nothing of it:
    `docker inspect` does not show it, and `docker update` would write another limit over it.
    """

    cpu: Annotated[float, Unit.NUMBER] | Percent | Share | None = field(
        default=None,
        metadata={
            "min": LEAST_CPU,
            "doc": "processors (0.5), or a percentage of what it may use now",
        },
    )
    memory: Size | None = field(default=None, metadata={"above": 0, "doc": "how much memory"})
    pids: int | None = field(
        default=None, metadata={"min": 1, "doc": "how many processes and threads"}
    )
    read: Rate | None = field(
        default=None, metadata={"min": LEAST_RATE, "doc": "how much it may read from the disk"}
    )
    write: Rate | None = field(
        default=None, metadata={"min": LEAST_RATE, "doc": "how much it may write to the disk"}
    )
    path: str = field(
        default="/", metadata={"doc": "a folder on the disk that read and write are about"}
    )
    name = "limit"
    needs = HasLimits
    examples = (
        {"cpu": 0.2, "memory": "64MiB", "write": "4MiB/s"},
        {"pids": 64},
    )

    def problems(self) -> list[tuple[str, str]]:
        if all(getattr(self, what) is None for what in _WHAT):
            return [("", f"say what: {', '.join(_WHAT)}")]
        if self.path != "/" and self.read is None and self.write is None:
            return [("path", "is about read and write, and neither is given")]
        return []

    def way_back(self) -> str:
        return "the old limits"

    def refuse(self, target: HasLimits) -> str | None:
        for what in self._wanted():
            try:
                limited = target.limited(what, self.path)
            except Gone:
                raise
            except ChaoskitError as error:
                return str(error)
            if why := self._why_not(what, limited):
                return why
        return None

    def remarks(self, target: HasLimits) -> tuple[str, ...]:
        found = ["`docker inspect` does not show it, and `docker update` would overwrite it"]
        for what in self._wanted():
            limited = target.limited(what, self.path)
            if limited.remark:
                found.append(limited.remark)
            if what == "pids" and (self.pids or 0) <= limited.used:
                count = f"{limited.used:.0f} processes are in it"
                found.append(f"{count}: none of them can start another")
        return tuple(found)

    def changes(self, target: HasLimits) -> Iterator[Change]:
        for what in self._wanted():
            try:
                limited = target.limited(what, self.path)
                # It may be another incarnation than the one that `refuse` has seen.
                if why := self._why_not(what, limited):
                    raise Refused(why)
                put = target.limit_text(what, self.path, self._most(what, limited))
            except Gone:
                return
            yield Change(limited.key, limited.text, put)

    def look(self, target: HasLimits, change: Change) -> Json:
        return target.limit_now(change.key)

    def make(self, target: HasLimits, change: Change) -> None:
        assert isinstance(change.put, str)
        target.set_limit(change.key, change.put)

    def unmake(self, target: HasLimits, change: Change) -> None:
        assert isinstance(change.was, str)
        target.set_limit(change.key, change.was)

    def _wanted(self) -> list[str]:
        return [what for what in _WHAT if getattr(self, what) is not None]

    def _most(self, what: str, limited: Limited) -> float:
        wanted = getattr(self, what)
        return wanted.fraction * limited.most if isinstance(wanted, Share) else float(wanted)

    def _why_not(self, what: str, limited: Limited) -> str | None:
        most, show = self._most(what, limited), _WHAT[what]
        if most >= limited.most:
            return f"it may use {show(limited.most)} at most: {show(most)} would not lower that"
        if what == "cpu" and most < LEAST_CPU:
            return f"{show(most)} are less than the kernel takes, which is {LEAST_CPU:g}"
        least = limited.used + max(MARGIN_SHARE * limited.used, MARGIN_BYTES)
        if what == "memory" and most < least:
            return (
                f"{show(limited.used)} of memory are in use: with less than {show(least)} the OOM "
                "killer is near"
            )
        return None


def _rate(value: float) -> str:
    return "no limit" if math.isinf(value) else f"{show_size(value)}/s"


_WHAT = {
    "cpu": lambda value: f"{value:g} processors",
    "memory": show_size,
    "pids": lambda value: f"{value:g} processes",
    "read": _rate,
    "write": _rate,
}
"""What can be limited, and how it is shown."""
