"""A state machine over journal and undo, with a crash at any point: whatever happens, in whatever
order, undoing until it is done brings the world back, and nothing that is not ours is touched."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chaoskit.capabilities import HasProcesses
from chaoskit.errors import Gone
from chaoskit.journal import Cell, Journal, cells, read_records
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json
from chaoskit.undo import Live, undo

NAMES = ("a", "b", "c")


class Crash(BaseException):
    """The death of a process: nothing of it goes on, no handler runs."""


@dataclass
class World:
    """Cells that everybody may write to; a crash may come before any touch of it."""

    values: dict[str, str]
    fuse: int = -1

    def touch(self) -> None:
        if self.fuse == 0:
            raise Crash
        self.fuse -= 1


@dataclass(frozen=True)
class Place:
    """A target: the cells of that name's group."""

    world: World
    key: str = "place"
    label: str = "place"
    kind: str = "place"


class Set(Fault[Any]):
    """Sets each cell to `ours`."""

    name = "set"
    needs = HasProcesses
    patience = 0.0

    def changes(self, target: Any) -> Iterator[Change]:
        for name in list(target.world.values):
            yield Change(name, target.world.values[name], "ours")

    def look(self, target: Any, change: Change) -> Json:
        target.world.touch()
        if change.key not in target.world.values:
            raise Gone(change.key)
        value: Json = target.world.values[change.key]
        return value

    def make(self, target: Any, change: Change) -> None:
        target.world.touch()
        target.world.values[change.key] = "ours"
        target.world.touch()

    def unmake(self, target: Any, change: Change) -> None:
        target.world.touch()
        target.world.values[change.key] = str(change.was)
        target.world.touch()


class Dying(Journal):
    """A journal whose process may die before or after any record."""

    world: World

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.world.touch()
        super()._write(kind, fields)
        self.world.touch()


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.fault = Set()

    @initialize(values=st.fixed_dictionaries({name: st.sampled_from(["x", "y"]) for name in NAMES}))
    def begin(self, values: dict[str, str]) -> None:
        self.world = World(dict(values))
        self.expected = dict(values)
        self.number = 0
        self.foreign: set[str] = set()

    def journal(self) -> Dying:
        journal = Dying(self.folder)
        journal.world = self.world
        return journal

    def dying(self, fuse: int, work: Callable[[Dying], None]) -> bool:
        """Do the work and die after so many touches; whether it was done before."""
        journal = self.journal()
        self.world.fuse = fuse
        try:
            work(journal)
        except Crash:
            return False
        finally:
            self.world.fuse = -1
            journal.close()
        return True

    @rule(fuse=st.integers(-1, 25))
    def inject(self, fuse: int) -> None:
        """As the engine does: change, make, made, for one cell after the other."""

        def work(journal: Dying) -> None:
            target = Place(self.world)
            for change in self.fault.changes(target):
                if change.was == change.put:
                    continue
                self.number += 1
                journal.append(
                    "change", cell=self.number, step="1", fault="set", params={},
                    target={"label": "place"}, key=change.key, was=change.was, put=change.put,
                )  # fmt: skip
                self.fault.make(target, change)
                journal.note("made", cell=self.number)

        if not self.open():
            self.dying(fuse, work)

    @rule(fuse=st.integers(-1, 25))
    def undo(self, fuse: int) -> None:
        self.dying(fuse, lambda journal: self._undo(journal))

    def _undo(self, journal: Journal) -> None:
        lives = [Live(cell, self.fault, Place(self.world)) for cell in self.open()]  # type: ignore[arg-type]
        undo(lives, journal)

    @rule(name=st.sampled_from(NAMES), value=st.sampled_from(["theirs", "x"]))
    def meddle(self, name: str, value: str) -> None:
        """Somebody else writes a cell, whatever is going on."""
        if name in self.world.values:
            self.world.values[name] = value
            self.expected[name] = value
            self.foreign.add(name)

    @rule(name=st.sampled_from(NAMES))
    def vanish(self, name: str) -> None:
        self.world.values.pop(name, None)
        self.expected.pop(name, None)

    @rule(bytes_=st.integers(1, 30))
    def tear(self, bytes_: int) -> None:
        """Power is lost: the end of a record that was not synced is not there. Only records of an
        undo are written without a sync, so losing them may cost a second look and nothing else."""
        path = self.folder / "journal.jsonl"
        records = read_records(path) if path.exists() else []
        if records and records[-1]["kind"] in ("undone", "unmake"):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) - min(bytes_, len(data.splitlines()[-1]))])

    def open(self) -> list[Cell]:
        path = self.folder / "journal.jsonl"
        return [c for c in (cells(read_records(path)) if path.exists() else []) if not c.over]

    @invariant()
    def nothing_of_ours_is_unknown(self) -> None:
        """What holds our value is in the journal as a cell that is not over."""
        if hasattr(self, "world"):
            known = {cell.change.key for cell in self.open()}
            assert {name for name, v in self.world.values.items() if v == "ours"} <= known

    def teardown(self) -> None:
        if hasattr(self, "world"):
            journal = Journal(self.folder)
            self._undo(journal)
            journal.close()
            for name, value in self.world.values.items():
                assert value == self.expected[name], (name, value, self.expected)
            # Only a cell that somebody else has changed may be stuck.
            assert {cell.change.key for cell in self.open()} <= self.foreign
        shutil.rmtree(self.folder)


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase
