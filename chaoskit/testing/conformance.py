"""The properties that every fault must have on every kind of target, as functions to call.

A `Specimen` is a thing to hurt, with a way to see its state from outside. Each property here runs
real experiments on it in processes of their own, and raises AssertionError when the fault has not
got it. chaoskit's tests call them for each fault and target of the registry; a plug-in's tests
can call them for its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaoskit import load
from chaoskit.clock import until
from chaoskit.engine import run
from chaoskit.errors import Gone
from chaoskit.journal import RunFolder, State
from chaoskit.model.fault import Change, Fault
from chaoskit.model.result import Result
from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict
from chaoskit.recovery import recover

GUARDIAN_PATIENCE = 10.0
"""Seconds that a loaded machine may need for what takes the guardian a fraction of one."""


class Specimen(ABC):
    """One thing to hurt. Every property gets a new one."""

    folder: Path
    """A folder of the specimen's own; the state folder and the experiment file are put there."""

    @abstractmethod
    def target(self) -> Mapping[str, Any]:
        """What stands below `target:` in the file."""

    @abstractmethod
    def snapshot(self, runs: Sequence[str]) -> Json:
        """All that a fault may change, seen from outside: the same before and after, or it has
        left something. `runs`: ids whose marks must be nowhere."""

    @abstractmethod
    def vanish(self) -> None:
        """End it for good."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing of it."""

    def blast_radius(self) -> Mapping[str, Any]:
        """What it takes leave for in the file."""
        return {}

    def variables(self) -> Mapping[str, str]:
        """What a fault's examples may refer to: `${FOLDER}`, `${RESTART}`."""
        return {"FOLDER": str(self.folder)}


