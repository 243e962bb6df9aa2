"""Look at a file: is it there, how big, how old, what is in it."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from typing import IO

from chaoskit.clock import now
from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Unit

CAP = 1024 * 1024
"""Bytes of a file's text that are read, and of which its lines are counted at a time."""


@dataclass(frozen=True)
class FileProbe(Probe):
    """A file or folder: whether it exists, its size, age, text and lines."""

    path: str
    timeout: Duration = 2.0
    wants: tuple[str, ...] = field(default=(), metadata={"internal": True})
    kind = "file"
    readings = {
        "exists": Unit.TEXT,
        "size": Unit.SIZE,
        "age": Unit.DURATION,
        "text": Unit.TEXT,
        "lines": Unit.NUMBER,
    }
    main = "exists"

    def read(self, context: Context) -> Reading:
        path = context.folder / self.path
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return {"exists": False}
        except OSError as error:
            raise ProbeError(f"{path} cannot be looked at: {error.strerror}") from error
        reading: dict[str, Json] = {
            "exists": True,
            "size": found.st_size,
            "age": max(0.0, time.time() - found.st_mtime),
        }
        # Reading a pipe or a device could wait for ever.
        if stat.S_ISREG(found.st_mode):
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise ProbeError(f"{path} cannot be read: {error.strerror}") from error
            with os.fdopen(file, "rb") as opened:
                data = opened.read(CAP)
                reading["text"] = data.decode(errors="replace")
                # What is not asked for is not worth reading a long file.
                if len(data) < CAP or "lines" in self.wants:
                    reading["lines"] = self._lines(data, opened, context)
        return reading

    def _lines(self, data: bytes, rest: IO[bytes], context: Context) -> int:
        """Raises ProbeError when the rest is too long to be counted in time."""
        lines, last, end = 0, b"\n", now() + self.timeout
        while data:
            lines, last = lines + data.count(b"\n"), data[-1:]
            context.cancel.check()
            if now() > end:
                raise ProbeError(f"{self.path} is too long to count its lines in {self.timeout:g}s")
            data = rest.read(CAP)
        return lines + (last != b"\n")

    def describe(self) -> str:
        return f"file {self.path}"
