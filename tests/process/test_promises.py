"""The three promises under violence of no particular fault: disks, halts, clocks, claims."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.journal import State
from chaoskit.procfs import Process

CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")


class Victim:
    """A sleeper known by a name of its own."""

    def __init__(self) -> None:
        self.name = f"victim-{uuid.uuid4().hex[:12]}"
        self.popen = subprocess.Popen(["/bin/sh", "-c", "sleep 600; :", self.name])
        self.process = Process.at(self.popen.pid)

    def state(self) -> str:
        return self.process.state()

    def end(self) -> None:
        for process in [*_children(self.process), self.process]:
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        self.popen.wait()


def _children(process: Process) -> list[Process]:
    from chaoskit.procfs import tree

    return tree(process)[1:]


@pytest.fixture
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.end()


def write(path: Path, victim: Victim, hold: str = "30s", **more: Any) -> Path:
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
        ],
        "method": [
            {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": hold}
        ],
        "verify": [{"check": "there", "within": "1s"}],
    }
    path.write_text(json.dumps(document | more))
    return path


def chaoskit(*words: str | Path, state: Path, wait: bool = True, **more: Any) -> Any:
    command = [CHAOSKIT, "--state", str(state), *map(str, words)]
    if wait:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@contextlib.contextmanager
def running(
    file: Path, state: Path, victim: Victim, *words: str, **more: Any
) -> Iterator[subprocess.Popen[str]]:
    """A run whose fault is in."""
    runner = chaoskit("run", file, *words, state=state, wait=False, **more)
    try:
        assert until(lambda: victim.state() == "stopped", 20), runner.communicate(timeout=5)
        assert until(lambda: _injected(state), 20)
        yield runner
    finally:
        runner.kill()
        runner.communicate()


def _injected(state: Path) -> bool:
    return any(r["kind"] == "injected" for folder in State(state).runs() for r in folder.records())


def records(state: Path, kind: str) -> list[dict[str, Any]]:
    return [r for f in State(state).runs() for r in f.records() if r["kind"] == kind]


def test_a_halt_undoes_every_run_and_lets_none_start(tmp_path: Path, victim: Victim) -> None:
    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim) as runner:
        pulled = chaoskit("halt", "--reason", "customers complain", state=state)
        assert pulled.returncode == 0
        out, _ = runner.communicate(timeout=20)
        assert runner.returncode == 4 and "customers complain" in out
        assert victim.state() == "running"
    again = chaoskit("run", file, state=state)
    assert again.returncode == 3 and "customers complain" in again.stdout + again.stderr
    assert "halted by" in again.stdout + again.stderr
    assert chaoskit("plan", file, state=state).returncode == 3
    assert chaoskit("release", state=state).returncode == 0
    assert chaoskit("run", write(file, victim, "100ms"), state=state).returncode == 0
    assert not records(state, "stuck")


def test_two_runs_cannot_hurt_the_same_process(tmp_path: Path, victim: Victim) -> None:
    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim):
        second = chaoskit("run", file, state=state)
        assert second.returncode == 3
        assert "held by run" in second.stdout + second.stderr
        # Nor one that names a part of it.
        (child,) = _children(victim.process)
        part = write(tmp_path / "part.json", victim, method=[
            {"fault": "kill", "target": {"process": {"pid": child.pid}}, "for": "100ms"}
        ])  # fmt: skip
        third = chaoskit("run", part, state=state)
        assert third.returncode == 3 and child.alive()


def test_a_run_that_died_holds_its_claims_until_it_is_recovered(
    tmp_path: Path, victim: Victim
) -> None:
    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim) as runner:
        _kill_guardian(state)
        runner.kill()
        runner.wait()
    assert victim.state() == "stopped"
    status = chaoskit("status", state=state)
    assert "chaoskit recover" in status.stdout + status.stderr
    refused = chaoskit("run", file, state=state)
    assert refused.returncode == 3 and "held by run" in refused.stdout + refused.stderr
    recovered = chaoskit("recover", state=state)
    assert recovered.returncode in (0, 4), recovered.stdout + recovered.stderr
    assert victim.state() == "running"
    assert chaoskit("recover", state=state).returncode == 0
    assert chaoskit("run", write(file, victim, "100ms"), state=state).returncode == 0


def _kill_guardian(state: Path) -> None:
    """Kill the guardian of the latest run, and the runner before it can notice."""
    from chaoskit.procfs import with_argument

    run = State(state).find().id
    (head,) = records(state, "run")
    (guardian,) = with_argument(f"chaoskit-{run}")
    os.kill(head["pid"], signal.SIGSTOP)
    guardian.signal(signal.SIGKILL)
    os.kill(head["pid"], signal.SIGKILL)


def _left_in(state: Path, victim: Victim) -> Path:
    """The journal of a run that died with its guardian while the victim was frozen."""
    file = write(state.parent / "e.json", victim)
    with running(file, state, victim) as runner:
        _kill_guardian(state)
        runner.kill()
        runner.wait()
    return State(state).find().path / "journal.jsonl"


EARLY = """\
import os, signal
from chaoskit import report
from chaoskit.engine.session import Session

