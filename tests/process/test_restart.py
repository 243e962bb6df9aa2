"""What a restart starts: in its old place, with nothing of ours, found as soon as it is there."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spawned import Spawned, spawning

from chaoskit.clock import until
from chaoskit.procfs import Process
from chaoskit.targets import restart
from chaoskit.targets.process import ProcessSelector, ProcessTarget


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def target(spawned: Spawned, **keys: Any) -> ProcessTarget:
    (only,) = ProcessSelector(**keys).find(spawned.binding())
    assert isinstance(only, ProcessTarget)
    return only


def started(spawned: Spawned, token: str = "t") -> list[Process]:
    return [
        process
        for process in spawned.alive()
        if any(
            word.startswith(f"{restart.VARIABLE}={token}".encode()) for word in process.environ()
        )
    ]


def test_a_restart_runs_where_the_process_did(spawned: Spawned, tmp_path: Path) -> None:
    (tmp_path / "its place").mkdir()
    spawned.run(spawned.words(), cwd=tmp_path / "its place")
    made = target(spawned, cmdline=spawned.name)
    made.start("pwd; echo oops >&2; sleep 60", "t")
    log = tmp_path / "restarted.log"
    wanted = f"{tmp_path / 'its place'}\noops\n"
    assert until(lambda: log.exists() and log.read_text() == wanted, 20), log.read_text()
    assert made.started("t") and not made.started("u")
    (process,) = [p for p in started(spawned) if p.name() == "sh"]
    assert int(process.stat()[3]) == process.pid, "not a session of its own"
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_restart_has_no_descriptor_signal_or_mask_of_ours(spawned: Spawned) -> None:
    spawned.python()
    made = target(spawned, cmdline=spawned.name)
    ours = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(ours, True)  # As one that whoever called chaoskit has left open.
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        made.start(("sleep", "60"), "t")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR2, before)
        os.close(ours)
    assert until(lambda: [p.name() for p in started(spawned)] == ["sleep"], 20)
    (process,) = started(spawned)
    # The loader of a program that has just begun has its libraries open.
    fds = f"/proc/{process.pid}/fd"
    assert until(lambda: sorted(os.listdir(fds)) == ["0", "1", "2"], 20), os.listdir(fds)
    status = Path(f"/proc/{process.pid}/status").read_text()
    for which in ("SigBlk", "SigIgn"):
        (mask_of_it,) = re.findall(rf"^{which}:\s+(\w+)$", status, re.M)
        # Two real-time signals are the C library's own.
        assert int(mask_of_it, 16) & 0x7FFFFFFF == 0, which


def test_a_restart_is_found_at_once_and_until_it_ends(spawned: Spawned) -> None:
    spawned.python()
    made = target(spawned, cmdline=spawned.name)
    made.start("read -r line </dev/zero", "t")
    assert made.started("t"), "somebody else would have started it again"
    for process in started(spawned):
        process.signal(signal.SIGKILL)
    assert until(lambda: not made.started("t") and not restart._children, 20), "or a zombie"


def test_a_daemon_whose_wrapper_ended_is_found(spawned: Spawned) -> None:
    spawned.python()
    made = target(spawned, cmdline=spawned.name)
    made.start("sleep 60 & exit 0", "t")
    assert until(lambda: [p.name() for p in started(spawned)] == ["sleep"], 20)
    assert made.started("t")


def test_it_is_found_in_the_middle_of_an_exec(spawned: Spawned, tmp_path: Path) -> None:
    spawned.python()
    made = target(spawned, cmdline=spawned.name)
    # It becomes itself over and over: the kernel shows no environment for a part of that time.
    (tmp_path / "again.sh").write_text('exec /bin/sh "$0"\n')
    made.start(("/bin/sh", str(tmp_path / "again.sh")), "t")
    assert all(made.started("t") for _ in range(200))


def test_two_targets_have_each_their_own_restart(spawned: Spawned) -> None:
    spawned.python()
    spawned.python()
    one, two = ProcessSelector(cmdline=spawned.name).find(spawned.binding())
    assert isinstance(one, ProcessTarget) and isinstance(two, ProcessTarget)
    one.start("sleep 60", "t")
    assert one.started("t") and not two.started("t")
    again = ProcessTarget.restore(one.ref(), spawned.binding())
    assert again.started("t")


def test_a_lost_folder_keeps_nobody_from_being_started(spawned: Spawned, tmp_path: Path) -> None:
    process = spawned.python()
    (tmp_path / "run").mkdir()
    made = target(spawned, pid=process.pid)
    made.binding = type(made.binding)(
        run="r", step="1", folder=tmp_path / "lost", environment=spawned.mark
    )
    made._cwd = str(tmp_path / "gone too")
    made.start("echo nobody hears; sleep 60", "t")
    assert until(lambda: "sleep" in [p.name() for p in started(spawned)], 20)
    assert started(spawned)[0].cwd() == "/"
