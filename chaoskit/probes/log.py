"""New lines in a log that match, however the log is rotated."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Regex, Unit

CHUNK = 1024 * 1024
BURST = 16 * CHUNK
"""Bytes that one reading takes at most; the next one goes on from there."""
LONGEST = 64 * 1024
"""Bytes of a line that are searched."""
FIRST_LOOK = 0.5
"""Seconds for which lines are waited for at first: of no time nothing could be said."""
SEEN = 64
"""Bytes by which a log that was written anew is known."""


@dataclass(frozen=True)
class LogProbe(Probe):
    """New lines in a log file that match."""

    path: str
    matches: Regex
    timeout: Duration = 2.0
    missing: bool = field(default=False, metadata={"doc": "a file that is not there is no error"})
    kind = "log"
    readings = {
        "count": Unit.NUMBER,
        "total": Unit.NUMBER,
        "line": Unit.TEXT,
    }
    main = "count"

    def read(self, context: Context) -> Reading:
        """count: matching lines since the last reading (the first one begins at the file's end, and
        looks for half a second); total: since then; line: the last one that matched."""
        path = context.folder / self.path
        tail = context.memory.get("tail")
        if tail is None:
            tail = context.memory["tail"] = _Tail(path, re.compile(self.matches))
            context.closers.append(tail.close)
            context.cancel.wait(min(FIRST_LOOK, self.timeout / 2))
        try:
            count = tail.read()
        except FileNotFoundError as error:
            if not self.missing:
                raise ProbeError(f"there is no log {path}") from error
            count = 0
        except OSError as error:
            raise ProbeError(f"the log {path} cannot be read: {error.strerror}") from error
        reading: dict[str, Json] = {"count": count, "total": tail.total}
        if tail.line is not None:
            reading["line"] = tail.line
        return reading

    def describe(self) -> str:
        return f"log {self.path} matching {self.matches}"


class _Tail:
    """Follows one path: an old file is read to its end before the new one is begun."""

    def __init__(self, path: Path, wanted: re.Pattern[str]) -> None:
        self.total = 0
        self.line: str | None = None
        self._path = path
        self._wanted = wanted
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._seen = b""
        with contextlib.suppress(FileNotFoundError):  # One that comes is read from its start.
            self._open(from_end=True)

    def read(self) -> int:
        """How many new lines match. Raises OSError."""
        count, budget = 0, BURST
        while True:
            if self._file is None:
                self._open(from_end=False)
            file = self._file
            assert file is not None
            # Truncated in place (copytruncate, a restart with `>`): what is there now is all new,
            # and it may be longer already than what was. Nothing but zeros is a hole: the writer
            # goes on at its old place.
            if (before := self._before(file)) != self._seen and (
                len(before) < len(self._seen) or before.strip(b"\0")
            ):
                file.seek(0)
                self._rest = b""
            while budget > 0 and (data := file.read(min(CHUNK, budget))):
                budget -= len(data)
                count += self._take(data)
            self._seen = self._before(file)
            if budget <= 0 and file.tell() < os.fstat(file.fileno()).st_size:
                self.total += count
                raise ProbeError(f"{self._path} has more new lines than one reading takes")
            if budget <= 0 or not self._replaced(file):
                self.total += count
                return count
            # A last line without an end will get none any more.
            count += self._take(b"\n") if self._rest else 0
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rest = b""

    def _open(self, from_end: bool) -> None:
        # A named pipe would be waited for.
        opened = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise ProbeError(f"{self._path} is no file")
        self._file = open(opened, "rb")  # noqa: SIM115  It is read from by and by.
        if from_end:
            self._file.seek(0, os.SEEK_END)
        self._seen = self._before(self._file)

    def _before(self, file: IO[bytes]) -> bytes:
        """The last bytes before the place that is read next: other ones, or none, when another
        text has taken this one's place."""
        place = file.tell()
        return os.pread(file.fileno(), min(place, SEEN), max(0, place - SEEN))

    def _replaced(self, file: IO[bytes]) -> bool:
        try:
            now, ours = self._path.stat(), os.fstat(file.fileno())
        except FileNotFoundError:
            return False  # Moved away, and no new one yet: the old one may still be written to.
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)

    def _take(self, data: bytes) -> int:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LONGEST]
        count = 0
        for line in lines:
            text = line[:LONGEST].decode(errors="replace")
            if self._wanted.search(text):
                count += 1
                self.line = text[:1000]
        return count
