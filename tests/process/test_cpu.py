"""cpu: the load is offered, also on a machine that is busy already, and never claimed when not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import SOON, Beside, beside, inject, proven, undo, unproven

from chaoskit.clock import until
from chaoskit.faults.cpu import Cpu
from chaoskit.model.fault import Ends
from chaoskit.model.units import Share

ONE = min(os.sched_getaffinity(0))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


def test_it_burns_as_many_cores_as_it_should_and_no_more(target: Beside) -> None:
    fault = Cpu(1.25)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert [c.key for c in changes] == [f"helper:{target.mark}-{n}" for n in (1, 2)]
    assert [c.put for c in changes] == [f"{target.mark}-{n}" for n in (1, 2)]
    assert proven(fault, target, changes)
    whole, quarter = (f"{target.mark}-{n}" for n in (1, 2))
    assert until(lambda: target.burden_report(whole)["cpu"] > 0.3, SOON)
    assert until(lambda: target.burden_report(quarter)["age"] > 2.0, SOON)
    # A share is a duty cycle: it sleeps most of the time, however long it waits for its turns.
    assert target.burden_work(quarter) == ["cpu", "0.2500"]
    report = target.burden_report(quarter)
    assert report["cpu"] < 0.4 * report["age"]
    (sleeper,) = (p for p in target.helpers() if quarter in p.cmdline())
    lines = Path(f"/proc/{sleeper.pid}/status").read_text().splitlines()
    (slept,) = (int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
    assert slept > 10
    undo(fault, target, changes)
    assert not target.helpers()


def test_it_is_proven_on_a_processor_that_others_want_too(target: Beside) -> None:
    """Four that want the same processor get a quarter each, and each is a whole load."""
    fault = Cpu(4.0, pin=(ONE,))
    changes = inject(fault, target)
    assert len(changes) == 4
    assert proven(fault, target, changes)
    for process in target.helpers():
        assert os.sched_getaffinity(process.pid) == {ONE}
    time.sleep(1.0)
    assert fault.took(target, changes)


def test_pinned_means_where_the_target_may_run(target: Beside) -> None:
    os.sched_setaffinity(target.root.pid, [ONE])
    fault = Cpu(Share(0.5), pin=True)
    inject(fault, target)
    assert until(lambda: len(target.helpers()) == 1, SOON)
    (process,) = target.helpers()
    assert until(lambda: os.sched_getaffinity(process.pid) == {ONE}, SOON)
    assert target.burden_work(f"{target.mark}-1") == ["cpu", "0.5000"]


def test_a_helper_that_was_killed_is_no_load(target: Beside) -> None:
    fault = Cpu(2.0)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    target.helpers()[1].signal(signal.SIGKILL)
    assert unproven(fault, target, changes)
    undo(fault, target, changes)


def test_a_helper_that_is_stopped_is_no_load(target: Beside) -> None:
    fault = Cpu(0.5)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    (process,) = target.helpers()
    process.signal(signal.SIGSTOP)
    assert until(lambda: process.state() == "stopped", SOON)
    assert not fault.took(target, changes)
    undo(fault, target, changes)


def test_a_helper_that_was_held_up_is_no_load(target: Beside) -> None:
    """Running again, but not for most of its time."""
    fault = Cpu(1.0)
    changes = inject(fault, target)
    (process,) = target.helpers()
    process.signal(signal.SIGSTOP)
    time.sleep(2.0)
    process.signal(signal.SIGCONT)
    assert until(lambda: process.state() == "running", SOON)
    assert not fault.took(target, changes)


def test_it_is_not_proven_before_it_can_be(target: Beside) -> None:
    fault = Cpu(1.0)
    report = {"stopped": 0.0, "age": 0.2, "wanted": 0.2}
    assert not fault.felt(target, ["cpu", "1"], report)
    assert fault.felt(target, ["cpu", "1"], report | {"age": 0.4, "wanted": 0.4})
    assert not fault.felt(target, ["cpu", "1"], report | {"age": 4.0, "wanted": 2.0})
    assert fault.felt(target, ["cpu", "0.5"], report | {"age": 4.0, "wanted": 2.0})
    assert not fault.took(target, [])


def test_beside_a_target_that_has_ended_nothing_is_proven(target: Beside) -> None:
    fault = Cpu(Share(0.2))
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    target.end()
    assert not fault.took(target, changes)
    assert target.helpers()
    undo(fault, target, changes)
    assert inject(fault, target) == []


def test_a_tiny_load_is_a_load(target: Beside) -> None:
    fault = Cpu(Share(0.00001))
    (work, _), *more = fault.helpers(target)
    assert work[0] == "cpu" and not more


def test_what_cannot_be_is_refused(target: Beside) -> None:
    many = len(os.sched_getaffinity(target.root.pid))
    assert Cpu(4.0 * many).refuse(target) is None
    assert "four" in str(Cpu(5.0 * many).refuse(target)).replace("4", "four")
    assert "4095" in str(Cpu(1.0, pin=(ONE, 4095)).refuse(target))
    assert Cpu(1.0, pin=(ONE,)).refuse(target) is None
    assert Cpu(1.0, pin=()).problems() and not Cpu(1.0).problems()


def test_it_ends_by_itself() -> None:
    assert Cpu(1.0).ends is Ends.BY_ITSELF
    assert Cpu(1.0).way_back()