def at(owner, name):
    real = getattr(owner, name)
    def bent(*words):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*words)
    setattr(owner, name, bent)

at({})
"""
"""Python starts by it: a signal comes when the run is not up yet, or not any more."""


@pytest.mark.parametrize(
    ("place", "hurt"), [("Session, '_head'", 0), ("Session, 'run'", 0), ("report, 'write'", 1)]
)
def test_a_signal_while_no_run_is_up_lets_none_begin(
    tmp_path: Path, victim: Victim, place: str, hurt: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(EARLY.format(place))
    state = tmp_path / "state"
    files = [write(tmp_path / f"{name}.json", victim, "100ms") for name in ("a", "b")]
    early = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = chaoskit("run", *files, state=state, env=early)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "1 more experiments were not run" in done.stderr
    assert len(records(state, "injected")) == hurt
    assert victim.state() == "running"


def test_a_guardian_that_dies_ends_the_run(tmp_path: Path, victim: Victim) -> None:
    from chaoskit.procfs import with_argument

    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim) as runner:
        run = State(state).find().id
        for guardian in with_argument(f"chaoskit-{run}"):
            guardian.signal(signal.SIGKILL)
        out, _ = runner.communicate(timeout=20)
        assert runner.returncode == 7 and "guardian" in out
        assert victim.state() == "running"


def test_a_guardian_that_is_frozen_ends_the_run(tmp_path: Path, victim: Victim) -> None:
    """It would not let go of anything if the runner died now."""
    from chaoskit.procfs import with_argument

    state, file = tmp_path / "state", write(tmp_path / "e.json", victim, "100s")
    with running(file, state, victim) as runner:
        (guardian,) = with_argument(f"chaoskit-{State(state).find().id}")
        guardian.signal(signal.SIGSTOP)
        try:
            assert until(lambda: victim.state() == "running", 45)
        finally:
            guardian.signal(signal.SIGCONT)
        out, _ = runner.communicate(timeout=30)
        assert runner.returncode == 7 and "the guardian does not answer" in out, out


def test_what_was_hurt_on_another_machine_is_not_gone(tmp_path: Path, victim: Victim) -> None:
    """The state folder may be on a disk that several machines see."""
    state = tmp_path / "state"
    journal = _left_in(state, victim)
    there = journal.read_text()
    (head,) = records(state, "run")
    elsewhere = there.replace(victim.process.boot, "0b00ed00")
    journal.write_text(elsewhere.replace(f'"machine":"{head["machine"]}"', '"machine":"0b00ed00"'))
    for _ in range(2 if head["machine"] else 0):  # A container may have no id of its machine.
        told = chaoskit("recover", state=state)
        assert told.returncode == 3, told.stdout + told.stderr
        assert "was begun on another machine" in " ".join((told.stdout + told.stderr).split())
    assert victim.state() == "stopped"
    journal.write_text(there)
    assert chaoskit("recover", state=state).returncode in (0, 4)
    assert victim.state() == "running"


def test_what_was_hurt_among_other_processes_is_not_gone(tmp_path: Path, victim: Victim) -> None:
    """`recover` in a container that has the state folder: its process numbers are others. Who knows
    that there is nobody any more says so."""
    if os.geteuid() != 0:
        pytest.skip("only root can have other process numbers")
    state = tmp_path / "state"
    _left_in(state, victim)
    there = ["unshare", "--pid", "--fork", "--mount-proc", CHAOSKIT, "--state", str(state)]

    def recover(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*there, "recover", *words], capture_output=True, text=True, timeout=60
        )

    told = recover()
    assert told.returncode == 3, told.stdout + told.stderr
    said = " ".join((told.stdout + told.stderr).split())
    assert "processes that are not seen here" in said and "--force" in said
    assert victim.state() == "stopped"
    kept = (State(state).find().path / "journal.jsonl").read_bytes()
    left = [str(one.cell) for one in State(state).find().result().left]
    forced = recover(State(state).find().id, *(word for n in left for word in ("--force", n)))
    assert forced.returncode in (0, 4), forced.stdout + forced.stderr
    State(state).find().marker.touch()
    (State(state).find().path / "journal.jsonl").write_bytes(kept)
    assert chaoskit("recover", state=state).returncode in (0, 4)
    assert victim.state() == "running"


@contextlib.contextmanager
def acting(
    folder: Path, victim: Victim, command: str, undo: str, **more: Any
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run in a folder of its own that has done something there, and holds the victim."""
    work = folder / "work"
    work.mkdir()
    method = [
        {"run": command, "undo": undo},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]
    file = write(folder / "e.json", victim, method=method)
    with running(file, folder / "state", victim, cwd=work, **more) as runner:
        yield runner, work


