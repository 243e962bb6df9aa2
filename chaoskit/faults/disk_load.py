"""Read and write on a target's disk at a rate, leaving nothing there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from chaoskit.capabilities import HasBurdens, HasFiles
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.burden import Burden
from chaoskit.helpers.burden import BLOCK, SPAN
from chaoskit.model.units import Rate, show_size

START = 0.2
"""Seconds that a helper may take to start."""
NEAR = 0.5
"""How much of what the rates say must have been moved."""


@runtime_checkable
class HasBurdensAndFiles(HasBurdens, HasFiles, Protocol):
    """Both: a helper that works on the target's disk."""


@dataclass(frozen=True)
class DiskLoad(Burden[HasBurdensAndFiles]):
    """Load the disk: read and write there at these rates.

    Of a file without a name, past the page cache where the file system can. A disk that cannot
    move half of it is no proof of the load, whatever it suffers: the step is inconclusive then.
    """

    path: str = field(metadata={"doc": "a folder on the disk, as the target sees it"})
    read: Rate | None = field(default=None, metadata={"above": 0, "doc": "how much to read"})
    write: Rate | None = field(default=None, metadata={"above": 0, "doc": "how much to write"})
    name = "disk-load"
    needs = HasBurdensAndFiles
    patience = 10.0
    examples = ({"path": "${FOLDER}", "write": "2MiB/s"}, {"path": "${FOLDER}", "read": "2MiB/s"})

    def problems(self) -> list[tuple[str, str]]:
        if self.read is None and self.write is None:
            return [("", "say how much: read, write or both")]
        return []

    def refuse(self, target: HasBurdensAndFiles) -> str | None:
        try:
            folder = target.host_folder(self.path)
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        free, needed = target.space(folder)[0], target.reserve(folder) + 2 * SPAN
        if free < needed:
            return f"{show_size(free)} are free in {self.path}, {show_size(needed)} are needed"
        return super().refuse(target)

    def helpers(self, target: HasBurdensAndFiles) -> list[tuple[list[str], list[int]]]:
        folder = target.host_folder(self.path)
        return [(["disk", folder, f"{self.read or 0:.0f}", f"{self.write or 0:.0f}"], [])]

    def felt(
        self, target: HasBurdensAndFiles, work: Sequence[str], report: dict[str, float]
    ) -> bool:
        age = report["age"] - START
        # Whole blocks: what the interpreter has read of itself is less than one.
        loaded = report["read"] // BLOCK * BLOCK
        read, write = float(work[2]), float(work[3])
        # What is read was written first, and that is not part of the load.
        written = report["written"] - (SPAN if read else 0)
        return (
            age > 0
            and not report["stopped"]
            and loaded >= NEAR * read * age
            and written >= NEAR * write * age
        )