class Trial:
    """One fault with its parameters on one specimen."""

    def __init__(self, fault: str, params: Mapping[str, Any], specimen: Specimen) -> None:
        self.fault = fault
        self.specimen = specimen
        self.state = State(specimen.folder / "state")
        self._params = _filled(params, specimen.variables())

    def file(self, hold: str = "50ms") -> Path:
        step = {"fault": self.fault, "target": dict(self.specimen.target()), "for": hold}
        document = {
            "chaoskit": 1,
            "title": f"conformance of {self.fault}",
            "steady-state": [
                {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
            ],
            "method": [step | self._params],
            "blast-radius": dict(self.specimen.blast_radius()),
            "verify": [{"check": "there", "within": "1s"}],
        }
        path = self.specimen.folder / "experiment.json"
        path.write_text(json.dumps(document))
        return path

    @property
    def kind(self) -> type[Fault[Any]]:
        """The class of the fault, as it is on this kind of target."""
        from chaoskit import registry

        on = next(key for key in self.specimen.target() if key != "pick")
        return registry.fault(self.fault, on)

    def run(self, hold: str = "50ms") -> Result:
        return run(load(self.file(hold)), self.state)

    def start(self, *options: str, hold: str = "50ms") -> subprocess.Popen[bytes]:
        """The experiment in a process of its own; see `crash` for the options."""
        return subprocess.Popen(
            [sys.executable, "-m", "chaoskit.testing.crash", str(self.file(hold)),
             str(self.state.path), *options],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def latest(self) -> RunFolder:
        return self.state.find()

    def snapshot(self) -> Json:
        return self.specimen.snapshot([folder.id for folder in self.state.runs()])

    def wait_injected(self, runner: subprocess.Popen[bytes]) -> None:
        """Until the fault is in and proven; AssertionError when the runner ends before."""

        def injected() -> bool:
            return runner.poll() is not None or any(
                record["kind"] == "injected"
                for folder in self.state.runs()[:1]
                for record in folder.records()
            )

        assert until(injected, 20.0) and runner.poll() is None, (
            f"the fault was never injected: {self.latest().result().reason}"
        )

    def wait_settled(self) -> None:
        def settled() -> bool:
            return not self.state.left() and not self.state.unsettled()

        assert until(settled, GUARDIAN_PATIENCE), (
            f"{self.fault}: the guardian left the run open: {self.latest().result().left}"
        )

    def must_be(self, before: Json, when: str) -> None:
        """Wait until the world is as it was: what a kernel ends may take a moment to be gone."""
        if not until(lambda: self.snapshot() == before, 20.0):
            raise AssertionError(
                f"{self.fault}, {when}: not restored.\nbefore: {before}\nafter:  {self.snapshot()}"
            )


def effect_is_real(trial: Trial) -> None:
    """It holds, proven twice; while it is in, the world differs; afterwards it does not."""
    before = trial.snapshot()
    runner = trial.start(hold="2s")
    trial.wait_injected(runner)
    during = trial.snapshot()
    assert runner.wait(30) == 0, trial.latest().result().reason
    (step,) = trial.latest().result().steps
    assert step.proven and step.proven_again
    assert during != before, f"{trial.fault}: nothing to be seen of it from outside"
    trial.must_be(before, "after a run that held")


def undoing_twice_is_harmless(trial: Trial) -> None:
    """What is undone already is looked at and left alone."""
    from chaoskit.journal import Journal, cells
    from chaoskit.undo import revive, undo

    before = trial.snapshot()
    assert trial.run().verdict is Verdict.HELD
    trial.must_be(before, "after a run that held")
    folder = trial.latest()
    for _ in range(2):
        again = cells(folder.records())
        for cell in again:
            cell.over = ""
        lives = [revive(cell, folder, {}) for cell in again]
        journal = Journal(folder.path)
        stuck = undo(lives, journal)
        journal.close()
        assert not stuck, f"{trial.fault}: undoing again is stuck: {stuck}"
        trial.must_be(before, "after undoing once more")


def points(trial: Trial) -> list[str]:
    """Every exact point at which a run of this fault can die."""
    file = trial.specimen.folder / "points"
    assert trial.start("--points", str(file)).wait(60) == 0, trial.latest().result().reason
    return list(dict.fromkeys(file.read_text().split()))


def undone_after_death_at(trial: Trial, point: str, by: str) -> None:
    """Killed at that point, it is undone from the journal alone, by `guardian` or `recover`."""
    before = trial.snapshot()
    runner = trial.start("--at", point, "--guardian", "dies" if by == "recover" else "lives")
    code = runner.wait(60)
    # How often something is called that waits is not the same each time.
    waited = code == 0 and point.startswith("inside:")
    assert waited or code == -signal.SIGKILL, (
        f"{point} was never passed: {trial.latest().result().reason}"
    )
    if by == "recover":
        for folder in trial.state.left():
            result = recover(folder)
            assert not result.left, f"{trial.fault} at {point}: {result.left}"
    trial.wait_settled()
    trial.must_be(before, f"killed at {point}, undone by {by}")


def undone_after(trial: Trial, sent: Sequence[signal.Signals]) -> None:
    """However the runner is stopped or told to end while the fault is in, it is undone."""
    before = trial.snapshot()
    runner = trial.start(hold="60s")
    try:
        trial.wait_injected(runner)
        for number in sent:
            runner.send_signal(number)
            time.sleep(0.01)
        code = runner.wait(30)
    finally:
        runner.kill()
        runner.wait()
    trial.wait_settled()
    expected = -signal.SIGKILL if sent[0] in (signal.SIGSTOP, signal.SIGKILL) else 4
    assert code == expected, f"exit {code} after {sent}: {trial.latest().result().reason}"
    assert trial.latest().result().verdict is Verdict.ABORTED
    trial.must_be(before, f"after {[number.name for number in sent]}")


def a_foreign_value_is_stuck_for_its_cell_alone(trial: Trial) -> None:
    """A cell that somebody else has changed is left alone and told; the other cells come back."""
    kind = trial.kind
    look, unmake = kind.look, kind.unmake
    foreign: list[str] = []
    unmade: list[str] = []

    def meddled(fault: Fault[Any], target: Any, change: Change) -> Json:
        found = look(fault, target, change)
        return {"somebody else's": True} if change.key in foreign else found

    def counted(fault: Fault[Any], target: Any, change: Change) -> None:
        unmade.append(change.key)
        unmake(fault, target, change)

    def observer(event: Any) -> None:
        if event.kind == "injected" and not foreign:
            records = trial.latest().records()
            foreign.append(next(r["key"] for r in records if _changes(r, trial.fault)))
            kind.patience = 0.2

    before = trial.snapshot()
    patience = kind.patience
    try:
        kind.look, kind.unmake = meddled, counted  # type: ignore
        result = run(load(trial.file()), trial.state, observer=observer)
        assert result.verdict is Verdict.STUCK and result.exit_code == 5, result.reason
        assert [left.key for left in result.left] == foreign
        assert foreign[0] not in unmade, f"{trial.fault}: unmade what was somebody else's"
        made = [r["key"] for r in trial.latest().records() if _changes(r, trial.fault)]
        assert set(unmade) == set(made) - set(foreign)
    finally:
        kind.look, kind.unmake = look, unmake  # type: ignore[method-assign]
        kind.patience = patience
    assert not trial.state.left()[0].clean()
    assert not recover(trial.state.left()[0]).left
    trial.must_be(before, "after the foreign value went")


def a_vanished_target_is_no_error(trial: Trial) -> None:
    """It ends while the fault is in: there is nothing left to undo, and nothing was proven."""
    runner = trial.start(hold="3s")
    try:
        trial.wait_injected(runner)
        trial.specimen.vanish()
        code = runner.wait(30)
    finally:
        runner.kill()
        runner.wait()
    result = trial.latest().result()
    assert not result.left, result.left
    assert code in (0, 1, 6), f"exit {code}: {result.reason}"
    assert result.state == "done" and not trial.state.unsettled()


def an_effect_that_never_came_is_inconclusive(trial: Trial) -> None:
    """When making does nothing, the fault itself must see that its effect is not there."""
    kind = trial.kind
    make, patience = kind.make, kind.patience
    before = trial.snapshot()
    try:
        kind.make = lambda *_: None  # type: ignore[method-assign]
        kind.patience = 0.3
        result = trial.run()
    finally:
        kind.make, kind.patience = make, patience  # type: ignore[method-assign]
    assert result.verdict is Verdict.INCONCLUSIVE, (result.verdict, result.reason)
    trial.must_be(before, "after an effect that never came")


def an_effect_that_ends_early_is_inconclusive(trial: Trial) -> None:
    """When somebody takes the effect away during the hold, the second proof sees it."""
    from chaoskit.journal import cells
    from chaoskit.undo import revive

    def observer(event: Any) -> None:
        if event.kind == "injected":
            folder = trial.latest()
            for cell in cells(folder.records()):
                live = revive(cell, folder, {})
                try:
                    live.fault.unmake(live.target, cell.change)
                except Gone:
                    continue

    before = trial.snapshot()
    result = run(load(trial.file("300ms")), trial.state, observer=observer)
    assert result.verdict is Verdict.INCONCLUSIVE, (result.verdict, result.reason)
    trial.must_be(before, "after an effect that ended early")


def _changes(record: Mapping[str, Any], fault: str) -> bool:
    """Whether it is a change of that fault; what targets stand on has changes of its own."""
    return bool(record["kind"] == "change" and record["fault"] == fault)


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, variables) for item in value]
    if isinstance(value, str):
        for name, text in variables.items():
            value = value.replace(f"${{{name}}}", text)
    return value