@pytest.mark.parametrize("by", ["runner", "guardian"])
def test_an_action_is_undone_though_its_folder_is_gone(
    tmp_path: Path, victim: Victim, by: str
) -> None:
    """And nothing that a relative path may mean somewhere else is touched."""
    state, told = tmp_path / "state", tmp_path / "told"
    with acting(tmp_path, victim, "true", f"pwd >{told}; echo undone >>{told}") as (runner, work):
        work.rmdir()
        runner.send_signal(signal.SIGINT if by == "runner" else signal.SIGKILL)
        runner.wait()
        assert until(lambda: not State(state).unsettled(), 20)
    assert told.read_text().endswith("undone\n")
    if by == "guardian":
        assert told.read_text().startswith(str(State(state).find().path))


@pytest.mark.parametrize("by", ["guardian", "recover"])
def test_an_action_is_undone_where_it_was_done(tmp_path: Path, victim: Victim, by: str) -> None:
    """And with the environment that it had: none of ours."""
    state, told = tmp_path / "state", tmp_path / "told"
    env = os.environ | {"PYTHONPATH": "/their/own"}
    undo = f'rmdir here && echo "$PYTHONPATH" >{told}'
    with acting(tmp_path, victim, "mkdir here", undo, env=env) as (runner, work):
        assert (work / "here").is_dir()
        if by == "recover":
            _kill_guardian(state)
        runner.kill()
        runner.wait()
        if by == "recover":
            done = chaoskit("recover", state=state, env=env, cwd="/")
            assert done.returncode in (0, 4), done.stdout + done.stderr
        assert until(lambda: not State(state).unsettled(), 20)
    assert not (work / "here").exists() and told.read_text() == "/their/own\n"


FORKING = """\
import chaoskit, os, signal, sys, threading, time
import chaoskit.engine
injected = threading.Event()
run = threading.Thread(target=chaoskit.run, args=(chaoskit.load(sys.argv[1]),),
    kwargs={"state": sys.argv[2], "observer": lambda e: e.kind == "injected" and injected.set()})
run.start()
injected.wait(60)
child = os.fork()
if not child:
    os.setsid()
    time.sleep(60)
    os._exit(0)
open(sys.argv[3], "w").write(str(child))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_forked_child_of_the_program_keeps_nothing_of_a_run(
    tmp_path: Path, victim: Victim
) -> None:
    """As `multiprocessing` makes them: it lives on, and would hold the run's lock."""
    state, told = tmp_path / "state", tmp_path / "child"
    file = write(tmp_path / "e.json", victim)
    done = subprocess.run([sys.executable, "-c", FORKING, file, state, told], timeout=60)
    assert done.returncode == -signal.SIGKILL
    child = Process.at(int(told.read_text()))
    try:
        assert until(lambda: victim.state() == "running", 20)
        assert until(lambda: not State(state).unsettled(), 20)
        assert child.alive()
    finally:
        child.signal(signal.SIGKILL)


TRACER = """\
import ctypes, sys, time
assert ctypes.CDLL(None, use_errno=True).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0
print("traced", flush=True)
time.sleep(60)
"""
"""PTRACE_SEIZE, as `strace -p` does."""


@contextlib.contextmanager
def traced(victim: Victim) -> Iterator[None]:
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(victim.popen.pid)], stdout=subprocess.PIPE
    )
    try:
        assert tracer.stdout and tracer.stdout.readline() == b"traced\n"
        yield
    finally:
        tracer.kill()
        tracer.communicate()


