"""The way back of a kill: exactly one instance, whatever crashes."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bent
import pytest
from spawned import IDLE, STUBBORN, Spawned, spawning

from chaoskit.clock import until
from chaoskit.faults.kill import Kill
from chaoskit.journal import State
from chaoskit.model.fault import Change, Ends, Found
from chaoskit.procfs import Process, tree, with_argument
from chaoskit.targets.process import ProcessSelector, ProcessTarget


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def target(spawned: Spawned, **keys: Any) -> ProcessTarget:
    found = ProcessSelector(**keys or {"cmdline": spawned.name}).find(spawned.binding())
    assert isinstance(found[0], ProcessTarget)
    return found[0]


def inject(fault: Kill, made: ProcessTarget) -> list[Change]:
    done = []
    for change in fault.changes(made):
        assert (change.was, change.put) == ("alive", "dead")
        fault.make(made, change)
        done.append(change)
    return done


def exit_code(spawned: Spawned, process: Process) -> int | None:
    spawned.reap(process)
    (popen,) = [popen for popen in spawned._popen if popen.pid == process.pid]
    return popen.returncode


def undo(fault: Kill, made: ProcessTarget, changes: list[Change]) -> list[Found]:
    """As the engine does: by what the cell holds, newest first; what the cells hold afterwards."""
    for change in reversed(changes):
        if fault.found(fault.look(made, change), change) is Found.OURS:
            fault.unmake(made, change)
    found: list[Found] = []

    def back() -> bool:
        found[:] = [fault.found(fault.look(made, change), change) for change in changes]
        return set(found) == {Found.WAS}

    # What is only just starting is neither there nor gone.
    until(back, 5.0)
    return found


def worker(spawned: Spawned, *, before: str = "", wrapped: str = "exec {}") -> str:
    """A command that says in the file `starts` that it has begun, and becomes the process."""
    words = shlex.join(spawned.words(name=spawned.name))
    return f"echo started >>{spawned.folder}/starts; {before}{wrapped.format(words)}"


def starts(spawned: Spawned) -> int:
    file = spawned.folder / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.parametrize(
    "how",
    [{}, {"before": "sleep 1; "}, {"wrapped": "{} & exit 0"}],
    ids=["plain", "slow", "wrapper"],
)
def test_it_is_started_again_once(spawned: Spawned, how: dict[str, str]) -> None:
    process = spawned.python()
    fault, made = Kill(restart=worker(spawned, **how)), target(spawned, pid=process.pid)
    changes = inject(fault, made)
    assert until(lambda: fault.took(made, changes), 20)
    spawned.reap(process)
    assert fault.look(made, changes[0]) == "dead"
    assert undo(fault, made, changes) == [Found.WAS]
    fault.unmake(made, changes[0])
    again = ProcessTarget.restore(made.ref(), spawned.binding())
    assert undo(fault, again, changes) == [Found.WAS]
    assert until(lambda: bool(ProcessSelector(cmdline=f"{spawned.name}$").matching()), 20)
    assert starts(spawned) == 1 and fault.took(made, changes)
    assert fault.way_back() and fault.ends is Ends.BY_RECOVER


DYING = """
import fcntl, json, os, signal, sys
from pathlib import Path
from chaoskit.faults.kill import Kill
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Found
from chaoskit.targets.process import ProcessTarget

