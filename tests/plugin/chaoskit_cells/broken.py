"""Faults that are broken on purpose, one for each property: conformance must catch every one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaoskit.errors import Gone
from chaoskit.model.fault import Change, Found
from chaoskit.model.units import Json
from chaoskit_cells import HasCells, SetCells


@dataclass(frozen=True)
class DoesNothing(SetCells):
    """Says that its effect is there, and makes none."""

    name = "broken-does-nothing"

    def look(self, target: HasCells, change: Change) -> Json:
        return change.put if (target.get(change.key), self) in _pretended else change.was

    def make(self, target: HasCells, change: Change) -> None:
        _pretended.append((target.get(change.key), self))

    def unmake(self, target: HasCells, change: Change) -> None:
        _pretended.clear()


_pretended: list[object] = []


@dataclass(frozen=True)
class InOnePiece(SetCells):
    """One change for a whole target: killed in the middle, it is a third value that nobody owns."""

    name = "broken-in-one-piece"

    def changes(self, target: HasCells) -> Iterator[Change]:
        yield Change("all", [target.get(c) for c in target.cells()],
                     [self.value for _ in target.cells()])  # fmt: skip

    def look(self, target: HasCells, change: Change) -> Json:
        return [target.get(cell) for cell in target.cells()]

    def make(self, target: HasCells, change: Change) -> None:
        for cell in target.cells():
            self.make_one(target, cell)

    def make_one(self, target: HasCells, cell: str) -> None:
        target.set(cell, self.value)

    def unmake(self, target: HasCells, change: Change) -> None:
        assert isinstance(change.was, list)
        for cell, was in zip(target.cells(), change.was, strict=True):
            target.set(cell, str(was))


@dataclass(frozen=True)
class ForgetsHalf(SetCells):
    """Changes a second cell that no change speaks of."""

    name = "broken-forgets-half"

    def changes(self, target: HasCells) -> Iterator[Change]:
        first = target.cells()[0]
        yield Change(first, target.get(first), self.value)

    def make(self, target: HasCells, change: Change) -> None:
        for cell in target.cells():
            target.set(cell, self.value)


@dataclass(frozen=True)
class Toggles(SetCells):
    """Undoing it twice does it again: it does not look first."""

    name = "broken-toggles"

    def found(self, now: Json, change: Change) -> Found:
        return Found.OURS

    def unmake(self, target: HasCells, change: Change) -> None:
        was = target.get(change.key) == change.was
        target.set(change.key, self.value if was else str(change.was))


@dataclass(frozen=True)
class Overwrites(SetCells):
    """Takes whatever it finds for its own."""

    name = "broken-overwrites"

    def found(self, now: Json, change: Change) -> Found:
        return Found.WAS if now == change.was else Found.OURS


@dataclass(frozen=True)
class Chokes(SetCells):
    """Takes a target that is gone for a failure."""

    name = "broken-chokes"

    def look(self, target: HasCells, change: Change) -> Json:
        try:
            return target.get(change.key)
        except Gone as error:
            raise RuntimeError("no such cell") from error


@dataclass(frozen=True)
class Boasts(SetCells):
    """Is always sure of its effect."""

    name = "broken-boasts"

    def took(self, target: HasCells, changes: Sequence[Change]) -> bool:
        return True


@dataclass(frozen=True)
class Hasty(SetCells):
    """Makes its change while it is only asked what it would change."""

    name = "broken-hasty"

    def changes(self, target: HasCells) -> Iterator[Change]:
        for cell in target.cells():
            was = target.get(cell)
            target.set(cell, self.value)
            yield Change(cell, was, self.value + " ")

    def look(self, target: HasCells, change: Change) -> Json:
        found = target.get(change.key)
        return found + " " if found == self.value else found


@dataclass(frozen=True)
class Forgetful(SetCells):
    """Knows how to come back only as long as its process lives."""

    name = "broken-forgetful"

    def changes(self, target: HasCells) -> Iterator[Change]:
        for cell in target.cells():
            _remembered[cell] = target.get(cell)
            yield Change(cell, "as it was", self.value)

    def look(self, target: HasCells, change: Change) -> Json:
        found = target.get(change.key)
        return found if found == self.value else "as it was"

    def unmake(self, target: HasCells, change: Change) -> None:
        target.set(change.key, _remembered.get(change.key, "?"))


_remembered: dict[str, str] = {}