def test_who_is_traced_while_frozen_goes_on_again(tmp_path: Path, victim: Victim) -> None:
    """As one does with a process that stands still; the tracer leaves after the run."""
    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim) as runner, traced(victim):
        assert until(lambda: victim.state() == "traced", 20)
        runner.send_signal(signal.SIGINT)
        out, err = runner.communicate(timeout=30)
    assert runner.returncode == 4, out + err
    assert until(lambda: victim.state() == "running", 20)


def test_who_was_traced_before_goes_on_again(tmp_path: Path, victim: Victim) -> None:
    """A tracer stops it at each of its calls: it may have been seen so."""
    state = tmp_path / "state"
    journal = _left_in(state, victim)
    journal.write_text(journal.read_text().replace('"was":"running"', '"was":"traced"'))
    with traced(victim):
        assert until(lambda: victim.state() == "traced", 20)
        done = chaoskit("recover", state=state)
        assert done.returncode in (0, 4), done.stdout + done.stderr
    assert until(lambda: victim.state() == "running", 20)


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Path]:
    """A control group that can be frozen, v1 or v2; thawed and removed afterwards."""
    for base in (Path("/sys/fs/cgroup/freezer"), Path("/sys/fs/cgroup/unified"),
                 Path("/sys/fs/cgroup")):  # fmt: skip
        group = base / f"chaoskit-test-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / "cgroup.procs").exists():
                break
            group.rmdir()
    else:
        pytest.skip("no control group can be made here")
    yield group
    freeze(group, False)
    assert until(lambda: not (group / "cgroup.procs").read_text(), 10)
    group.rmdir()


def freeze(group: Path, frozen: bool) -> None:
    if (group / "freezer.state").exists():
        (group / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
    else:
        (group / "cgroup.freeze").write_text("1" if frozen else "0")


def test_a_runner_frozen_by_its_control_group_is_undone(
    tmp_path: Path, victim: Victim, freezer: Path
) -> None:
    """On cgroup v1 it does not even die when it is killed."""
    state, file = tmp_path / "state", write(tmp_path / "e.json", victim)
    with running(file, state, victim) as runner:
        (freezer / "cgroup.procs").write_text(str(runner.pid))
        freeze(freezer, True)
        assert until(lambda: victim.state() == "running", 10)
        assert until(lambda: not State(state).unsettled(), 10)
        freeze(freezer, False)
        assert runner.wait(10) == -signal.SIGKILL
    result = State(state).find().result()
    assert result.undone_by == "guardian" and not result.left


def test_a_long_undo_is_not_taken_for_a_hung_runner(tmp_path: Path, victim: Victim) -> None:
    """The guardian grants an undo command its own time-out, also when a run aborts meanwhile."""
    marker = tmp_path / "undone"
    method = [
        {"run": ["true"], "timeout": "60s", "undo": f"sleep 22; echo once >> {marker}"},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]
    file = write(tmp_path / "e.json", victim, method=method)
    with running(file, tmp_path / "state", victim) as runner:
        runner.send_signal(signal.SIGINT)
        time.sleep(2)
        runner.send_signal(signal.SIGINT)
        out, _ = runner.communicate(timeout=60)
        assert runner.returncode == 4, out
    assert marker.read_text() == "once\n"


def test_the_hard_deadline_ends_every_run(tmp_path: Path, victim: Victim) -> None:
    file = write(tmp_path / "e.json", victim, "900ms", **{"blast-radius": {"max-duration": "1s"}},
                 method=[
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "500ms"},
        {"run": "sleep 30"},
    ])  # fmt: skip
    done = chaoskit("run", file, state=tmp_path / "state")
    assert done.returncode == 4 and "max-duration" in done.stdout
    assert victim.state() == "running"
    assert not _sleeping_under(records(tmp_path / "state", "run")[0]["run"])


def _sleeping_under(run: str) -> list[Process]:
    from chaoskit.procfs import with_environment

    return [
        p
        for mark in (f"chaoskit-{run}-probe", f"chaoskit-{run}-1", f"chaoskit-{run}-2")
        for p in with_environment(f"CHAOSKIT_COMMAND={mark}".encode())
    ]


