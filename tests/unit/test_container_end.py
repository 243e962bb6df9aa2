"""Ending a container and having it back, on one that does just what a test says."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaoskit.errors import ChaoskitError
from chaoskit.faults import container_end
from chaoskit.faults.container_kill import KillContainer
from chaoskit.faults.restart import Restart
from chaoskit.faults.stop import Stop
from chaoskit.model.binding import Binding
from chaoskit.model.container import ContainerState
from chaoskit.model.fault import Change, Found

RUNS = ContainerState("running", "t0", 7, 0, 0, "no", "none", "", False, "runc")
ENDED = replace(RUNS, status="exited", pid=0, exit=137)


class Box:
    """What a fault asks of a container; `told` is what was done to it."""

    mark, key, started, here = "mark", "container x", "t0", True

    def __init__(self, folder: Path) -> None:
        self.binding = Binding(run="r", step="1", folder=folder)
        self.now = RUNS
        self.others = False
        self.told: list[str] = []
        self.after_start = replace(RUNS, started="t1")

    def state(self) -> ContainerState:
        return self.now

    def guests(self) -> list[str]:
        return []

    def replaced(self) -> bool:
        return self.others

    def signal(self, number: signal.Signals) -> None:
        self.told.append(number.name)
        self.now = ENDED

    def start(self) -> None:
        self.told.append("start")
        self.now = self.after_start

    def stop(self, grace: float) -> None:
        raise ChaoskitError("the request is lost")


def cell(box: Any) -> Change:
    (change,) = KillContainer().changes(box)
    return change


@pytest.fixture
def box(tmp_path: Path) -> Any:
    return Box(tmp_path)


def test_one_that_was_told_to_end_and_runs_still_is_ended_and_started(box: Any) -> None:
    change = cell(box)
    with pytest.raises(ChaoskitError):
        Stop(grace=0.0).make(box, change)
    assert Stop(grace=0.0).found(Stop(grace=0.0).look(box, change), change) is Found.OURS
    Stop(grace=0.0).unmake(box, change)
    assert box.told == ["SIGKILL", "start"]
    assert Stop(grace=0.0).found(Stop(grace=0.0).look(box, change), change) is Found.WAS


def test_who_runs_long_after_that_is_left_alone(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change = cell(box)
    with pytest.raises(ChaoskitError):
        Stop(grace=0.0).make(box, change)
    later = container_end.now() + 3600
    monkeypatch.setattr(container_end, "now", lambda: later)
    assert Stop(grace=0.0).look(box, change) == "running"
    monkeypatch.undo()
    monkeypatch.setattr(container_end, "boot_id", lambda: "another")
    assert Stop(grace=0.0).look(box, change) == "running"


def test_one_whom_an_orchestrator_has_replaced_is_not_started_beside_the_other(box: Any) -> None:
    change = cell(box)
    KillContainer().make(box, change)
    box.others = True
    fault = KillContainer()
    assert fault.found(fault.look(box, change), change) is Found.WAS
    assert fault.took(box, [change]) and Stop(grace=0.0).took(box, [change])
    fault.unmake(box, change)
    assert "start" not in box.told


@pytest.mark.parametrize("looks", [0, 2])
def test_one_that_ends_again_at_once_is_told_with_its_exit_code(
    box: Any, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    change = cell(box)
    KillContainer().make(box, change)
    left = [RUNS] * looks

    def state() -> ContainerState:
        if "start" not in box.told:
            return ENDED
        return left.pop() if left else replace(ENDED, exit=3)

    monkeypatch.setattr(box, "state", state)
    with pytest.raises(ChaoskitError, match="exit code 3"):
        KillContainer().unmake(box, change)


@pytest.mark.parametrize("fault", [KillContainer(), Stop(grace=0.0), Restart(grace=0.0)])
def test_one_that_would_be_removed_is_refused(box: Any, fault: Any) -> None:
    box.now = replace(RUNS, removes_itself=True)
    assert "--rm" in fault.refuse(box)
    box.now = replace(RUNS, status="paused")
    assert fault.refuse(box) == "it is paused"
