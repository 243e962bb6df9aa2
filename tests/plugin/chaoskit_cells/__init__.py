"""A whole plug-in in one file: a kind of target, a fault and a probe, on folders of small files.

A target is a folder; each file in it is a cell; the fault sets every cell to a value and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from chaoskit.errors import Gone, ProbeError
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Duration, Json, Unit


@runtime_checkable
class HasCells(Protocol):
    """The capability: named values that can be read and written."""

    def cells(self) -> list[str]: ...
    def get(self, cell: str) -> str: ...
    def set(self, cell: str, value: str) -> None: ...


class Cells(Target):
    kind = "cells"

    def __init__(self, folder: Path, binding: Binding) -> None:
        self.folder = folder
        self.binding = binding

    @property
    def key(self) -> str:
        return f"cells:{self.folder}"

    @property
    def label(self) -> str:
        return f"cells in {self.folder.name}"

    def claim(self) -> Claim:
        return Claim(frozenset({self.key}))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return None

    def ref(self) -> Json:
        return str(self.folder)

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> Cells:
        return cls(Path(str(ref)), binding)

    def cells(self) -> list[str]:
        return sorted(str(path) for path in self.folder.iterdir())

    def get(self, cell: str) -> str:
        try:
            return Path(cell).read_text()
        except FileNotFoundError as error:
            raise Gone(f"{cell} is gone") from error

    def set(self, cell: str, value: str) -> None:
        self.get(cell)
        beside = self.folder.parent / f".{Path(cell).name}.new"
        beside.write_text(value)
        beside.replace(cell)  # One atomic step, as every change must be.


@dataclass(frozen=True)
class CellsSelector(Selector):
    """Folders of cells, by their path."""

    folders: tuple[str, ...]
    kind = "cells"
    target = Cells

    def find(self, binding: Binding) -> list[Target]:
        return [Cells(Path(f), binding) for f in self.folders if Path(f).is_dir()]

    def describe(self) -> str:
        return f"cells {', '.join(self.folders)}"


@dataclass(frozen=True)
class SetCells(Fault[HasCells]):
    """Set every cell of the target to a value."""

    value: str
    name = "set-cells"
    needs = HasCells
    patience = 1.0
    examples = ({"value": "broken"},)

    def changes(self, target: HasCells) -> Iterator[Change]:
        for cell in target.cells():
            yield Change(cell, target.get(cell), self.value)

    def look(self, target: HasCells, change: Change) -> Json:
        return target.get(change.key)

    def make(self, target: HasCells, change: Change) -> None:
        target.set(change.key, self.value)

    def unmake(self, target: HasCells, change: Change) -> None:
        target.set(change.key, str(change.was))


@dataclass(frozen=True)
class CellProbe(Probe):
    """Read one cell."""

    path: str
    timeout: Duration = 1.0
    kind = "cell"
    readings = {"value": Unit.TEXT}
    main = "value"

    def read(self, context: Context) -> Reading:
        try:
            return {"value": Path(self.path).read_text()}
        except OSError as error:
            raise ProbeError(f"{self.path} cannot be read: {error.strerror}") from error

    def describe(self) -> str:
        return f"cell {self.path}"
