"""Pipes for splice(2), which moves a connection's bytes within the kernel."""

from __future__ import annotations

import contextlib
import fcntl
import os

SIZE = 1024 * 1024
"""Bytes that a pipe for splice holds."""


class Pipe:
    """A pipe with `size` bytes of a connection in it."""

    __slots__ = ("reading", "size", "writing")

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = 0

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pipes:
    """Pipes are lent for the time of a splice; a few empty ones are kept."""

    KEPT = 16
    MOST = 512

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._lent = 0

    def lend(self) -> Pipe | None:
        """An empty pipe; None when there are too many: then bytes are copied instead."""
        if self._idle:
            self._lent += 1
            return self._idle.pop()
        if self._lent >= self.MOST:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        # An ordinary user may have so much in all; the usual 64 KiB do as well.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, SIZE)
        self._lent += 1
        return pipe

    def back(self, pipe: Pipe) -> None:
        self._lent -= 1
        if pipe.size or len(self._idle) >= self.KEPT:
            pipe.close()
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        for pipe in self._idle:
            pipe.close()
        self._idle.clear()