def test_no_command_of_a_killed_runner_goes_on(tmp_path: Path, victim: Victim) -> None:
    state = tmp_path / "state"
    file = write(tmp_path / "e.json", victim, method=[{"run": "sleep 300 & sleep 300; wait"}])
    runner = chaoskit("run", file, state=state, wait=False)
    try:
        assert until(lambda: bool(records(state, "change")), 20)
        run = records(state, "run")[0]["run"]
        assert until(lambda: len(_sleeping_under(run)) >= 2, 10)
        runner.kill()
        assert until(lambda: not _sleeping_under(run), 10)
        assert until(lambda: not State(state).unsettled(), 10)
    finally:
        runner.kill()
        runner.communicate()


def test_the_undo_of_an_action_runs_however_the_run_ends(tmp_path: Path, victim: Victim) -> None:
    state, marker = tmp_path / "state", tmp_path / "flag"
    method = [
        {"run": ["touch", str(marker)], "undo": ["rm", "-f", str(marker)]},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]
    file = write(tmp_path / "e.json", victim, method=method)
    for how in (signal.SIGTERM, signal.SIGKILL):
        with running(file, state, victim) as runner:
            assert marker.exists()
            runner.send_signal(how)
            runner.wait(20)
        assert until(lambda: not State(state).unsettled(), 10)
        assert not marker.exists() and victim.state() == "running"


def test_the_guardian_claims_no_way_back_for_what_has_none(tmp_path: Path, victim: Victim) -> None:
    state = tmp_path / "state"
    method = [
        {"run": ["true"]},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]
    with running(write(tmp_path / "e.json", victim, method=method), state, victim) as runner:
        runner.kill()
        runner.wait(20)
    assert until(lambda: not State(state).unsettled(), 10)
    result = State(state).find().result()
    assert result.reason.endswith("the guardian put everything that can be back")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        until(
            lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, 9
        )


def fill(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def test_a_full_disk_is_noticed_before_anything_is_injected(
    small_disk: Path, tmp_path: Path, victim: Victim
) -> None:
    file = write(tmp_path / "e.json", victim, "100ms")
    fill(small_disk)
    refused = chaoskit("run", file, state=small_disk / "state")
    assert refused.returncode in (3, 7), refused.stdout + refused.stderr
    assert "no space left" in refused.stdout + refused.stderr
    assert victim.state() == "running"


def test_a_disk_that_fills_stops_the_run_and_not_the_undo(
    small_disk: Path, tmp_path: Path, victim: Victim
) -> None:
    gates = {"gates": [{"check": "there", "every": "20ms"}]}
    file = write(tmp_path / "e.json", victim, **gates)
    with running(file, small_disk / "state", victim) as runner:
        fill(small_disk)
        out, _ = runner.communicate(timeout=30)
        assert runner.returncode == 7, out
        assert "no space left" in out
        assert victim.state() == "running"
    assert not State(small_disk / "state").unsettled()


def test_a_lost_state_folder_stops_the_run_and_not_the_undo(tmp_path: Path, victim: Victim) -> None:
    import shutil

    state = tmp_path / "state"
    method = [
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "1s"},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]
    file = write(tmp_path / "e.json", victim, method=method)
    with running(file, state, victim) as runner:
        shutil.rmtree(state)
        out, err = runner.communicate(timeout=30)
        assert runner.returncode == 7, out + err
        assert victim.state() == "running"
        assert "Traceback" not in out + err


def test_a_state_folder_that_cannot_be_written_is_refused(tmp_path: Path, victim: Victim) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = chaoskit("run", write(tmp_path / "e.json", victim), state=blocked)
    assert done.returncode in (3, 7) and "state folder" in done.stderr + done.stdout
    assert victim.state() == "running"


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def test_a_clock_that_jumps_changes_no_hold_and_no_gate(tmp_path: Path, victim: Victim) -> None:
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed")
    state, moment = tmp_path / "state", tmp_path / "moment"
    moment.write_text("+0d")
    clock = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(moment),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(tmp_path),
    }
    # Told to leave the monotonic clock alone, libfaketime still counts a sleep until some moment
    # of that clock from the wall's, and the kernel refuses the sum: Python sleeps another way.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda pause: select.select([], [], [], pause)\n"
    )
    file = write(tmp_path / "e.json", victim, "5s")
    began = time.monotonic()
    with running(file, state, victim, env=os.environ | clock) as runner:
        for jump in ("-400d", "+1d", "+400d"):
            moment.write_text(jump)
            time.sleep(0.3)
            assert victim.state() == "stopped"
        out, err = runner.communicate(timeout=30)
        assert runner.returncode == 0, out + err
    assert 5.0 <= time.monotonic() - began < 30.0
    assert victim.state() == "running"
    stamps = {record["at"][:4] for record in State(state).find().records()}
    assert len(stamps) > 1, "the clock did not jump"


