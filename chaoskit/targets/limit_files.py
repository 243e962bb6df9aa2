"""The files of control groups that hold limits, of both versions, and what stands in them.

See cgroup-v1/ and cgroup-v2 in the kernel's administration guide.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from chaoskit.cgroups import Group

_PAGE = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_MEMORY = 2**62
"""Version 1 writes what is no limit as a number that no memory has."""


@dataclass(frozen=True, slots=True)
class Knob(ABC):
    """One limit in one file. part: which line of the file, where each disk has one of its own."""

    file: str
    part: str = ""

    def read(self, group: Group) -> str | None:
        """What it holds, without what belongs to others; None when there is no such file."""
        return group.read(self.file)

    def line(self, text: str) -> str:
        """What is written to make it hold that."""
        return text

    @abstractmethod
    def number(self, text: str, group: Group) -> float:
        """How much that text allows."""

    @abstractmethod
    def text(self, most: float, group: Group) -> str:
        """What is read when so much, rounded down as the kernel rounds, is allowed."""


class _Quota(Knob):
    """Version 1: microseconds of each period, whose length stays as it is."""

    def number(self, text: str, group: Group) -> float:
        return math.inf if text.startswith("-") else int(text) / self._period(group)

    def text(self, most: float, group: Group) -> str:
        return str(int(most * self._period(group)))

    def _period(self, group: Group) -> int:
        return int(group.read("cpu.cfs_period_us") or 100_000)


class _CpuMax(Knob):
    """Version 2: `quota period`, or `max period`."""

    def number(self, text: str, group: Group) -> float:
        quota, period = text.split()
        return math.inf if quota == "max" else int(quota) / int(period)

    def text(self, most: float, group: Group) -> str:
        period = (self.read(group) or "max 100000").split()[1]
        return f"{int(most * int(period))} {period}"


class _Whole(Knob):
    """A whole number, or `max`."""

    def number(self, text: str, group: Group) -> float:
        return math.inf if text == "max" else int(text)

    def text(self, most: float, group: Group) -> str:
        return str(int(most))


class _Pages(_Whole):
    """Bytes, in whole pages."""

    def number(self, text: str, group: Group) -> float:
        found = _Whole.number(self, text, group)
        return math.inf if found >= _UNLIMITED_MEMORY else found

    def text(self, most: float, group: Group) -> str:
        return str(int(most) // _PAGE * _PAGE)


class _Throttle(_Whole):
    """Version 1: a line `disk number` for each disk that has a limit; 0 takes the line away."""

    def read(self, group: Group) -> str | None:
        found = group.read(self.file)
        if found is None:
            return None
        lines = dict(line.split(" ", 1) for line in found.splitlines() if " " in line)
        return lines.get(self.part, "0")

    def line(self, text: str) -> str:
        return f"{self.part} {text}"

    def number(self, text: str, group: Group) -> float:
        return math.inf if text == "0" else int(text)


class _IoMax(_Whole):
    """Version 2: a line `disk rbps=number wbps=max ...` for each disk that has a limit."""

    def read(self, group: Group) -> str | None:
        found = group.read(self.file)
        if found is None:
            return None
        disk, field = self.part.split()
        for line in found.splitlines():
            name, *fields = line.split()
            if name == disk:
                return dict(one.split("=", 1) for one in fields).get(field, "max")
        return "max"

    def line(self, text: str) -> str:
        disk, field = self.part.split()
        return f"{disk} {field}={text}"


DISKS = ("read", "write")

_CONTROLLERS: Mapping[tuple[str, int], str] = {
    ("read", 1): "blkio",
    ("write", 1): "blkio",
    ("read", 2): "io",
    ("write", 2): "io",
}


def controller(what: str, version: int) -> str:
    """Which controller limits that: `cpu`, `memory`, `pids`, `read` or `write`."""
    return _CONTROLLERS.get((what, version), what)


def knob(what: str, version: int, disk: str = "") -> Knob:
    """Where that is limited. disk: `major:minor`, for reading and writing."""
    if version == 1:
        return {
            "cpu": _Quota("cpu.cfs_quota_us"),
            "memory": _Pages("memory.limit_in_bytes"),
            "pids": _Whole("pids.max"),
            "read": _Throttle("blkio.throttle.read_bps_device", disk),
            "write": _Throttle("blkio.throttle.write_bps_device", disk),
        }[what]
    return {
        "cpu": _CpuMax("cpu.max"),
        "memory": _Pages("memory.max"),
        "pids": _Whole("pids.max"),
        "read": _IoMax("io.max", f"{disk} rbps"),
        "write": _IoMax("io.max", f"{disk} wbps"),
    }[what]


def used(what: str, group: Group) -> float:
    """How much of it is in use, where that is a matter."""
    if what == "pids":
        return int(group.read("pids.current") or 0)
    if what != "memory":
        return 0.0
    name, cache = (
        ("memory.usage_in_bytes", "total_inactive_file")
        if group.version == 1
        else ("memory.current", "inactive_file")
    )
    # What is cached of files is given back when it is needed elsewhere.
    cached = group.counters("memory.stat").get(cache, 0)
    return max(0, int(group.read(name) or 0) - cached)
