"""memory: it is resident, and the OOM killer stays away."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import Beside, beside, inject, proven, undo, unproven
from disks import MIB

from chaoskit.clock import until
from chaoskit.faults.memory import Memory
from chaoskit.model.units import Share


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


def test_it_holds_what_it_should_and_gives_it_back(target: Beside) -> None:
    fault = Memory(100 * MIB)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    (process,) = target.helpers()
    assert 95 * MIB <= process.rss() < 130 * MIB
    undo(fault, target, changes)
    assert until(lambda: not process.alive(), 5.0)


def test_what_the_interpreter_has_of_itself_counts_for_nothing(target: Beside) -> None:
    """It has about as much as is wanted here, and nothing of that is held for the fault."""
    fault = Memory(8 * MIB)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    (process,) = target.helpers()
    assert process.rss() > 12 * MIB

    def held() -> float:
        return target.burden_report(f"{target.mark}-1")["held"]

    assert until(lambda: 0.95 * 8 * MIB <= held() < 9 * MIB, 20)
    target.burden(f"{target.mark}-2", ["files", "1"])
    assert until(lambda: target.burden_report(f"{target.mark}-2")["files"] > 0, 10.0)
    assert target.burden_report(f"{target.mark}-2")["held"] < MIB


def test_a_percentage_is_of_what_is_free_when_it_begins(target: Beside) -> None:
    fault = Memory(Share(0.002))
    free = target.memory_free()
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    told = int(target.burden_work(f"{target.mark}-1")[1])
    assert 0.001 * free < told < 0.003 * free
    assert target.burden_report(f"{target.mark}-1")["held"] >= 0.95 * told


def test_it_is_not_over_before_the_memory_is_free(target: Beside) -> None:
    changes = inject(fault := Memory(400 * MIB), target)
    assert proven(fault, target, changes)
    (process,) = target.helpers()
    ended = os.pidfd_open(process.pid)
    try:
        fault.unmake(target, changes[0])
        # When the first of its threads is a zombie the others may still be freeing its memory.
        assert select.select([ended], [], [], 0)[0]
    finally:
        os.close(ended)


def test_less_than_that_is_not_enough(target: Beside) -> None:
    fault = Memory(100 * MIB)
    assert fault.felt(target, ["memory", str(100 * MIB)], {"held": 96.0 * MIB})
    assert not fault.felt(target, ["memory", str(100 * MIB)], {"held": 94.0 * MIB})
    # Whatever the percentage would be of what is free by now.
    assert not Memory(Share(0.001)).felt(target, ["memory", str(100 * MIB)], {"held": 94.0 * MIB})


def test_a_helper_that_was_killed_holds_nothing(target: Beside) -> None:
    fault = Memory(16 * MIB)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    target.helpers()[0].signal(signal.SIGKILL)
    assert unproven(fault, target, changes)
    undo(fault, target, changes)


def test_what_would_call_the_oom_killer_is_refused(target: Beside) -> None:
    free, room = target.memory_free(), target.memory_room()
    for size in (free, free - 200 * MIB, Share(1.0), 2**50):
        assert "OOM killer" in str(Memory(size).refuse(target)), size
    assert Memory(max(1, room // 2)).refuse(target) is None
