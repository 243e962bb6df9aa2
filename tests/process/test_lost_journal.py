"""The run's journal is taken away while its fault is in: the target is put back all the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bent import bent, chaoskit, pause, records, write
from spawned import Spawned, spawning

from chaoskit.clock import until
from chaoskit.errors import StateError
from chaoskit.journal import Journal, RunFolder, State, read_records
from chaoskit.recovery import bring_back


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def delete_all(folder: RunFolder) -> None:
    shutil.rmtree(folder.state.path)


def delete_the_run(folder: RunFolder) -> None:
    shutil.rmtree(folder.path)


def delete_the_journal(folder: RunFolder) -> None:
    (folder.path / "journal.jsonl").unlink()


def replace_the_journal(folder: RunFolder) -> None:
    new = folder.path / "new"
    new.touch()
    new.replace(folder.path / "journal.jsonl")


def move_the_journal(folder: RunFolder) -> None:
    """As a rotation of logs does: the old one is there under another name."""
    path = folder.path / "journal.jsonl"
    path.rename(path.with_suffix(".1"))
    path.touch()


def move_all(folder: RunFolder) -> None:
    folder.state.path.rename(folder.state.path.with_name("elsewhere"))


def delete_the_marker(folder: RunFolder) -> None:
    folder.marker.unlink()


def put_a_file_in_its_place(folder: RunFolder) -> None:
    """Nothing can be written there any more."""
    shutil.rmtree(folder.state.path)
    folder.state.path.touch()


def make_a_folder_of_the_journal(folder: RunFolder) -> None:
    (folder.path / "journal.jsonl").unlink()
    (folder.path / "journal.jsonl").mkdir()


Harm = Callable[[RunFolder], None]
HARMS: list[Harm] = [
    delete_all,
    delete_the_run,
    delete_the_journal,
    replace_the_journal,
    move_the_journal,
    move_all,
    delete_the_marker,
    put_a_file_in_its_place,
    make_a_folder_of_the_journal,
]
ELSEWHERE = (put_a_file_in_its_place, make_a_folder_of_the_journal)


def named(harm: Harm) -> str:
    return harm.__name__.replace("_", "-")


class Case:
    """A paused process, and an action whose undo says that it ran."""

    def __init__(self, folder: Path, spawned: Spawned) -> None:
        self.process = spawned.python()
        self.flag, self.temporary = folder / "flag", folder / "tmp"
        self.temporary.mkdir()
        touch = {"run": ["touch", str(self.flag)], "undo": ["rm", "-f", str(self.flag)]}
        self.file = write(folder, touch, pause(spawned))
        self.state = State(folder / "state")

    def running(self) -> RunFolder:
        """The run's folder, once the fault is in."""
        assert until(lambda: self.process.state() == "stopped" and self.injected(), 30)
        assert self.flag.exists()
        return self.state.find()

    def injected(self) -> bool:
        return any(r["kind"] == "injected" for f in self.state.runs() for r in f.records())

    def restored(self) -> bool:
        return self.process.state() == "running" and not self.flag.exists()


@pytest.fixture
def case(tmp_path: Path, spawned: Spawned) -> Case:
    return Case(tmp_path, spawned)


@pytest.mark.parametrize("harm", HARMS, ids=named)
def test_the_guardian_puts_back_what_its_journal_was_lost_of(case: Case, harm: Harm) -> None:
    with bent(case.file, TMPDIR=str(case.temporary)) as runner:
        folder = case.running()
        runner.send_signal(signal.SIGSTOP)  # It shall not notice before it dies.
        harm(folder)
        runner.kill()
        assert until(case.restored, 20), "it was not put back"
        runner.wait(20)
        if harm in ELSEWHERE:
            assert until(lambda: not os.listdir(case.temporary), 20), "the guardian left its own"
        else:
            assert until(lambda: folder.result().undone_by == "guardian" and folder.clean(), 20)
            result = folder.result()
            assert result.verdict and result.verdict.value == "aborted" and not result.left
            assert result.title == "a test", "what the journal had held was lost"


@pytest.mark.parametrize(
    "harm", [harm for harm in HARMS if harm is not delete_the_marker], ids=named
)
def test_the_runner_stops_and_puts_back(case: Case, harm: Harm) -> None:
    with bent(case.file, TMPDIR=str(case.temporary)) as runner:
        folder = case.running()
        harm(folder)
        assert until(case.restored, 20), "it was not put back"
        out, _ = runner.communicate(timeout=30)
    assert runner.returncode == 0 and out == "failed runner\n", out
    # What was done is told as ever, in a folder that can be written.
    (report,) = [*case.state.path.rglob("report.md"), *case.temporary.rglob("report.md")]
    assert (report.parents[3] == case.temporary) == (harm in ELSEWHERE)
    text = report.read_text()
    assert "while the run was on" in text and "proven, undone in" in text and "a test" in text
    assert not State(report.parents[2]).unsettled()


