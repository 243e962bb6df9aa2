"""Pause on real trees: all of it, also while it forks, and everything goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from spawned import IDLE, Spawned, spawning

from chaoskit.capabilities import HasProcesses
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.pause import Pause
from chaoskit.model.fault import Change, Ends, Found
from chaoskit.procfs import Process, tree
from chaoskit.targets.process import ProcessSelector, ProcessTarget

FORKS = """
count = 0
print("ready", flush=True)
while count < 30:
    if os.fork() == 0:
        time.sleep(300)
        os._exit(0)
    count += 1
    time.sleep(0.002)
time.sleep(300)
"""
"""Forks thirty children, one after the other, while it is being paused."""

CHAIN = """
print("ready", flush=True)
for depth in range(30):
    if os.fork() != 0:
        break
    time.sleep(0.002)
time.sleep(300)
"""
"""Thirty generations: the newest one is always a leaf that forks."""

PAUSE = Pause()


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def target(process: Process, spawned: Spawned) -> ProcessTarget:
    (only,) = ProcessSelector(pid=process.pid).find(spawned.binding())
    assert isinstance(only, ProcessTarget)
    return only


def inject(made: HasProcesses) -> list[Change]:
    """As the engine does: each change is made before the next one is asked for."""
    done = []
    for change in PAUSE.changes(made):
        if change.was != change.put:
            with contextlib.suppress(Gone):
                PAUSE.make(made, change)
            done.append(change)
    assert until(lambda: PAUSE.took(made, done), 20)
    return done


def undo(made: HasProcesses, changes: Sequence[Change]) -> None:
    for change in reversed(changes):
        with contextlib.suppress(Gone):
            PAUSE.unmake(made, change)
    for change in changes:

        def back(change: Change = change) -> bool:
            try:
                return PAUSE.found(PAUSE.look(made, change), change) is Found.WAS
            except Gone:
                return True

        assert until(back, 20), change


def states(process: Process) -> set[str]:
    return {one.state() for one in tree(process)}


def test_a_tree_stops_and_goes_on(spawned: Spawned) -> None:
    process = spawned.python(f"os.fork(); os.fork(); {IDLE}")
    assert until(lambda: len(tree(process)) == 4, 20)
    made = target(process, spawned)
    done = inject(made)
    assert len(done) == 4 and done[0].key == process.key
    assert {(change.was, change.put) for change in done} == {("running", "stopped")}
    assert states(process) == {"stopped"}
    undo(made, done)
    assert states(process) == {"running"}
    undo(made, done)
    assert states(process) == {"running"}


def test_a_plan_of_a_tree_with_one_that_stands_still_does_not_wait(spawned: Spawned) -> None:
    process = spawned.python(f"os.fork(); {IDLE}")
    assert until(lambda: len(tree(process)) == 2, 20)
    child = tree(process)[1]
    child.signal(signal.SIGSTOP)
    assert until(lambda: child.state() == "stopped", 20)
    looks: list[int] = []
    made = target(process, spawned)
    real = made.tree
    made.tree = lambda: looks.append(1) or real()  # type: ignore[method-assign, func-returns-value]
    planned = list(PAUSE.changes(made))
    assert [change.was for change in planned] == ["running", "stopped"] and len(looks) < 10
    undo(made, inject(made))
    assert child.state() == "stopped"


@pytest.mark.parametrize(("code", "most"), [(FORKS, 31), (CHAIN, 31)], ids=["forks", "chain"])
@pytest.mark.parametrize("after", [0.0, 0.02])
def test_a_tree_that_forks_stops_whole(
    spawned: Spawned, code: str, most: int, after: float
) -> None:
    process = spawned.python(code)
    time.sleep(after)
    made = target(process, spawned)
    done = inject(made)
    assert states(process) == {"stopped"}
    assert {p.key for p in tree(process)} == {change.key for change in done}
    keys = {p.key for p in spawned.alive()}
    time.sleep(0.2)
    assert {p.key for p in spawned.alive()} == keys, "somebody still forks"
    undo(made, done)
    assert until(lambda: len(tree(process)) == most, 30), "it did not go on where it was"
    assert states(process) == {"running"}


def test_what_vanishes_while_it_is_listed_is_passed_over(spawned: Spawned) -> None:
    process = spawned.python(f"[os.fork() for _ in range(2)]; {IDLE}")
    assert until(lambda: len(tree(process)) == 4, 20)
    changes = PAUSE.changes(target(process, spawned))
    first = next(changes)
    assert first.key == process.key
    for below in tree(process)[1:]:
        below.signal(signal.SIGKILL)
    assert until(lambda: tree(process) == [process], 20)
    assert list(changes) == []


def test_a_tree_that_has_ended_has_nothing_to_change(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(process, spawned)
    (change,) = inject(made)
    process.signal(signal.SIGKILL)
    spawned.reap(process)
    assert list(PAUSE.changes(made)) == []
    assert not PAUSE.took(made, [change])
    for act in (PAUSE.look, PAUSE.make, PAUSE.unmake):
        with pytest.raises(Gone):
            act(made, change)


def test_what_stands_already_is_not_ours(spawned: Spawned) -> None:
    process = spawned.python()
    process.signal(signal.SIGSTOP)
    assert until(lambda: process.state() == "stopped", 20)
    made = target(process, spawned)
    (change,) = PAUSE.changes(made)
    assert change.was == change.put == "stopped"
    assert PAUSE.found(PAUSE.look(made, change), change) is Found.WAS


def test_it_did_not_take_while_somebody_runs(spawned: Spawned) -> None:
    process = spawned.python(f"os.fork(); {IDLE}")
    assert until(lambda: len(tree(process)) == 2, 20)
    made = target(process, spawned)
    first, second = inject(made)
    below = Process.from_key(second.key)
    below.signal(signal.SIGCONT)
    assert until(lambda: below.state() == "running", 20)
    assert not PAUSE.took(made, [first, second])
    assert not PAUSE.took(made, [first]), "somebody whom no change names escaped"
    below.signal(signal.SIGKILL)
    assert until(lambda: PAUSE.took(made, [first, second]), 20)


def test_it_says_how_it_ends() -> None:
    assert PAUSE.ends is Ends.BY_RECOVER and PAUSE.way_back() == "SIGCONT to each process"


def test_a_stop_that_has_not_been_delivered_yet_is_ours_to_take_back(
    spawned: Spawned, tmp_path: Path
) -> None:
    """A process that waits for its vfork child takes no signal. An undo that comes meanwhile must
    not find it `running`, go home, and leave it to stop afterwards."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opens = f"[(os.POSIX_SPAWN_OPEN, 0, {str(fifo)!r}, os.O_RDONLY, 0)]"
    process = spawned.python(
        "print('ready', flush=True)\n"
        f"os.posix_spawn('/bin/true', ['true'], {{}}, file_actions={opens})\n"
        f"{IDLE}"
    )
    assert until(lambda: process.stat()[0] == "D", 10)
    change = Change(process.key, "running", "stopped")
    made = target(process, spawned)
    PAUSE.make(made, change)
    assert PAUSE.found(PAUSE.look(made, change), change) is Found.OURS
    assert not PAUSE.took(made, [change]), "nothing has stopped yet"
    undo(made, [change])
    with fifo.open("wb"):
        pass
    assert until(lambda: len(tree(process)) == 1 and process.stat()[0] == "S", 10)
    assert states(process) == {"running"}
