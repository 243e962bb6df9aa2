"""Kill on real processes: the signal and its grace, the role, and exactly one restart."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spawned import IDLE, POLITE, STUBBORN, Spawned, spawning

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.kill import Kill
from chaoskit.model.fault import Change, Ends, Outcome
from chaoskit.procfs import Process, tree
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


def test_a_killed_process_is_dead(spawned: Spawned) -> None:
    process, other = spawned.python(), spawned.python()
    fault, made = Kill(), target(spawned, pid=process.pid)
    (change,) = fault.changes(made)
    assert fault.look(made, change) == "alive" and not fault.took(made, [change])
    assert inject(fault, made) == [change]
    assert until(lambda: fault.took(made, [change]), 20)
    assert fault.look(made, change) == "dead"
    assert exit_code(spawned, process) == -signal.SIGKILL
    assert other.alive()
    assert fault.way_back() is None and fault.ends is Ends.ONE_WAY


def test_whoever_has_ended_is_not_hurt_again(spawned: Spawned) -> None:
    process = spawned.python()
    fault, made = Kill(), target(spawned)
    (change,) = inject(fault, made)
    spawned.reap(process)
    assert list(fault.changes(made)) == []
    with pytest.raises(Gone):
        fault.make(made, change)
    assert fault.look(made, change) == "dead"


@pytest.mark.parametrize("name", ["TERM", "SIGTERM"])
def test_who_ends_in_its_grace_is_not_killed(spawned: Spawned, name: str) -> None:
    process = spawned.python(POLITE)
    fault, made = Kill(signal=name, grace=60.0), target(spawned)
    changes = inject(fault, made)
    assert fault.took(made, changes)
    assert exit_code(spawned, process) == 0


def test_who_ignores_the_signal_is_killed_after_its_grace(spawned: Spawned) -> None:
    process = spawned.python(STUBBORN)
    fault, made = Kill(signal="TERM", grace=0.3), target(spawned)
    began = time.monotonic()
    changes = inject(fault, made)
    assert time.monotonic() - began >= 0.3
    assert until(lambda: fault.took(made, changes), 20)
    assert exit_code(spawned, process) == -signal.SIGKILL


def test_without_a_grace_nobody_sends_another_signal(spawned: Spawned) -> None:
    process = spawned.python(STUBBORN)
    fault, made = Kill(signal="TERM"), target(spawned)
    changes = inject(fault, made)
    time.sleep(0.3)
    assert process.alive() and not fault.took(made, changes)
    assert fault.look(made, changes[0]) == "alive"


def test_an_abort_cuts_the_grace_short_and_leaves_nothing_half_done(spawned: Spawned) -> None:
    process = spawned.python(STUBBORN)
    fault, made = Kill(signal="TERM", grace=100.0), target(spawned)
    timer = threading.Timer(0.2, made.binding.cancel.set)
    timer.start()
    try:
        changes = inject(fault, made)
    finally:
        timer.join()
    assert until(lambda: fault.took(made, changes), 20)
    assert exit_code(spawned, process) == -signal.SIGKILL


def test_a_tree_dies_whole_only_when_asked(spawned: Spawned) -> None:
    parent = spawned.python(f"[os.fork() for _ in range(2)]; {IDLE}")
    assert until(lambda: len(tree(parent)) == 4, 20)
    below = tree(parent)[1:]
    assert [change.key for change in Kill().changes(target(spawned, pid=parent.pid))] == [
        parent.key
    ]
    fault, made = Kill(tree=True), target(spawned, pid=parent.pid)
    changes = list(fault.changes(made))
    assert [change.key for change in changes] == [p.key for p in (parent, *below)]
    for change in changes:
        fault.make(made, change)
    assert until(lambda: fault.took(made, changes), 20)
    assert not any(p.alive() for p in (parent, *below))


def test_who_ends_with_its_parent_is_no_victim(spawned: Spawned) -> None:
    parent = spawned.python(f"os.fork(); {IDLE}")
    assert until(lambda: len(tree(parent)) == 2, 20)
    (below,) = tree(parent)[1:]
    changes = Kill(tree=True).changes(target(spawned, pid=parent.pid))
    assert next(changes).key == parent.key
    below.signal(signal.SIGKILL)
    assert until(lambda: not below.alive(), 20)
    assert list(changes) == []


def test_what_is_wrong_between_the_keys() -> None:
    assert Kill().problems() == Kill(signal="SIGTERM", grace=1.0).problems() == []
    assert [key for key, _ in Kill(signal="STOP").problems()] == ["signal"]
    assert [key for key, _ in Kill(grace=1.0).problems()] == ["grace"]
    assert [key for key, _ in Kill(signal="TERM", restart="x").problems()] == ["restart"]
    assert Kill(signal="TERM", restart="x", grace=0.0).problems() == []


# The role: who took its place, how fast, or nobody.


def settled(spawned: Spawned, made: ProcessTarget) -> Process:
    """One more that fills the role."""
    new = spawned.python()
    assert until(lambda: not made.newcomers(), 20)
    return new


def test_a_fork_for_a_moment_takes_nobodys_place(
    spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's subshell has the command line of its shell, and is no second one of these."""
    line = "echo ready; while :; do (sleep 0.1; :); sleep 0.1; done"
    shells = [spawned.run(["/bin/sh", "-c", line, spawned.name]) for _ in range(2)]
    made = target(spawned)
    monkeypatch.setattr("chaoskit.targets.process.SETTLED", 5.0)
    fault = Kill(restart="true")
    changes = inject(fault, made)
    assert until(lambda: not shells[0].alive() or not shells[1].alive(), 20)
    seen = 0
    end = time.monotonic() + 60
    while seen < 3 and time.monotonic() < end:
        seen += made.newcomers()
        assert fault.outcome(made, changes, 0.1) is None
        assert fault.look(made, changes[0]) == "dead"
    assert seen == 3, "there was no fork to be taken for one"