def test_a_journal_that_is_cut_short_stops_the_run(case: Case) -> None:
    with bent(case.file) as runner:
        folder = case.running()
        (folder.path / "journal.jsonl").open("w").close()
        assert until(case.restored, 20), "it was not put back"
        out, _ = runner.communicate(timeout=30)
    assert out == "failed runner\n" and "was cut short" in folder.result().reason


def test_a_verdict_needs_no_record(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even an emergency folder can be written, the run itself says how it ended."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    away = "import tempfile\ndef _no(**_): raise OSError\ntempfile.mkdtemp = _no"
    with bent(case.file, away) as runner:
        put_a_file_in_its_place(case.running())
        out, _ = runner.communicate(timeout=30)
        assert case.restored()
    assert out == "failed None\n", out


def test_nobody_else_s_file_is_written_over(case: Case, tmp_path: Path) -> None:
    """What lies in the journal's place may be a link to anything."""
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    with bent(case.file) as runner:
        folder = case.running()
        runner.send_signal(signal.SIGSTOP)
        (folder.path / "journal.jsonl").unlink()
        (folder.path / "journal.jsonl").symlink_to(precious)
        runner.kill()
        assert until(case.restored, 20)
    assert precious.read_text() == "keep me"


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """The journal can be read and nothing new can be written beside it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder read-only for itself")
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield
    finally:
        umount = ["umount", str(place)]
        assert until(lambda: subprocess.run(umount, capture_output=True).returncode == 0, 20)


def test_the_guardian_puts_back_from_a_disk_that_is_read_only_now(case: Case) -> None:
    with bent(case.file, TMPDIR=str(case.temporary)) as runner:
        case.running()
        runner.send_signal(signal.SIGSTOP)
        with read_only(case.state.path):
            runner.kill()
            assert until(case.restored, 20), "it was not put back"
            assert until(lambda: not os.listdir(case.temporary), 20)


def test_the_runner_puts_back_on_a_disk_that_is_read_only_now(
    tmp_path: Path, spawned: Spawned
) -> None:
    """And runs the undo of an action once, though its marker cannot be taken away."""
    process, undone = spawned.python(), tmp_path / "undone"
    action = {"run": ["true"], "undo": f"echo undone >> {undone}"}
    file = write(tmp_path, action, pause(spawned))
    with bent(file) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        with read_only(tmp_path / "state"):
            runner.send_signal(signal.SIGTERM)
            out, _ = runner.communicate(timeout=30)
            assert process.state() == "running" and undone.read_text() == "undone\n"
            assert out == "aborted runner\n", out
            again = chaoskit("recover", state=tmp_path / "state")
            assert again.returncode == 3 and "make it writable" in again.stderr
    done = chaoskit("recover", state=tmp_path / "state")
    assert done.returncode in (0, 4), done.stdout + done.stderr
    assert undone.read_text() == "undone\n" and not State(tmp_path / "state").unsettled()


def test_what_is_where_it_was_is_left_as_it_is(tmp_path: Path) -> None:
    folder, lock = State(tmp_path / "state").new_run()
    lock.drop()
    journal = Journal(folder.path)
    journal.append("run")
    held = os.open(folder.path / "journal.jsonl", os.O_RDONLY)
    try:
        again = bring_back(tmp_path / "state", folder.id, held)
        assert again.path == folder.path and not folder.lost.exists()
        journal.append("change", cell=1)
        assert not journal.lost(), "the journal was written anew for nothing"
        assert bring_back(tmp_path / "state", folder.id, -1).path == folder.path
        shutil.rmtree(tmp_path / "state")
        again = bring_back(tmp_path / "state", folder.id, held)
        assert [r["kind"] for r in again.records()] == ["run", "change"]
        assert again.lost.exists() and again.marker.exists()
        assert again.path.stat().st_mode & 0o777 == 0o700
    finally:
        os.close(held)
        journal.close()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.unlink(), "deleted"),
        (lambda path: path.rename(path.with_name("other")), "moved away"),
        (lambda path: path.parent.rename(path.parent.with_name("other")), "moved away"),
        (lambda path: Path(shutil.copy(path, path.with_name("new"))).replace(path), "replaced"),
        (lambda path: os.truncate(path, 10), "cut short"),
    ],
)  # fmt: skip
def test_whatever_becomes_of_the_journal_is_told(
    tmp_path: Path, harm: Callable[[Path], object], told: str
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    journal = Journal(place)
    for _ in range(3):
        journal.append("note")
        journal.note("note")
    assert not journal.lost()
    harm(place / "journal.jsonl")
    with pytest.raises(StateError, match=told):
        journal.append("change", cell=1)
    assert told in journal.lost()
    journal.close()


def test_a_disk_that_was_full_for_a_while_has_not_cut_it_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    journal, real, left = Journal(tmp_path), os.write, 2

    def write(file: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            return real(file, data[:7])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "write", write)
    journal.note("lost")
    monkeypatch.setattr(os, "write", real)
    journal.trouble = ""
    journal.append("change", cell=1)
    assert not journal.lost()
    journal.close()
    assert [r["kind"] for r in read_records(tmp_path / "journal.jsonl")] == ["change"]