def test_secrets_appear_nowhere(tmp_path: Path, victim: Victim) -> None:
    state, secret = tmp_path / "state", "s3cr3t/pässword&1"
    method = [
        {"run": "test \"$PASSWORD\" = \"$EXPECTED\" && echo $PASSWORD",
         "env": {"EXPECTED": "${PASSWORD}"}, "undo": "echo $PASSWORD >&2"},
        {"fault": "kill", "target": {"process": {"cmdline": victim.name}}, "tree": True,
         "for": "300ms", "restart": "test -n \"$PASSWORD\" && exec sleep 2"},
    ]  # fmt: skip
    steady = [
        {"name": "it prints", "command": {"run": "echo $PASSWORD; echo $PASSWORD >&2"},
         "expect": {"exit": 0, "output": {"contains": "3cr3t"}, "errors": {"matches": "nothing"}}},
    ]  # fmt: skip
    file = write(
        tmp_path / "e.json", victim, method=method, variables={"PASSWORD": {"secret": True}}
    )
    shown = []
    for words in (
        ["run", str(file), "--var", f"PASSWORD={secret}", "--json"],
        ["run", str(file), "--var", f"PASSWORD={secret}"],
        ["report"],
        ["report", "--json"],
        ["check", str(file), "--var", f"PASSWORD={secret}"],
    ):
        done = chaoskit(*words, state=state)
        shown.append(done.stdout + done.stderr)
    more = {"steady-state": steady, "verify": [{"check": "it prints", "within": "10ms"}]}
    write(file, victim, method=method[:1], variables={"PASSWORD": {"secret": True}}, **more)
    for words in (["run", str(file), "--var", f"PASSWORD={secret}"], ["report", "--json"]):
        done = chaoskit(*words, state=state)
        shown.append(done.stdout + done.stderr)
        assert "${PASSWORD}" in done.stdout
    write(file, victim, method=[{"wait": "${PASSWORD}"}], variables={"PASSWORD": {"secret": True}})
    done = chaoskit("check", file, "--var", f"PASSWORD={secret}", state=state)
    assert done.returncode == 2
    shown.append(done.stdout + done.stderr)
    for path in state.rglob("*"):
        if path.is_file():
            shown.append(path.read_text(errors="replace"))
    for text in shown:
        for shape in (secret, secret.encode("unicode_escape").decode(), "s3cr3t"):
            assert shape not in text, text[:2000]


def test_a_secret_across_the_cut_of_a_long_text_is_no_half_secret(
    tmp_path: Path, victim: Victim
) -> None:
    """Long outputs are cut for people: a secret on the edge is taken out before that."""
    secret = "0123456789abcdefghij"
    shown = ""
    for width in range(60, 80, 4):
        print_it = f"head -c {width} /dev/zero | tr '\\0' - ; echo $TOKEN"
        steady = [{"name": "p", "command": {"run": print_it}, "expect": {"output": "never"}}]
        file = write(
            tmp_path / "e.json", victim, verify=[{"check": "p", "within": "10ms"}],
            variables={"TOKEN": {"secret": True}}, **{"steady-state": steady},
        )  # fmt: skip
        done = chaoskit("run", file, "--var", f"TOKEN={secret}", state=tmp_path / "state")
        assert done.returncode == 3
        shown += done.stdout + done.stderr
    for width in (150, 190, 195):
        method = [{"run": f"echo $TOKEN$(head -c {width} /dev/zero | tr '\\0' -); exit 1"}]
        file = write(
            tmp_path / "e.json", victim, method=method, variables={"TOKEN": {"secret": True}}
        )
        done = chaoskit("run", file, "--var", f"TOKEN={secret}", state=tmp_path / "state")
        assert done.returncode == 6
        shown += done.stdout + done.stderr
    journals = "".join(p.read_text() for p in (tmp_path / "state").rglob("journal.jsonl"))
    for part in (secret[:6], secret[-6:]):
        assert part not in shown + journals


