"""disk-fill: as full as it says, within the reserve, and nothing but our own file is removed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import After, Beside, beside, inject, undo
from disks import MIB, free, small_disk

from chaoskit.errors import ChaoskitError, Interrupted, Refused
from chaoskit.faults.disk_fill import DiskFill
from chaoskit.model.fault import Change, Ends, Found
from chaoskit.targets import reserve


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 448 * MIB) as made:
        yield made


def test_a_size_is_there_and_gone_again(target: Beside, tmp_path: Path) -> None:
    fault = DiskFill(".", size=40 * MIB)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    (change,) = changes
    assert Path(change.key).parent == tmp_path.resolve()
    assert fault.took(target, changes)
    assert fault.found(fault.look(target, change), change) is Found.OURS
    undo(fault, target, changes)
    assert list(tmp_path.iterdir()) == []
    assert not fault.took(target, changes)
    assert not fault.took(target, [])


@pytest.mark.parametrize("anew", [True, False])
def test_a_filler_whose_folder_was_moved_is_not_told_as_gone(
    target: Beside, tmp_path: Path, anew: bool
) -> None:
    """As a deploy does, or what rotates folders."""
    data, old = tmp_path / "data", tmp_path / "data.old"
    data.mkdir()
    fault = DiskFill("data", size=MIB)
    (change,) = inject(fault, target)
    data.rename(old)
    if anew:
        data.mkdir()
    told = "another folder than it was" if anew else "not there any more"
    with pytest.raises(ChaoskitError, match=told):
        fault.look(target, change)
    assert len(list(old.iterdir())) == 1
    if anew:
        data.rmdir()
    old.rename(data)
    undo(fault, target, [change])
    assert list(data.iterdir()) == []


def test_a_filler_that_somebody_has_cut_is_not_proven(target: Beside) -> None:
    fault = DiskFill(".", size=40 * MIB)
    changes = inject(fault, target)
    os.truncate(changes[0].key, 39 * MIB)
    assert not fault.took(target, changes)
    undo(fault, target, changes)


def test_a_foreign_file_in_its_place_is_left_alone(target: Beside, tmp_path: Path) -> None:
    fault = DiskFill(".", size=MIB)
    changes = inject(fault, target)
    (change,) = changes
    letter = tmp_path / "letter"
    letter.write_text(long := "dear" * MIB)
    for replace in (
        lambda: Path(change.key).write_text(long),
        lambda: Path(change.key).symlink_to(letter),
    ):
        Path(change.key).unlink()
        replace()
        assert fault.found(fault.look(target, change), change) is Found.FOREIGN
        assert not fault.took(target, changes)
        target.undoing()
        fault.unmake(target, change)
        assert Path(change.key).read_text() == long
        target.binding = target.bind()
        assert "there already" in str(fault.refuse(target))


def test_cut_short_it_is_ours_to_take_away(target: Beside) -> None:
    fault = DiskFill(".", size=128 * MIB)
    target.binding = target.bind(cancel=After(2))
    (change,) = fault.changes(target)
    with pytest.raises(Interrupted):
        fault.make(target, change)
    assert fault.found(fault.look(target, change), change) is Found.OURS
    assert not fault.took(target, [change])
    undo(fault, target, [change])


def test_on_a_disk_that_is_not_mounted_it_is_not_undone(
    target: Beside, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is in memory would be gone with its mount; this one stands for one that is not.
    monkeypatch.setattr("chaoskit.targets.files.FLEETING", ())
    fault = DiskFill("disk", size=MIB)
    changes = inject(fault, target)
    away = tmp_path / "away"
    away.mkdir()
    subprocess.run(["mount", "--make-private", str(disk)], check=True)
    subprocess.run(["mount", "--bind", str(disk), str(away)], check=True)
    try:
        subprocess.run(["umount", str(disk)], check=True)
        target.undoing()
        with pytest.raises(ChaoskitError, match=f"mounted at {disk} is not mounted there any more"):
            fault.look(target, changes[0])
        with pytest.raises(ChaoskitError, match="is not mounted"):
            fault.unmake(target, changes[0])
        assert (away / Path(changes[0].key).name).exists()
        subprocess.run(["mount", "--bind", str(away), str(disk)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(away)], check=True)
    undo(fault, target, changes)
    assert list(disk.iterdir()) == []


def test_until_so_much_is_used(target: Beside, disk: Path) -> None:
    (disk / "theirs").write_bytes(b"x" * 30 * MIB)
    fault = DiskFill(str(disk), until=0.25)
    assert fault.refuse(target) is None
    changes = inject(fault, target)
    assert fault.took(target, changes)
    assert free(disk) <= 0.75 * 448 * MIB
    (disk / "theirs").unlink()
    assert not fault.took(target, changes), "others have deleted: it is not so full any more"
    undo(fault, target, changes)
    assert free(disk) == 448 * MIB


def test_a_percent_less_still_counts(target: Beside, disk: Path) -> None:
    fault = DiskFill(str(disk), until=0.25)
    changes = inject(fault, target)
    for size, expected in ((0.242, True), (0.235, False)):
        os.truncate(changes[0].key, int(size * 448 * MIB))
        assert fault.took(target, changes) is expected


def test_what_would_not_leave_the_reserve_is_refused(target: Beside, disk: Path) -> None:
    """448 MiB, of which 256 stay: 192, or 42%, can be filled."""
    for fault, told in (
        (DiskFill(str(disk), size=191 * MIB), None),
        (DiskFill(str(disk), size=193 * MIB), "256MiB would be left"),
        (DiskFill(str(disk), until=0.42), None),
        (DiskFill(str(disk), until=0.44), "256MiB would be left"),
        (DiskFill(str(disk), until=1.0), "256MiB would be left"),
    ):
        found = fault.refuse(target)
        assert found is None if told is None else told in str(found), (fault, found)
    (disk / "theirs").write_bytes(b"x" * 100 * MIB)
    assert "full already" in str(DiskFill(str(disk), until=0.2).refuse(target))


def test_the_last_five_percent_of_a_large_disk_stay(
    target: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as it lies in memory here, there must be memory for it."""
    with small_disk(tmp_path, 100 * 1024 * MIB) as large:
        assert "would be left" in str(DiskFill(str(large), until=0.95).refuse(target))
        monkeypatch.setattr(reserve, "memory_free", lambda groups: (2**50, 2**50))
        assert DiskFill(str(large), until=0.95).refuse(target) is None
        assert "would be left" in str(DiskFill(str(large), until=0.951).refuse(target))