what = json.load(open(sys.argv[1]))
lock = open(sys.argv[1] + ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
binding = Binding(run="20260101-000000-abcdef", step="1", folder=Path(what["folder"]),
                  environment=what["environment"])
target = ProcessTarget.restore(what["ref"], binding)
fault, change = Kill(**what["fault"]), Change(what["key"], "alive", "dead")

def dies_after(module, name):
    real = getattr(module, name)
    def then_dies(*arguments, **more):
        real(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, then_dies)

if what["after"]:
    module, name = what["after"]
    dies_after({"os": os, "signal": signal}[module], name)
if what["act"] == "make":
    fault.make(target, change)
elif fault.found(fault.look(target, change), change) is Found.OURS:
    fault.unmake(target, change)
"""


def elsewhere(
    spawned: Spawned, made: ProcessTarget, change: Change, act: str, *after: str, **fault: Any
) -> subprocess.Popen[bytes]:
    """Make or undo it in a process of its own, under the run's lock; which dies right after the
    first call of the function `after`."""
    import json

    file = spawned.folder / f"what-{time.monotonic_ns()}"
    lock = spawned.folder / "lock"
    lock.touch()
    os.link(lock, f"{file}.lock")
    file.write_text(
        json.dumps(
            {
                "folder": str(spawned.folder), "environment": spawned.mark, "ref": made.ref(),
                "fault": fault, "key": change.key, "act": act, "after": list(after),
            }
        )
    )  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", DYING, str(file)])


def test_one_instance_when_the_undoer_dies_right_after_starting_it(spawned: Spawned) -> None:
    process = spawned.python()
    restart: dict[str, Any] = {"restart": worker(spawned, before="sleep 0.5; ")}
    fault, made = Kill(**restart), target(spawned, pid=process.pid)
    (change,) = inject(fault, made)
    spawned.reap(process)
    first = elsewhere(spawned, made, change, "undo", "os", "posix_spawn", **restart)
    second = elsewhere(spawned, made, change, "undo", **restart)
    third = elsewhere(spawned, made, change, "undo", **restart)
    assert first.wait(60) in (-signal.SIGKILL, 0)
    assert (second.wait(60), third.wait(60)) == (0, 0)
    assert until(lambda: starts(spawned) > 0, 20)
    time.sleep(0.2)
    assert starts(spawned) == 1
    assert undo(fault, made, [change]) == [Found.WAS] and starts(spawned) == 1


def test_who_took_its_place_needs_no_restart(spawned: Spawned) -> None:
    process = spawned.python()
    fault, made = Kill(restart=worker(spawned)), target(spawned)
    (change,) = inject(fault, made)
    spawned.reap(process)
    assert fault.look(made, change) == "dead"
    spawned.python()
    assert until(lambda: fault.look(made, change) == "alive", 20)
    assert fault.took(made, [change])
    fault.unmake(made, change)
    assert undo(fault, made, [change]) == [Found.WAS]
    assert starts(spawned) == 0


@pytest.mark.parametrize(
    "command",
    [
        "no-such-command-anywhere",
        "exit 1",
        "sleep 1; echo no config >&2; exit 1",
        "sleep 1; : NAME; exit 1",  # Until then it matches the role.
        ("/no/such",),
    ],
)
def test_a_command_that_cannot_work_is_not_taken_for_a_way_back(
    spawned: Spawned, command: str | tuple[str, ...]
) -> None:
    process = spawned.python()
    if isinstance(command, str):
        command = command.replace("NAME", spawned.name)
    fault, made = Kill(restart=command), target(spawned)
    changes = inject(fault, made)
    spawned.reap(process)
    assert undo(fault, made, changes) == [Found.OURS]


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_cannot_be_seen_is_not_started_a_second_time(
    spawned: Spawned, tmp_path: Path, stubborn: bool
) -> None:
    """It clears its environment, as `sudo` does, and nothing else tells that it is there."""
    process = spawned.python(STUBBORN) if stubborn else spawned.python()
    words = shlex.join(spawned.words(name=spawned.name))
    step = {
        "fault": "kill",
        "target": {"process": {"pid": process.pid}},
        "restart": f"env -i PATH=$PATH setsid -f sh -c {shlex.quote(f'exec {words}')}",
    }
    if stubborn:
        step |= {"signal": "TERM", "grace": "20s"}
    with bent.bent(bent.write(tmp_path, step | {"for": "100ms"})) as runner:
        if stubborn:
            assert until(lambda: bent.records(tmp_path / "experiment.json", "change"), 20)
            time.sleep(0.2)
            runner.kill()
            (run,) = State(tmp_path / "state").runs()
            assert until(lambda: not with_argument(f"chaoskit-{run.id}"), 40)
            assert run.result().state == "left"
        else:
            told = runner.communicate(timeout=60)[0]
            assert told.startswith("stuck"), told
    again = [p for p in ProcessSelector(cmdline=f"{spawned.name}$").matching() if p.alive()]
    again = [p for p in again if p.pid != process.pid]
    for one in again:
        one.signal(signal.SIGKILL)
    assert len(again) == 1
    (left,) = State(tmp_path / "state").left()[0].result().left
    assert "its restart was called" in left.why, left


def test_what_no_signal_ever_reached_is_left_alone(spawned: Spawned) -> None:
    process = spawned.python()
    fault, made = Kill(restart=worker(spawned)), target(spawned)
    (change,) = fault.changes(made)
    assert undo(fault, made, [change]) == [Found.WAS]
    fault.unmake(made, change)
    assert process.alive() and starts(spawned) == 0


def test_a_signal_in_flight_when_the_runner_died_is_seen_through(spawned: Spawned) -> None:
    """It still lives at the undo, and would end after it."""
    process = spawned.python(STUBBORN)
    keys: dict[str, Any] = {"signal": "TERM", "grace": 100.0, "restart": worker(spawned)}
    fault, made = Kill(**keys), target(spawned)
    (change,) = fault.changes(made)
    runner = elsewhere(spawned, made, change, "make", "signal", "pidfd_send_signal", **keys)
    assert runner.wait(60) == -signal.SIGKILL
    assert process.alive()
    assert fault.found(fault.look(made, change), change) is Found.OURS
    assert undo(fault, made, [change]) == [Found.WAS]
    assert not process.alive() and starts(spawned) == 1
    assert exit_code(spawned, process) == -signal.SIGKILL


def test_a_tree_half_killed_is_ended_before_it_is_started_again(spawned: Spawned) -> None:
    parent = spawned.python(f"[os.fork() for _ in range(2)]; {IDLE}")
    assert until(lambda: len(tree(parent)) == 4, 20)
    below = tree(parent)[1:]
    keys: dict[str, Any] = {"tree": True, "restart": worker(spawned)}
    fault, made = Kill(**keys), target(spawned, pid=parent.pid)
    first = next(iter(fault.changes(made)))
    runner = elsewhere(spawned, made, first, "make", "signal", "pidfd_send_signal", **keys)
    assert runner.wait(60) == -signal.SIGKILL
    spawned.reap(parent)
    assert all(p.alive() for p in below)
    assert undo(fault, made, [first]) == [Found.WAS]
    assert not any(p.alive() for p in below) and starts(spawned) == 1


def test_a_tree_is_started_once_however_many_of_it_died(spawned: Spawned) -> None:
    parent = spawned.python(f"[os.fork() for _ in range(2)]; {IDLE}")
    assert until(lambda: len(tree(parent)) == 4, 20)
    slow = worker(spawned, before="sleep 1; ")
    fault, made = Kill(tree=True, restart=slow), target(spawned, pid=parent.pid)
    changes = inject(fault, made)
    assert len(changes) == 4 and until(lambda: fault.took(made, changes), 20)
    assert undo(fault, made, changes) == [Found.WAS] * 4
    assert starts(spawned) == 1


def test_each_of_two_targets_is_started_again(spawned: Spawned) -> None:
    pair = [spawned.python(), spawned.python()]
    fault = Kill(restart=worker(spawned))
    both = ProcessSelector(cmdline=spawned.name).find(spawned.binding())
    done = [(made, inject(fault, made)) for made in both if isinstance(made, ProcessTarget)]
    for process in pair:
        spawned.reap(process)
    for made, changes in done:
        assert undo(fault, made, changes) == [Found.WAS]
    assert until(lambda: starts(spawned) == 2, 20)
    for made, changes in done:
        assert undo(fault, made, changes) == [Found.WAS]
    assert starts(spawned) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_be_signalled_is_not_doomed(spawned: Spawned) -> None:
    """Nothing was done, so an undo finds nothing to do."""
    process = spawned.python()
    made, folder = target(spawned), Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        code = (
            "import os, sys; from pathlib import Path; from chaoskit.faults.kill import Kill; "
            "from chaoskit.model.binding import Binding; from chaoskit.procfs import Process; "
            "from chaoskit.targets.process import ProcessTarget\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"b = Binding(run='r', step='1', folder=Path({str(folder)!r}))\n"
            f"t = ProcessTarget.restore({made.ref()!r}, b)\n"
            "f = Kill(restart='true'); (c,) = f.changes(t)\n"
            "try: f.make(t, c)\n"
            "except PermissionError: print(f.look(t, c), os.listdir(b.folder))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "alive []\n", done.stdout + done.stderr
        assert process.alive()
    finally:
        shutil.rmtree(folder)
