"""Fill a disk with one file of ours, and leave a reserve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import HasFiles
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json, Percent, Size, show_percent, show_size

NEAR = 0.01
"""How far from `until` still counts: other writers come and go."""


@dataclass(frozen=True)
class DiskFill(Fault[HasFiles]):
    """Fill a disk: by a size, or until so much of it is used; a reserve always stays free."""

    path: str = field(metadata={"doc": "a folder on the disk, as the target sees it"})
    size: Size | None = field(default=None, metadata={"doc": "how much to fill"})
    until: Percent | None = field(default=None, metadata={"doc": "how full it shall be"})
    name = "disk-fill"
    needs = HasFiles
    examples = ({"path": "${FOLDER}", "size": "40MiB"},)

    def problems(self) -> list[tuple[str, str]]:
        if (self.size is None) == (self.until is None):
            return [("path", "say how much: either size or until")]
        if self.size is not None and self.size < 1:
            return [("size", "expected more than 0")]
        if self.until is not None and not 0 < self.until <= 1:
            return [("until", "expected more than 0% and at most 100%")]
        return []

    def way_back(self) -> str:
        return "the filler file is removed"

    def refuse(self, target: HasFiles) -> str | None:
        try:
            folder = target.host_folder(self.path)
            free, whole = target.space(folder)
        except ChaoskitError as error:
            return str(error)
        wanted = self.size if self.size is not None else int(free - (1 - (self.until or 0)) * whole)
        if self.until is not None and wanted <= 0:
            return f"{self.path} is {show_percent(1 - free / whole)} full already"
        if free - wanted < target.reserve(folder):
            return (
                f"{show_size(free)} of {show_size(whole)} are free in {self.path}; after "
                f"{show_size(wanted)} more, less than {show_size(target.reserve(folder))} would "
                f"be left"
            )
        return None

    def changes(self, target: HasFiles) -> Iterator[Change]:
        key = target.filler(self.path)
        yield Change(key, None, key.rpartition("/")[2].lstrip("."))

    def look(self, target: HasFiles, change: Change) -> Json:
        return target.mark_of(change.key)

    def make(self, target: HasFiles, change: Change) -> None:
        target.grow(change.key, self.size, self.until)

    def unmake(self, target: HasFiles, change: Change) -> None:
        target.unlink(change.key)

    def took(self, target: HasFiles, changes: Sequence[Change]) -> bool:
        for change in changes:
            try:
                if self.look(target, change) != change.put:
                    return False
                if self.size is not None and target.size_of(change.key) < self.size:
                    return False
            except Gone:
                return False
            if self.until is not None:
                free, whole = target.space(change.key.rpartition("/")[0])
                if 1 - free / whole < self.until - NEAR:
                    return False
        return bool(changes)