def test_what_others_take_meanwhile_makes_it_unproven_not_too_much(
    target: Beside, disk: Path
) -> None:
    fault = DiskFill(str(disk), size=150 * MIB)
    assert fault.refuse(target) is None
    theirs = disk / "theirs"
    target.binding = target.bind(cancel=After(99, lambda: theirs.write_bytes(b"x" * 90 * MIB)))
    changes = inject(fault, target)
    assert not fault.took(target, changes)
    assert free(disk) >= 256 * MIB
    undo(fault, target, changes)


def test_when_the_target_has_ended_it_is_unproven_and_undone(target: Beside) -> None:
    fault = DiskFill(".", size=MIB)
    changes = inject(fault, target)
    assert fault.took(target, changes)
    target.end()
    assert not fault.took(target, changes)
    assert fault.look(target, changes[0]) == changes[0].put
    undo(fault, target, changes)
    assert inject(fault, target) == []


def test_when_its_path_leads_elsewhere_it_is_unproven(target: Beside, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("one")
    fault = DiskFill("link", size=MIB)
    changes = inject(fault, target)
    assert fault.took(target, changes)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    assert not fault.took(target, changes)
    undo(fault, target, changes)
    assert not list((tmp_path / "one").iterdir())


def test_what_makes_no_sense_is_told(target: Beside) -> None:
    assert DiskFill(".").problems() and DiskFill(".", size=1, until=0.5).problems()
    assert not DiskFill(".", size=1).problems() and not DiskFill(".", until=0.5).problems()
    assert "missing" in str(DiskFill("missing", size=1).refuse(target))
    with pytest.raises(Refused):
        list(DiskFill("missing", size=1).changes(target))
    assert DiskFill(".", size=1).ends is Ends.BY_RECOVER


def test_the_mark_is_what_the_cell_holds(target: Beside) -> None:
    (change,) = DiskFill(".", size=1).changes(target)
    assert change == Change(target.filler("."), None, target.mark)
