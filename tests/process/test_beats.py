"""The runner is watched to its very end: slow is not hung, and hung or stopped is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent import SHORT, bent, pause, records, runs, told, write
from spawned import Spawned, spawning

from chaoskit.clock import until
from chaoskit.journal import State

SLOW = 2.0
"""Seconds, more than three times what the guardian bears without a beat."""


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def slow(where: str, seconds: float = SLOW, when: str = "True") -> str:
    """A bend: that method takes so long. when: an expression of its arguments `given`."""
    module, _, name = where.rpartition(":")
    owner, _, method = name.rpartition(".")
    return f"""
import time
from {module} import {owner}
_real_{method} = {owner}.{method}
def _slow(*given, **named):
    if {when}:
        open({{marker!r}}, "a").write("{method}\\n")
        time.sleep({seconds})
    return _real_{method}(*given, **named)
{owner}.{method} = _slow
"""


@pytest.mark.parametrize(
    "where",
    [
        "chaoskit.journal:Journal.sync",
        "chaoskit.journal:Journal.close",
        "chaoskit.journal:RunFolder.settled",
        "chaoskit.journal:Lock.drop",
    ],
)
def test_a_disk_that_is_slow_at_the_end_is_no_hung_runner(
    tmp_path: Path, spawned: Spawned, where: str
) -> None:
    spawned.python()
    file, marker = write(tmp_path, pause(spawned, "100ms")), tmp_path / "marker"
    with bent(file, slow(where).format(marker=str(marker))) as runner:
        out, _ = runner.communicate(timeout=60)
    assert marker.exists(), "the bend was never met"
    assert runner.returncode == 0 and out == "held runner\n", out


@pytest.mark.parametrize(
    "where", ["chaoskit.faults.pause:Pause.unmake", "chaoskit.engine.watch:Watch.verify"]
)
def test_an_undo_and_a_verification_that_are_slow_are_no_hung_runner(
    tmp_path: Path, spawned: Spawned, where: str
) -> None:
    spawned.python()
    file, marker = write(tmp_path, pause(spawned, "100ms")), tmp_path / "marker"
    with bent(file, slow(where).format(marker=str(marker))) as runner:
        out, _ = runner.communicate(timeout=60)
    assert marker.exists(), "the bend was never met"
    assert runner.returncode == 0 and out == "held runner\n", out


@pytest.mark.parametrize(
    ("where", "when"),
    [
        ("chaoskit.faults.pause:Pause.unmake", "True"),
        ("chaoskit.engine.watch:Watch.verify", "True"),
        ("chaoskit.journal:Journal.note", "given[1] == 'verdict'"),
        ("chaoskit.journal:RunFolder.settled", "True"),
    ],
    ids=["undo", "verify", "verdict", "settling"],
)
def test_a_runner_that_is_stopped_late_is_noticed(
    tmp_path: Path, spawned: Spawned, where: str, when: str
) -> None:
    process = spawned.python()
    file, marker = write(tmp_path, pause(spawned, "100ms")), tmp_path / "marker"
    with bent(file, slow(where, 60.0, when).format(marker=str(marker))) as runner:
        assert until(marker.exists, 30)
        os.kill(runner.pid, signal.SIGSTOP)
        assert until(lambda: runner.poll() is not None, 20), "nobody noticed"
        assert runner.returncode == -signal.SIGKILL
        assert until(lambda: process.state() == "running", 20)
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
    assert "the runner was stopped" in journals(file), told(file)
    assert told(file).startswith("guardian: ") and not runs(file)[0].result().left


@pytest.mark.parametrize(
    "where", ["chaoskit.faults.pause:Pause.unmake", "chaoskit.engine.watch:Watch.verify"]
)
def test_a_runner_that_beats_and_gets_nowhere_is_noticed(
    tmp_path: Path, spawned: Spawned, where: str
) -> None:
    """Its ears hear and it beats, but what it promised is late."""
    process = spawned.python()
    file, marker = write(tmp_path, pause(spawned, "100ms")), tmp_path / "marker"
    patience = "from chaoskit.faults.pause import Pause\nPause.patience = 0.1"
    hung = slow(where, 120.0).format(marker=str(marker))
    with bent(file, SHORT.format(1.0), patience, hung) as runner:
        assert until(marker.exists, 30)
        assert until(lambda: runner.poll() is not None, 30), "nobody noticed"
        assert runner.returncode == -signal.SIGKILL
        assert until(lambda: process.state() == "running", 20)
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
    assert "missed its own deadline" in journals(file), told(file)


def test_a_verification_may_take_as_long_as_the_file_says(tmp_path: Path, spawned: Spawned) -> None:
    """Much longer than what is granted to everything: it is promised for what it is."""
    spawned.python()
    gone = tmp_path / "comes-back"
    gone.touch()
    check = {"name": "there", "file": {"path": str(gone), "timeout": "100ms"},
             "expect": {"exists": True}}  # fmt: skip
    more: dict[str, Any] = {"steady-state": [check], "gates": []}
    file = write(
        tmp_path,
        {"run": ["rm", str(gone)]},
        {"run": ["sh", "-c", f"(sleep 6; touch {gone}) >&- 2>&- &"]},
        within="30s",
        **more,
    )
    with bent(file, SHORT.format(1.0)) as runner:
        out, _ = runner.communicate(timeout=90)
    assert runner.returncode == 0 and out.endswith(" runner\n"), out
    late = [r for r in records(file, "sample") if r["phase"] == "verify" and r["sight"] == "ok"]
    assert late and late[0]["t"] > 4


def test_what_is_over_is_promised_no_more(tmp_path: Path, spawned: Spawned) -> None:
    """Neither a fault that is undone nor a verification that is through cuts short what comes."""
    spawned.python()
    file, marker = write(tmp_path, pause(spawned, "100ms"), {"wait": "5s"}), tmp_path / "marker"
    patience = "from chaoskit.faults.pause import Pause\nPause.patience = 0.1"
    late = slow("chaoskit.journal:Journal.close", 5.0).format(marker=str(marker))
    with bent(file, SHORT.format(1.0), patience, late) as runner:
        out, _ = runner.communicate(timeout=60)
    assert marker.exists(), "the bend was never met"
    assert runner.returncode == 0 and out == "held runner\n", out


def journals(file: Path) -> str:
    return "\n".join((folder.path / "journal.jsonl").read_text() for folder in runs(file))


def test_the_guardian_ends_with_its_run(tmp_path: Path, spawned: Spawned) -> None:
    """Once let go it stays for nothing, though it had a deadline to watch."""
    spawned.python()
    file = write(tmp_path, pause(spawned, "100ms"))
    with bent(file) as runner:
        runner.communicate(timeout=60)
    run = runs(file)[0].id
    mark = f"chaoskit-{run}"
    assert until(lambda: mark not in _everybody(), 20)


def _everybody() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, timeout=20).stdout
