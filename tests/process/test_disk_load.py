"""disk-load: what it says is moved, and nothing of it is ever seen in the folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import SOON, Beside, beside, inject, proven, undo, unproven
from disks import MIB, small_disk

from chaoskit.clock import until
from chaoskit.faults.disk_load import DiskLoad

RATE = 2.0 * MIB


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("read", "write"), [(None, RATE), (RATE, None), (RATE, RATE)], ids=["write", "read", "both"]
)
def test_it_moves_what_it_should_and_leaves_nothing(
    target: Beside, tmp_path: Path, read: float | None, write: float | None
) -> None:
    fault = DiskLoad(".", read=read, write=write)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    assert list(tmp_path.iterdir()) == []
    (process,) = target.helpers()
    mark = f"{target.mark}-1"
    assert until(lambda: target.burden_report(mark)["age"] > 2.0, SOON)
    assert until(lambda: fault.took(target, changes), SOON)
    report = target.burden_report(mark)
    # At that rate and not as fast as it can: what is read was written once, at no rate.
    once = 16 * MIB if read else 0
    most = RATE * report["age"] + 2 * MIB
    assert report["read"] <= (most if read else MIB)
    assert report["written"] - once <= (most if write else MIB)
    undo(fault, target, changes)
    assert until(lambda: not process.alive(), SOON) and list(tmp_path.iterdir()) == []


def test_its_file_stays_small(target: Beside, tmp_path: Path) -> None:
    changes = inject(DiskLoad(".", read=1e12, write=1e12), target)
    assert until(lambda: target.burden_report(str(changes[0].put))["written"] > 64 * MIB, SOON)
    (process,) = target.helpers()
    sizes = []
    for at in Path(f"/proc/{process.pid}/fd").iterdir():
        if str(at.readlink()).startswith(str(tmp_path.resolve())):
            sizes.append(at.stat().st_size)
            assert at.stat().st_nlink == 0
    assert sizes == [32 * MIB]


def test_a_disk_that_cannot_is_not_proven(target: Beside) -> None:
    fault = DiskLoad(".", write=1e13)
    changes = inject(fault, target)
    assert until(lambda: target.burden_report(str(changes[0].put))["age"] > 1.0, SOON)
    assert not fault.took(target, changes)


def test_what_is_written_to_be_read_is_not_counted(target: Beside) -> None:
    fault = DiskLoad(".", read=RATE, write=RATE)
    work = ["disk", "/", str(RATE), str(RATE)]
    report = {"age": 2.2, "stopped": 0.0, "read": RATE, "written": 16 * MIB + RATE}
    assert fault.felt(target, work, report)
    assert not fault.felt(target, work, report | {"written": 16 * MIB + RATE - 1})
    assert not fault.felt(target, work, report | {"read": RATE - 1})
    assert not fault.felt(target, work, report | {"stopped": 1.0})
    assert not fault.felt(target, work, report | {"age": 0.1})
    # An interpreter reads some files of its own.
    slow = DiskLoad(".", read=MIB)
    begun = report | {"age": 0.21, "read": 60_000.0, "written": 16.0 * MIB}
    assert not slow.felt(target, ["disk", "/", str(MIB), "0"], begun)
    assert slow.felt(target, ["disk", "/", str(MIB), "0"], begun | {"read": 320_000.0})


def test_a_helper_that_was_killed_is_no_load(target: Beside) -> None:
    fault = DiskLoad(".", write=RATE)
    changes = inject(fault, target)
    assert proven(fault, target, changes)
    target.helpers()[0].signal(signal.SIGKILL)
    assert unproven(fault, target, changes)
    undo(fault, target, changes)


def test_a_disk_in_memory_can_be_loaded_too(target: Beside, tmp_path: Path) -> None:
    with small_disk(tmp_path, 512 * MIB) as disk:
        fault = DiskLoad(str(disk), read=RATE, write=RATE)
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        undo(fault, target, changes)


def test_where_there_is_no_room_it_is_refused(target: Beside, tmp_path: Path) -> None:
    with small_disk(tmp_path, 270 * MIB) as disk:
        assert "needed" in str(DiskLoad(str(disk), write=RATE).refuse(target))


def test_what_makes_no_sense_is_told(target: Beside) -> None:
    assert DiskLoad(".").problems()
    assert not DiskLoad(".", read=RATE).problems()
    assert "missing" in str(DiskLoad("missing", read=RATE).refuse(target))
