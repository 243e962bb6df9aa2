"""What a run promises its guardian, branch by branch: the first that is late counts."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bent import SHORT, bent, pause, records, told, write
from spawned import Spawned, spawning

from chaoskit.clock import now, until
from chaoskit.engine.guard import Guard
from chaoskit.engine.guardian import Watch
from chaoskit.engine.steps import UNDO_SECONDS, Steps
from chaoskit.journal import State

NEVER = float("inf")
EXACT = 0.5
"""Seconds of a loaded machine; the times that are compared are hundreds of them apart."""


class Heard:
    """A guard and what a guardian at the other end of its pipe knows."""

    def __init__(self) -> None:
        self.guard = Guard()
        self._end, self.guard._orders = os.pipe()
        os.set_blocking(self._end, False)
        self._watch = Watch()

    def left(self) -> float:
        """Seconds until the guardian takes the runner for hung."""
        with contextlib.suppress(BlockingIOError):
            self._watch.hear(os.read(self._end, 65536))
        return self._watch.expected - now()

    def close(self) -> None:
        self.guard._close()
        os.close(self._end)


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    made.close()


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=EXACT)


def test_the_first_of_several_promises_counts(heard: Heard) -> None:
    guard = heard.guard
    assert heard.left() == NEVER
    guard.expect("1.1", 100)
    assert heard.left() == about(100)
    guard.expect("1.2", 900)
    assert heard.left() == about(100), "a longer one has lengthened it"
    guard.expect("1.3", 50)
    assert heard.left() == about(50)
    guard.over("1.3")
    assert heard.left() == about(100)
    guard.over("1.1")
    assert heard.left() == about(900)
    guard.over("1.2")
    guard.over("never promised")
    assert heard.left() == NEVER


def test_a_promise_is_made_anew_by_the_same_name(heard: Heard) -> None:
    heard.guard.expect("1", 100)
    heard.guard.expect("1", 900)
    assert heard.left() == about(900)
    heard.guard.expect("1", 50)
    assert heard.left() == about(50)


def test_an_abort_hastens_all_but_the_undoing(heard: Heard) -> None:
    guard = heard.guard
    guard.expect("1.1", 900)
    guard.expect("1.2", 800)
    guard.expect("1.3", 300, undo=True)
    guard.hasten(100)
    assert heard.left() == about(100)
    guard.over("1.1")
    assert heard.left() == about(100), "only one of the branches was hastened"
    guard.over("1.2")
    assert heard.left() == about(300), "an undo under way was cut short"


def test_an_abort_lengthens_nothing(heard: Heard) -> None:
    heard.guard.expect("1", 50)
    heard.guard.hasten(100)
    assert heard.left() == about(50)


def test_what_is_promised_after_an_abort_is_hastened_too(heard: Heard) -> None:
    """A branch that was just beginning its step when another one's gate pulled."""
    session = SimpleNamespace(
        guard=heard.guard,
        abort=SimpleNamespace(by=""),
        experiment=SimpleNamespace(blast_radius=SimpleNamespace(max_duration=900.0)),
    )
    steps: Any = SimpleNamespace(session=session)
    Steps.promise(steps, "1.1")
    assert heard.left() == about(900 + UNDO_SECONDS)
    session.abort.by = "gate"
    Steps.promise(steps, "1.2")
    assert heard.left() == about(UNDO_SECONDS)


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


HANGS = """
import time
from chaoskit.faults.kill import Kill
Kill.patience = 0.1
def _hangs(*given):
    open({marker!r}, "w").close()
    time.sleep(600)
Kill.outcome = _hangs
"""


def two_branches(tmp_path: Path, spawned: Spawned, hold: str) -> Path:
    """One that waits for its fault to end by itself for a minute, beside one that will hang."""
    other = f"other-{spawned.name}"
    spawned.python()
    spawned.python(name=other)
    kill = {"fault": "kill", "target": {"process": {"cmdline": f"{other}$"}}, "for": hold}
    return write(tmp_path, {"parallel": [kill, pause(spawned, "60s", f"[^-]{spawned.name}")]})


@pytest.mark.parametrize("how", ["by itself", "aborted"])
def test_a_hung_branch_is_noticed_beside_one_that_is_fine(
    tmp_path: Path, spawned: Spawned, how: str
) -> None:
    """A short hold that hangs is late at its own end; a long one, soon after an abort."""
    file = two_branches(tmp_path, spawned, "200ms" if how == "by itself" else "60s")
    (process,) = [p for p in spawned.alive() if not p.cmdline()[-1].startswith("other-")]
    marker = tmp_path / "hangs"
    began = now()
    with bent(file, SHORT.format(1.0), HANGS.format(marker=str(marker))) as runner:
        assert until(lambda: len(records(file, "injected")) == 2, 30), runner.communicate(timeout=1)
        assert until(marker.exists, 30)
        if how == "aborted":
            assert runner.poll() is None
            runner.send_signal(signal.SIGTERM)
        assert until(lambda: runner.poll() is not None, 30), "nobody noticed the branch that hangs"
        assert now() - began < 50, "only the end of the other branch has ended it"
        assert runner.returncode == -signal.SIGKILL
        assert until(lambda: process.state() == "running", 20)
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
    assert "missed its own deadline" in told(file)