def test_recover_asks_for_the_secret_that_an_undo_needs(tmp_path: Path, victim: Victim) -> None:
    state, marker = tmp_path / "state", tmp_path / "flag"
    method = [
        {"run": ["touch", str(marker)], "env": {"TOKEN": "${TOKEN}"},
         "undo": f'test "$TOKEN" = hunter2 && rm -f {marker}'},
        {"fault": "pause", "target": {"process": {"cmdline": victim.name}}, "for": "30s"},
    ]  # fmt: skip
    file = write(tmp_path / "e.json", victim, method=method, variables={"TOKEN": {"secret": True}})
    with running(file, state, victim, "--var", "TOKEN=hunter2") as runner:
        _kill_guardian(state)
        runner.kill()
        runner.wait()
    bare = {k: v for k, v in os.environ.items() if k != "TOKEN"}
    first = chaoskit("recover", state=state, env=bare)
    assert first.returncode == 5 and "TOKEN" in first.stdout + first.stderr
    assert victim.state() == "running" and marker.exists()
    second = chaoskit("recover", "--var", "TOKEN=hunter2", state=state, env=bare)
    assert second.returncode in (0, 4), second.stdout + second.stderr
    assert not marker.exists()
    journal = next(state.rglob("journal.jsonl")).read_text()
    assert "hunter2" not in journal


def test_a_foreign_value_is_accepted_or_forced_by_name_only(tmp_path: Path, victim: Victim) -> None:
    """Its soft limit is changed by somebody else while it is lowered."""
    import resource

    pid = victim.process.pid
    method = [{"fault": "open-files", "target": {"process": {"cmdline": victim.name}}, "leave": 5,
               "for": "30s"}]  # fmt: skip
    for way, left in (("--accept", 77), ("--force", None)):
        was = victim.process.file_limit()
        state, file = tmp_path / f"state{way}", write(tmp_path / "e.json", victim, method=method)
        runner = chaoskit("run", file, state=state, wait=False)
        try:
            assert until(lambda state=state: _injected(state), 20)
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (77, hard))
            runner.send_signal(signal.SIGINT)
            out, _ = runner.communicate(timeout=30)
        finally:
            runner.kill()
            runner.communicate()
        assert runner.returncode == 5 and "77" in out
        stuck = State(state).find().result().left
        assert [cell.found for cell in stuck] == [[77, hard]]
        # A child that had the same limit is back; only the cell that was changed is left alone.
        (child,) = _children(victim.process)
        assert child.file_limit() == was
        still = chaoskit("recover", state=state)
        assert still.returncode == 5
        done = chaoskit("recover", way, str(stuck[0].cell), state=state)
        assert done.returncode in (0, 4), done.stdout + done.stderr
        assert victim.process.file_limit()[0] == (left or was[0])
        assert not State(state).unsettled()
        assert any("who" in r and r["who"] for r in records(state, "recovery"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, was)


def test_scan_finds_leftovers_without_any_journal(tmp_path: Path, victim: Victim) -> None:
    import shutil

    state, folder = tmp_path / "state", tmp_path / "full"
    folder.mkdir()
    method = [{"fault": "disk-fill", "target": {"process": {"cmdline": victim.name}},
               "path": str(folder), "size": "8MiB", "for": "30s"}]  # fmt: skip
    runner = chaoskit("run", write(tmp_path / "e.json", victim, method=method), state=state,
                      wait=False)  # fmt: skip
    try:
        assert until(lambda: _injected(state), 20)
        _kill_guardian(state)
    finally:
        runner.kill()
        runner.communicate()
    shutil.rmtree(state)
    assert len(list(folder.iterdir())) == 1
    found = chaoskit("recover", "--scan", folder, state=state)
    assert found.returncode in (0, 4, 5), found.stdout + found.stderr
    assert list(folder.iterdir()) == []


def test_everything_reads_the_same_at_reboot(tmp_path: Path, victim: Victim) -> None:
    """A journal of another boot: its processes are gone, and nothing else is touched."""
    state = tmp_path / "state"
    journal = _left_in(state, victim)
    boot = victim.process.boot
    journal.write_text(journal.read_text().replace(boot, "0b00ed00"))
    recovered = chaoskit("recover", state=state)
    assert recovered.returncode in (0, 4), recovered.stdout + recovered.stderr
    assert victim.state() == "stopped", "a process of this boot was touched"
    assert {r["how"] for r in records(state, "undone")} == {"gone"}
    victim.process.signal(signal.SIGCONT)
