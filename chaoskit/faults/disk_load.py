"""Read and write on a target's disk at a rate, leaving nothing there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from chaoskit.capabilities import HasBurdens
from chaoskit.errors import ChaoskitError
from chaoskit.faults.burden import Burden
from chaoskit.model.units import Rate, show_size

ROOM = 320 * 1024 * 1024
"""Bytes that must be free: the helper's file is 64 MiB, and 256 MiB stay."""


@runtime_checkable
class HasBurdensAndFiles(HasBurdens, Protocol):
    """Both: a helper that works on the target's disk."""

    def host_folder(self, path: str) -> str: ...

    def space(self, path: str) -> tuple[int, int]: ...


@dataclass(frozen=True)
class DiskLoad(Burden):
    """Load the disk: read and write there at these rates."""

    path: str = field(metadata={"doc": "a folder on the disk, as the target sees it"})
    read: Rate | None = None
    write: Rate | None = None
    name = "disk-load"
    needs = HasBurdensAndFiles
    patience = 10.0
    examples = ({"path": "${FOLDER}", "write": "2MiB/s"}, {"path": "${FOLDER}", "read": "2MiB/s"})

    def problems(self) -> list[tuple[str, str]]:
        if not (self.read or self.write):
            return [("path", "say how much: read, write or both")]
        return []

    def refuse(self, target: HasBurdens) -> str | None:
        assert isinstance(target, HasBurdensAndFiles)
        try:
            free, _ = target.space(target.host_folder(self.path))
        except ChaoskitError as error:
            return str(error)
        if free < ROOM:
            return f"{show_size(free)} are free in {self.path}, {show_size(ROOM)} are needed"
        return None

    def helpers(self, target: HasBurdens) -> list[tuple[list[str], list[int]]]:
        assert isinstance(target, HasBurdensAndFiles)
        folder = target.host_folder(self.path)
        return [(["disk", folder, f"{self.read or 0:.0f}", f"{self.write or 0:.0f}"], [])]

    def felt(self, target: HasBurdens, mark: str, report: dict[str, float]) -> bool:
        """At least half of what was asked has been moved: a disk that cannot is no proof."""
        age = max(0.0, report["age"] - 0.2)
        return (
            age > 0.1
            and report["read"] >= 0.5 * (self.read or 0) * age
            and report["written"] >= 0.5 * (self.write or 0) * age
        )
