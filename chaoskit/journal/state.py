"""The state folder: one folder a run, a marker for each run that is not clean, and the halt.

    STATE/runs/ID/journal.jsonl, experiment.yaml, lock, report.json, report.md
    STATE/runs/ID/lost   there when the folder was deleted under its run and written anew
    STATE/open/ID        there from before anything is injected until everything is undone
    STATE/halt           there while the Andon cord is pulled
    STATE/claims.lock    held while targets are chosen, so that no two runs choose the same

The folder is private to its user (0700) unless it was made otherwise on purpose: then the runs in
it are readable and writable to whom the folder is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaoskit.clock import now
from chaoskit.errors import StateError
from chaoskit.forks import forget, keep_from_children
from chaoskit.journal.history import summarise
from chaoskit.journal.record import read_records
from chaoskit.model.binding import LOST
from chaoskit.model.result import Result

KEPT = 200
"""How many clean runs are kept."""


class Lock:
    """An flock on a file. It goes with its holder, however that dies."""

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        self._file = -1

    def take(self, patience: float = 0.0) -> bool:
        """Take it, waiting up to `patience` seconds; whether it was had. Raises StateError."""
        try:
            if self._file < 0:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
                keep_from_children(self._file)
                for_all(self._file, self._mode)
        except OSError as error:
            raise StateError(f"{self.path} cannot be opened: {error.strerror}") from error
        end = now() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if now() >= end:
                    self.drop()
                    return False
                time.sleep(0.005)

    def drop(self) -> None:
        if self._file >= 0:
            forget(self._file)
            os.close(self._file)
            self._file = -1


class RunFolder:
    """One run on the disk."""

    def __init__(self, state: State, run: str) -> None:
        self.state = state
        self.id = run
        self.path = state.path / "runs" / run
        self.marker = state.path / "open" / run
        self.lost = self.path / LOST

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """The run that lies there."""
        return cls(State(path.parent.parent), path.name)

    def records(self) -> list[dict[str, Any]]:
        journal = self.path / "journal.jsonl"
        return read_records(journal) if journal.exists() else []

    def result(self) -> Result:
        return summarise(self.records(), self.path, in_use=self.in_use())

    def clean(self) -> bool:
        """Whether nothing of it is left in the world and nobody is at work on it."""
        return not self.marker.exists()

    def in_use(self) -> bool:
        """Whether a runner, a guardian or a `recover` has it now."""
        path = self.path / "lock"
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StateError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            # A shared lock, so that two who only ask do not see each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(file)

    def lock(self) -> Lock:
        return Lock(self.path / "lock", self.state.file_mode)

    def settled(self) -> None:
        """Take the marker away: everything is undone."""
        with contextlib.suppress(FileNotFoundError):
            self.marker.unlink()


class State:
    """The state folder. Opening it creates nothing; `prepare` does, before a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path | None = None) -> State:
        """`path`, or CHAOSKIT_STATE, or `$XDG_STATE_HOME/chaoskit`, or `~/.local/state/chaoskit`.

        Raises StateError when there is something else at that place.
        """
        if path is None:
            if named := os.environ.get("CHAOSKIT_STATE"):
                path = Path(named)
            else:
                path = Path(os.environ.get("XDG_STATE_HOME") or _home(), "chaoskit")
        path = path.absolute()
        if os.path.lexists(path) and not os.path.isdir(path):
            raise StateError(f"the state folder {path} is no folder")
        return cls(path)

    @property
    def folder_mode(self) -> int:
        try:
            return self.path.stat().st_mode & 0o777
        except OSError:
            return 0o700

    @property
    def file_mode(self) -> int:
        return self.folder_mode & 0o666

    def prepare(self) -> None:
        """Make sure that a run can be recorded: the folders are there and can be written.

        Raises StateError saying what is in the way.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("runs", "open"):
                self._make(self.path / name)
        except OSError as error:
            raise StateError(
                f"the state folder {self.path} cannot be made: {error.strerror}"
            ) from error

    def new_run(self) -> tuple[RunFolder, Lock]:
        """A folder for a new run and its lock, taken. The marker comes last: whoever sees it sees
        the lock too, and no run that is just starting looks left behind. Raises StateError.
        """
        self.prepare()
        try:
            while True:
                folder = RunFolder(self, _new_id())
                with contextlib.suppress(FileExistsError):
                    folder.path.mkdir()
                    break
            folder.path.chmod(self.folder_mode)
            lock = folder.lock()
            lock.take(1.0)
            # Begun before the marker: a marker without a journal is a journal that was lost.
            self._touch(folder.path / "journal.jsonl")
            self._touch(folder.marker)
            return folder, lock
        except OSError as error:
            raise StateError(
                f"the state folder {self.path} cannot be written: {error.strerror}"
            ) from error

    def rewrite(self, run: str, journal: bytes) -> RunFolder:
        """A run's folder anew, from what was in its journal. Raises StateError."""
        self.prepare()
        folder = RunFolder(self, run)
        new = folder.path / "journal.new"
        try:
            folder.path.mkdir(mode=self.folder_mode, exist_ok=True)
            folder.lost.touch()
            new.touch(self.file_mode)
            new.write_bytes(journal)
            new.replace(folder.path / "journal.jsonl")
            folder.marker.touch(self.file_mode)
        except OSError as error:
            raise StateError(
                f"the state folder {self.path} cannot be written: {error.strerror}"
            ) from error
        return folder

    def _touch(self, path: Path) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self.file_mode)
        for_all(file, self.file_mode)
        os.close(file)

    def _make(self, path: Path) -> None:
        if path.is_dir():
            return
        path.mkdir()
        # Not left to the umask: a folder shared on purpose stays shared, a private one private.
        path.chmod(self.folder_mode)

    def runs(self) -> list[RunFolder]:
        """Every run, the newest first."""
        return [RunFolder(self, name) for name in sorted(self._names("runs"), reverse=True)]

    def unsettled(self) -> list[RunFolder]:
        """The runs that are running or left behind, the newest first. Cheap."""
        return [RunFolder(self, name) for name in sorted(self._names("open"), reverse=True)]

    def left(self) -> list[RunFolder]:
        """The runs that died with nobody at work on them: `chaoskit recover` undoes these.

        One that died before its first change has left nothing: it is settled on sight.
        """
        found = []
        for folder in self.unsettled():
            if folder.in_use():
                continue
            lost = not (folder.path / "journal.jsonl").exists()
            if lost or any(record["kind"] == "change" for record in folder.records()):
                found.append(folder)
            else:
                with contextlib.suppress(OSError):
                    folder.settled()
        return found

    def find(self, run: str | None = None) -> RunFolder:
        """The run of that id or beginning of an id; the newest without. Raises StateError."""
        runs = self.runs()
        if not run:
            if not runs:
                raise StateError(f"there is no run in {self.path} yet")
            return runs[0]
        matching = [folder for folder in runs if folder.id.startswith(run)]
        exact = [folder for folder in matching if folder.id == run]
        if len(exact or matching) != 1:
            found = "no run" if not matching else f"{len(matching)} runs"
            raise StateError(f"{found} in {self.path} whose id begins with {run!r}")
        return (exact or matching)[0]

    @contextlib.contextmanager
    def choosing(self) -> Iterator[None]:
        """Held while targets are chosen and claimed. Raises StateError after 30 s of waiting."""
        lock = Lock(self.path / "claims.lock", self.file_mode)
        if not lock.take(30.0):
            raise StateError(f"{lock.path} is held by another run for 30 s")
        try:
            yield
        finally:
            lock.drop()

    def prune(self, keep: int = KEPT, spare: str = "") -> None:
        """Forget the oldest clean runs beyond `keep`; never one that is not clean, nor `spare`:
        by a clock that was set back the newest looks old."""
        open_runs = {*self._names("open"), spare}
        clean = [folder for folder in self.runs() if folder.id not in open_runs]
        if len(clean) <= keep:
            return
        import shutil

        for folder in clean[keep:]:
            shutil.rmtree(folder.path, ignore_errors=True)

    def _names(self, name: str) -> list[str]:
        try:
            return os.listdir(self.path / name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(
                f"the state folder {self.path} cannot be read: {error.strerror}"
            ) from error


def for_all(file: int, mode: int) -> None:
    """The mode of a file of ours whatever the umask: in a folder that is shared on purpose the
    others must be able to use it."""
    found = os.fstat(file)
    if found.st_uid == os.geteuid() and found.st_mode & 0o777 != mode:
        with contextlib.suppress(OSError):  # Some disks know no modes.
            os.fchmod(file, mode)


def _home() -> Path:
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError as error:
        told = "there is no home folder to keep runs in: name a state folder by --state"
        raise StateError(told) from error


def _new_id() -> str:
    """Ids sort by time, down to the microsecond: the newest of two runs in one second is known. By
    UTC, whatever zone the next one is started in, and when an hour comes twice."""
    wall = time.time()
    part = int(wall % 1 * 2**20)
    seconds = time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall))
    return f"{seconds}-{part:05x}{os.urandom(1).hex()[0]}"
