"""The journal: what is on the disk is whole, what is not whole does not exist."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chaoskit.errors import StateError
from chaoskit.journal import Journal, State, cells, read_records, summarise
from chaoskit.model.redact import Redactor


def lines(folder: Path) -> list[bytes]:
    return (folder / "journal.jsonl").read_bytes().splitlines()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(5):
        journal.append("note", text=f"line {number}\nwith a break and ü")
    journal.close()
    records = read_records(tmp_path / "journal.jsonl")
    assert [r["text"] for r in records] == [f"line {n}\nwith a break and ü" for n in range(5)]


def test_a_torn_last_line_is_passed_over_and_closed_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("note", text="whole")
    journal.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind":"change","cell":1,"ke')
    again = Journal(tmp_path)
    again.append("note", text="after")
    again.close()
    records = read_records(tmp_path / "journal.jsonl")
    assert [r["text"] for r in records] == ["whole", "after"]
    assert len(lines(tmp_path)) == 3


@pytest.mark.parametrize("cut", range(1, 40))
def test_every_way_to_tear_a_record_loses_that_record_only(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    journal.append("note", text="first")
    journal.append("note", text="second")
    journal.close()
    path = tmp_path / "journal.jsonl"
    os.truncate(path, path.stat().st_size - cut)
    assert [r["text"] for r in read_records(path)] in (["first"], ["first", "second"])


def test_secrets_never_reach_the_disk_and_structure_is_not_garbled(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Redactor({"PIN": "1", "DB": "p@ss word"}))
    journal.append("change", cell=1, key="1:11:1", was=None, put="1", text="1 and p@ss word")
    journal.append("sample", found={"body": "p%40ss%20word", "p@ss word": 3})
    journal.close()
    text = (tmp_path / "journal.jsonl").read_text()
    assert "p@ss word" not in text and "p%40ss%20word" not in text
    change, sample = read_records(tmp_path / "journal.jsonl")
    assert (change["key"], change["put"], change["text"]) == ("1:11:1", "1", "${PIN} and ${DB}")
    assert sample["found"] == {"body": "${DB}", "${DB}": 3}


def test_a_deleted_journal_is_noticed_before_the_world_is_changed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("note")
    (tmp_path / "journal.jsonl").unlink()
    with pytest.raises(StateError, match="deleted"):
        journal.append("change", cell=1)
    assert journal.trouble
    journal.close()


def test_a_full_disk_stops_what_comes_and_not_the_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's answer is made up here; the real full disk is in tests/process."""
    import errno

    journal = Journal(tmp_path)
    journal.hold_reserve()
    real_write, room = os.write, [30]

    def write(file: int, data: bytes) -> int:
        if (tmp_path / "reserve").exists():
            if room[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            part, room[0] = data[: room[0]], 0
            return real_write(file, part)
        return real_write(file, data)

    monkeypatch.setattr(os, "write", write)
    journal.append("note", text="the reserve carries this one")
    assert "no space left" in journal.trouble
    journal.note("undone", cell=1, how="undone")
    journal.close()
    assert [r["kind"] for r in read_records(tmp_path / "journal.jsonl")] == ["note", "undone"]


def test_cells_know_how_far_they_got() -> None:
    change = {
        "kind": "change",
        "step": "1",
        "fault": "pause",
        "params": {},
        "t": 0.1,
        "target": {"kind": "process", "ref": {}, "label": "x"},
        "was": "a",
        "put": "b",
    }
    records = [
        {**change, "cell": 1, "key": "one"},
        {"kind": "made", "cell": 1},
        {**change, "cell": 2, "key": "two"},
        {**change, "cell": 3, "key": "three"},
        {"kind": "undone", "cell": 1, "how": "undone"},
        {"kind": "stuck", "cell": 3, "found": "c", "why": "somebody"},
    ]  # fmt: skip
    one, two, three = cells(records)
    assert (one.made, one.over) == (True, "undone")
    assert (two.made, two.over) == (False, "")
    assert (three.over, three.found, three.why) == ("", "c", "somebody")
    result = summarise([{**r, "t": 0.0} for r in records], Path("run"))
    assert [left.cell for left in result.left] == [2, 3]
    assert result.state == "left" and result.verdict is None


def test_the_newest_run_is_the_newest_in_any_time_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path)
    state.prepare()
    made = []
    for zone in ("JST-9", "UTC0", "EST5"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        folder, lock = state.new_run()
        lock.drop()
        made.append(folder.id)
    monkeypatch.undo()
    time.tzset()
    assert made == sorted(made)


def test_a_new_run_is_locked_before_anybody_can_see_it(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    folder, lock = state.new_run()
    assert folder.in_use() and not folder.clean()
    assert state.left() == []
    journal = Journal(folder.path)
    journal.append("change", cell=1)
    journal.close()
    lock.drop()
    assert [left.id for left in state.left()] == [folder.id]
    folder.settled()
    assert folder.clean() and state.left() == [] and state.unsettled() == []


def test_a_run_that_died_before_its_first_change_has_left_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    folder, lock = state.new_run()
    assert state.left() == [] and not folder.clean()
    lock.drop()
    assert state.left() == [] and folder.clean()


def test_the_folder_is_private_unless_it_was_shared_on_purpose(tmp_path: Path) -> None:
    state = State(tmp_path / "deep" / "state")
    folder, lock = state.new_run()
    lock.drop()
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert folder.path.stat().st_mode & 0o777 == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    old = os.umask(0o077)
    try:
        folder, lock = State(shared).new_run()
        with State(shared).choosing():
            pass
        Journal(folder.path, mode=State(shared).file_mode).close()
    finally:
        os.umask(old)
    lock.drop()
    assert folder.path.stat().st_mode & 0o777 == 0o770
    files = (lock.path, folder.marker, folder.path / "journal.jsonl", shared / "claims.lock")
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
        path.name: 0o660 for path in files
    }


def test_only_clean_runs_are_pruned(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    names = []
    for number in range(6):
        folder, lock = state.new_run()
        lock.drop()
        names.append(folder.id)
        if number != 1:
            folder.settled()
    state.prune(keep=2)
    kept = {folder.id for folder in state.runs()}
    assert len(kept) == 3 and names[1] in kept


@pytest.mark.parametrize("what", ["file", "missing parent is a file"])
def test_a_state_folder_that_is_none_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "thing"
    path.write_text("")
    with pytest.raises(StateError):
        State.open(path if what == "file" else path / "below").prepare()


def test_runs_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with pytest.raises(StateError, match="no run"):
        state.find()
    folder, lock = state.new_run()
    lock.drop()
    assert state.find(folder.id[:20]).id == folder.id == state.find().id
    with pytest.raises(StateError, match="no run"):
        state.find("1999")


def test_the_newest_of_many_runs_in_one_second_is_known(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    for _ in range(30):
        folder, lock = state.new_run()
        lock.drop()
        assert state.find().id == folder.id