def test_who_begins_while_one_looks_is_one_of_them(
    spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the successor of one that is killed next."""
    monkeypatch.setattr("chaoskit.targets.process.SETTLED", 3.0)
    monkeypatch.setattr("chaoskit.targets.process._COME", 60.0)
    matching, late = ProcessSelector.matching, list[Process]()

    def looked(selector: ProcessSelector) -> list[Process]:
        found = matching(selector)
        if not late:
            late.append(spawned.python())
        return found

    monkeypatch.setattr(ProcessSelector, "matching", looked)
    spawned.python()
    made = target(spawned)
    assert made.complement == 2 and made.successors() == []


def test_one_that_has_just_begun_is_not_started_again(spawned: Spawned, tmp_path: Path) -> None:
    process = spawned.python()
    made = target(spawned)
    fault = Kill(restart=f"touch {tmp_path}/again")
    (change,) = inject(fault, made)
    spawned.reap(process)
    spawned.python()
    fault.unmake(made, change)
    assert fault.look(made, change) == "alive" and not (tmp_path / "again").exists()


def test_who_comes_at_the_last_moment_has_taken_its_place(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(spawned)
    changes = inject(Kill(), made)
    spawned.reap(process)
    new = spawned.python()
    outcome = Kill(replaced_within=5.0).no_outcome(made, changes, 1.0)
    assert outcome is not None and outcome.held and f"by process {new.pid}" in outcome.text


def test_a_successor_is_named_with_its_time(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(spawned)
    changes = inject(Kill(), made)
    spawned.reap(process)
    assert Kill().outcome(made, changes, 0.1) is None
    assert Kill().no_outcome(made, changes, 30.0) == Outcome("nobody took its place in 30s")
    late = Kill(replaced_within=60.0).no_outcome(made, changes, 30.0)
    assert late is not None and late.unknown and "before 1m" in late.text
    assert Kill(replaced_within=2.0).no_outcome(made, changes, 30.0) == Outcome(
        "nobody took its place in 30s", False
    )
    new = settled(spawned, made)
    for within, held in ((None, None), (50.0, True), (10.0, False)):
        # It came thirty seconds after the death, whenever it is looked at.
        outcome = Kill(replaced_within=within).outcome(made, changes, 30.0 + new.age())
        assert outcome is not None and outcome.held is held
        assert re.search(
            rf"replaced by process {new.pid} \(.* after (30|2\d(\.\d+)?)s", outcome.text
        )
    assert Kill().took(made, changes), "whoever came since, it is dead"


def test_a_role_of_two_wants_two(spawned: Spawned) -> None:
    process, other = spawned.python(), spawned.python()
    made = target(spawned, cmdline=spawned.name)
    changes = inject(Kill(), made)
    spawned.reap(made.root)
    assert made.complement == 2 and Kill().outcome(made, changes, 0.1) is None
    settled(spawned, made)
    assert Kill().outcome(made, changes, 0.1) is not None
    ({process, other} - {made.root}).pop().signal(signal.SIGKILL)
    assert until(lambda: Kill().outcome(made, changes, 0.1) is None, 20)


def test_a_pid_has_no_role(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(spawned, pid=process.pid)
    changes = inject(Kill(), made)
    spawned.reap(process)
    spawned.python()
    assert Kill().outcome(made, changes, 0.1) is None
    outcome = Kill().no_outcome(made, changes, 30.0)
    assert outcome is not None and outcome.held is None and "unknown" in outcome.text
    assert "a pid has no role" in (Kill(replaced_within=1.0).refuse(made) or "")
    assert Kill().refuse(made) is None


def test_a_pid_file_that_is_being_written_is_no_answer(spawned: Spawned, tmp_path: Path) -> None:
    process, file = spawned.python(), tmp_path / "pid"
    file.write_text(f"{process.pid}")
    made = target(spawned, pidfile=str(file))
    changes = inject(Kill(), made)
    spawned.reap(process)
    file.write_text("")
    assert Kill().outcome(made, changes, 0.1) is None
    unseen = Kill(replaced_within=1.0).no_outcome(made, changes, 2.0)
    assert unseen is not None and "cannot be seen" in unseen.text and unseen.unknown
    file.write_text(f"{spawned.python().pid}")
    assert until(lambda: Kill().outcome(made, changes, 0.1) is not None, 20)
    assert Kill(replaced_within=1.0).refuse(made) is None
