"""The journal of one run: one JSON object a line, append-only, fsynced, enough to undo everything.

A record that is not wholly on the disk does not exist: a torn last line (a crash, a full disk) is
passed over when reading and closed off before the next record is written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaoskit.clock import now, stamp
from chaoskit.errors import StateError
from chaoskit.model.redact import Redactor

SCHEMA_VERSION = 1
"""Of the records below. Recovery must outlive upgrades: a reader knows every older version."""

RESERVE = 256 * 1024
"""Bytes held back on the journal's disk, so that a disk that fills does not stop the undo."""

_STRUCTURE = frozenset(
    {
        "kind",
        "at",
        "key",
        "was",
        "put",
        "keys",
        "within",
        "run",
        "step",
        "cell",
        "fault",
        "params",
        "target",
    }
)
# Cells are named and compared by these: a short secret must not garble them, and none is in them.


class Journal:
    """Appends to a run's journal. Safe to use from several threads.

    Raises StateError from `append`, never from `note`: what must be on the disk before the world
    is changed is appended; what tells of an undo is noted, for no full disk may stop an undo.
    """

    def __init__(self, folder: Path, redactor: Redactor | None = None, mode: int = 0o600) -> None:
        self.folder = folder
        self.redactor = redactor or Redactor()
        self.began = now()
        """CLOCK_MONOTONIC seconds from which `t` in the records counts."""
        self.trouble = ""
        """What went wrong with the disk; the engine stops the run when this is set."""
        self._path = folder / "journal.jsonl"
        self._reserve = folder / "reserve"
        self._guard = threading.Lock()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, mode)
        except OSError as error:
            raise StateError(f"the journal in {folder} cannot be written: {_why(error)}") from error
        self._size = os.fstat(self._file).st_size
        self._torn = self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    @property
    def file(self) -> int:
        """The descriptor, by which the records can be read wherever the file is now."""
        return self._file

    def hold_reserve(self) -> None:
        """Set the reserve aside; raises StateError when the disk has no room even for that."""
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
                os.fsync(file.fileno())
        except OSError as error:
            self._drop_reserve()
            raise StateError(f"no room for the journal in {self.folder}: {_why(error)}") from error

    def append(self, kind: str, **fields: Any) -> None:
        """Write one record and fsync it. Raises StateError when it is not safely on the disk."""
        with self._guard:
            self._write(kind, fields)
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self.trouble = f"the journal cannot be synced: {_why(error)}"
                raise StateError(self.trouble) from error
            if told := self._harmed():
                self.trouble = told
                raise StateError(told)

    def note(self, kind: str, **fields: Any) -> None:
        """Write one record as well as can be. Trouble is remembered in `trouble`, not raised."""
        with self._guard, contextlib.suppress(StateError, TypeError, ValueError):
            self._write(kind, fields)

    def lost(self) -> str:
        """What has become of the journal's file, when somebody has taken it away; else ""."""
        with self._guard:
            if self._file >= 0 and not self.trouble:
                self.trouble = self._harmed()
            return self.trouble

    def _harmed(self) -> str:
        """Nobody could undo the run from a file that is not where it is looked for."""
        ours, there = os.fstat(self._file), None
        with contextlib.suppress(OSError):
            there = os.stat(self._path)
        if there is None:
            what = "deleted" if ours.st_nlink == 0 else "moved away"
        elif not os.path.samestat(ours, there):
            what = "replaced"
        elif ours.st_size < self._size:
            what = "cut short"
        else:
            return ""
        return f"the journal in {self.folder} was {what} while the run was on"

    def sync(self) -> None:
        with self._guard, contextlib.suppress(OSError):
            os.fdatasync(self._file)

    def close(self) -> None:
        with self._guard:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            self._drop_reserve()

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        record: dict[str, Any] = {"kind": kind, "at": stamp(), "t": round(now() - self.began, 4)}
        for name, value in fields.items():
            record[name] = value if name in _STRUCTURE else self.redactor.json(value)
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "backslashreplace"
        )
        data = (b"\n" if self._torn else b"") + line + b"\n"
        try:
            self._write_whole(data)
        except OSError as error:
            self.trouble = f"the journal cannot be written: {_why(error)}"
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise StateError(self.trouble) from error
            self._drop_reserve()
            try:
                self._write_whole(data)
            except OSError as again:
                raise StateError(self.trouble) from again

    def _write_whole(self, data: bytes) -> None:
        """All or nothing: what a full disk cut short is taken off again."""
        before = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise
        self._size = max(self._size, before) + len(data)
        self._torn = False

    def _drop_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve.unlink()


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records of a journal, in order. Raises StateError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateError(f"{path} cannot be read: {_why(error)}") from error
    records = []
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "kind" in record:
                records.append(record)
    return records


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
