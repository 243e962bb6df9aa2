"""Fill a disk with one file of ours, and leave a reserve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import HasFiles
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json, Percent, Size, show_percent, show_size

NEAR = 0.01
"""How far from `until` still counts: other writers come and go."""


@dataclass(frozen=True)
class DiskFill(Fault[HasFiles]):
    """Fill a disk: by a size, or until so much of it is used; a reserve always stays free."""

    path: str = field(metadata={"doc": "a folder on the disk, as the target sees it"})
    size: Size | None = field(default=None, metadata={"above": 0, "doc": "how much to fill"})
    until: Percent | None = field(
        default=None, metadata={"above": 0, "max": 1, "doc": "how full it shall be"}
    )
    name = "disk-fill"
    needs = HasFiles
    examples = ({"path": "${FOLDER}", "size": "40MiB"},)

    def problems(self) -> list[tuple[str, str]]:
        if (self.size is None) == (self.until is None):
            return [("until", "say how much: either size or until")]
        return []

    def way_back(self) -> str:
        return "the filler file is removed"

    def refuse(self, target: HasFiles) -> str | None:
        try:
            folder = target.host_folder(self.path)
            if target.mark_of(target.filler(self.path)) is not None:
                return f"{target.filler(self.path)} is there already"
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        free, whole = target.space(folder)
        reserve = target.reserve(folder)
        wanted = self.size if self.size is not None else int(free - (1 - (self.until or 0)) * whole)
        if self.until is not None and wanted <= 0:
            return f"{self.path} is {show_percent(1 - free / whole)} full already"
        if free - wanted < reserve:
            return (
                f"{show_size(free)} of {show_size(whole)} are free in {self.path}; after "
                f"{show_size(wanted)} more, less than {show_size(reserve)} would be left"
            )
        return None

    def remarks(self, target: HasFiles) -> tuple[str, ...]:
        kept = target.reserve(target.host_folder(self.path))
        return (f"{show_size(kept)} always stay free in {self.path}",)

    def changes(self, target: HasFiles) -> Iterator[Change]:
        try:
            key = target.filler(self.path)
        except Gone:
            return
        except ChaoskitError as error:
            raise Refused(str(error)) from error
        yield Change(key, None, key.rpartition("/")[2][1:])

    def look(self, target: HasFiles, change: Change) -> Json:
        return target.mark_of(change.key)

    def make(self, target: HasFiles, change: Change) -> None:
        target.grow(change.key, self.size, self.until)

    def unmake(self, target: HasFiles, change: Change) -> None:
        target.unlink(change.key)

    def took(self, target: HasFiles, changes: Sequence[Change]) -> bool:
        """Our filler is there and the disk is as full as it shall be, where the target sees it
        (so not when the target has ended, or its path leads elsewhere by now)."""
        for change in changes:
            try:
                folder = target.host_folder(self.path)
                if target.filler(self.path) != change.key:
                    return False
                if self.look(target, change) != change.put:
                    return False
                if self.size is not None and target.size_of(change.key) < self.size:
                    return False
            except ChaoskitError:
                return False
            if self.until is not None:
                free, whole = target.space(folder)
                if 1 - free / whole < self.until - NEAR:
                    return False
        return bool(changes)
