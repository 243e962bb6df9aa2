"""Undone from the journal alone: nobody is touched or counted who only seems to fill the role.

The guardian and `recover` are other processes than the runner: they do not know by themselves
what the runner ran in, and by the time they look, the selector may match others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent import bent, chaoskit, pause, records, told, write
from spawned import Spawned, spawning

from chaoskit.clock import until
from chaoskit.journal import State
from chaoskit.procfs import Process, with_argument
from chaoskit.targets.process import ProcessSelector, ProcessTarget


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def restarted(spawned: Spawned) -> str:
    """A command that starts it anew, says so, and is the test's to end."""
    marks = [f"{name}={value}" for name, value in spawned.mark.items()]
    words = shlex.join(["env", *marks, *spawned.words(name=spawned.name)])
    return f"echo started >>{spawned.folder}/starts; exec {words}"


def starts(spawned: Spawned) -> int:
    file = spawned.folder / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0


def kill(spawned: Spawned, **more: Any) -> dict[str, Any]:
    target = {"process": {"cmdline": spawned.name}}
    return {"fault": "kill", "target": target, "for": "60s", "restart": restarted(spawned)} | more


@contextlib.contextmanager
def in_a_shell_that_matches(spawned: Spawned, file: Path) -> Iterator[int]:
    """The runner's pid, once its fault is in. The shell that it was called from has the target's
    name in its own command line, and lives on when the runner dies."""
    script = '"$1" "$2" --state "$3" run "$4"; read -r _'
    command = str(Path(sys.executable).parent / "chaoskit")
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script, spawned.name, sys.executable, command,
         str(file.parent / "state"), str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert until(lambda: bool(records(file, "injected")), 30)
        yield int(records(file, "run")[0]["pid"])
        assert shell.poll() is None, "the shell was touched"
        assert Process.at(shell.pid).state() != "stopped"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()


@pytest.mark.parametrize("by", ["guardian", "recover"])
def test_the_shell_of_a_dead_runner_does_not_fill_the_role(
    tmp_path: Path, spawned: Spawned, by: str
) -> None:
    spawned.python()
    file = write(tmp_path, kill(spawned))
    with in_a_shell_that_matches(spawned, file) as runner:
        assert not spawned.alive()
        if by == "recover":
            (guardian,) = with_argument(f"chaoskit-{records(file, 'run')[0]['run']}")
            os.kill(runner, signal.SIGSTOP)
            guardian.signal(signal.SIGKILL)
        os.kill(runner, signal.SIGKILL)
        if by == "recover":
            assert not spawned.alive()
            done = chaoskit("recover", state=tmp_path / "state")
            assert done.returncode in (0, 4), done.stdout + done.stderr
        assert until(lambda: bool(spawned.alive()), 20), "nobody started it again"
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
        assert starts(spawned) == 1 and len(spawned.alive()) == 1
    assert told(file).startswith(f"{by}: ")


def test_who_matches_only_now_is_not_resumed(tmp_path: Path, spawned: Spawned) -> None:
    """Somebody else has stopped it, for a reason of their own."""
    process = spawned.python()
    file = write(tmp_path, pause(spawned))
    with bent(file) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        late = spawned.python()
        late.signal(signal.SIGSTOP)
        assert until(lambda: late.state() == "stopped", 20)
        runner.kill()
        assert until(lambda: process.state() == "running", 20)
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
        assert late.state() == "stopped", "it was not ours to resume"


def test_who_took_its_place_is_neither_killed_nor_doubled(tmp_path: Path, spawned: Spawned) -> None:
    spawned.python()
    file = write(tmp_path, kill(spawned))
    with bent(file) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        late = spawned.python()
        runner.kill()
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
        assert late.alive() and late.state() == "running"
        assert starts(spawned) == 0 and [p.key for p in spawned.alive()] == [late.key]


def test_one_of_two_is_missed_though_another_role_is_near(tmp_path: Path, spawned: Spawned) -> None:
    """The one that was left alone does not fill the place of the one that was killed."""
    both = [spawned.python(), spawned.python()]
    file = write(tmp_path, kill(spawned))
    with bent(file) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        (left,) = spawned.alive()
        assert left.key in {process.key for process in both}
        runner.kill()
        assert until(lambda: len(spawned.alive()) == 2, 20), "nobody started it again"
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
        assert left.alive() and starts(spawned) == 1


def found(spawned: Spawned) -> ProcessTarget:
    (target,) = ProcessSelector(cmdline=f"{spawned.name}$").find(spawned.binding())
    assert isinstance(target, ProcessTarget)
    return target


def test_the_journal_names_what_the_runner_runs_in(spawned: Spawned) -> None:
    spawned.python()
    ref = json.loads(json.dumps(found(spawned).ref()))
    own = Process.at(os.getpid())
    assert set(ref["spared"]) == {own.key, *(p.key for p in own.ancestors() if p.pid != 1)}
    assert Process.at(1).key not in ref["spared"]
    again = ProcessTarget.restore(ref, spawned.binding())
    assert again.ref() == found(spawned).ref()


def test_successors_are_the_newcomers_without_the_spared(spawned: Spawned) -> None:
    first = spawned.python()
    ref: Any = found(spawned).ref()
    shell, second, third = spawned.python(), spawned.python(), spawned.python()
    again = ProcessTarget.restore(ref | {"spared": [shell.key]}, spawned.binding())
    assert until(lambda: not again.newcomers(), 20)
    assert {p.key for p in again.peers()} == {first.key, second.key, third.key}
    # The oldest first: who came last has completed it.
    assert [p.key for p in again.successors()] == [second.key, third.key]
    first.signal(signal.SIGKILL)
    spawned.reap(first)
    assert [p.key for p in again.successors()] == [second.key, third.key]
    assert again.complement == 1


def test_a_journal_of_before_names_nobody_to_spare(spawned: Spawned) -> None:
    first = spawned.python()
    ref: Any = found(spawned).ref()
    del ref["spared"]
    again = ProcessTarget.restore(ref, spawned.binding())
    assert [p.key for p in again.peers()] == [first.key] and not again.spared


def test_a_pid_has_no_peers(spawned: Spawned) -> None:
    process = spawned.python()
    (target,) = ProcessSelector(pid=process.pid).find(spawned.binding())
    assert isinstance(target, ProcessTarget)
    again = ProcessTarget.restore(target.ref(), spawned.binding())
    assert again.peers() == [] == again.successors() and not again.has_role
