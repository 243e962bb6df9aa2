"""The runner's end of its guardian: starts it, beats, and lets it go when all is undone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaoskit.clock import Cancel, now
from chaoskit.errors import StateError
from chaoskit.forks import forget, keep_from_children

BEAT = 0.1
"""Seconds between two beats."""
UNREAD = 10.0
"""Seconds in which a guardian that lives has read all that it was told."""

_ending: list[int] = []
"""Guardians of this process that were let go and not yet reaped: a program may run many runs."""


def _reap() -> None:
    for pid in list(_ending):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _ending.remove(pid)


class Guard:
    """Talks to the guardian over a pipe, a line a message; see `guardian` for what they mean."""

    def __init__(self) -> None:
        self.pid = 0
        self.answers = -1
        """Descriptor that gives end of file when the guardian dies; -1 without a guardian."""
        self._orders = -1
        self._beaten = 0.0
        self._read = now()
        """When it had last read everything."""
        self._writing = threading.Lock()
        self._ready = threading.Event()
        self._promising = threading.Lock()
        self._promises: dict[str, tuple[float, bool]] = {}
        self.deaf = False
        """The guardian does not read: it is frozen, and so no guardian."""

    def start(
        self,
        folder: Path,
        run: str,
        environment: Mapping[str, str],
        faults: Sequence[tuple[str, str]],
        targets: Sequence[str],
    ) -> None:
        """Start the guardian of that run. Raises StateError when it cannot be started.

        environment: the run's variables, secrets among them; they go through the pipe only.
        faults (each with the kind of target it is on), targets: what it must have loaded to undo
        this run, even when the disk is gone.
        """
        _reap()
        orders_in, self._orders = os.pipe()
        self.answers, answers_out = os.pipe()
        keep_from_children(self._orders)
        try:
            log = os.open(
                folder / "guardian.log",
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
                0o600,
            )
            try:
                # Its own session and its own standard streams: it outlives the terminal, gets no
                # Ctrl-C, and does not keep the pipe open that the caller of chaoskit reads.
                self.pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-P", "-m", "chaoskit.engine.guardian", f"chaoskit-{run}"],
                    os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, orders_in, 0),
                        (os.POSIX_SPAWN_DUP2, answers_out, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                    ],
                    setsid=True,
                )
            finally:
                os.close(log)
        except OSError as error:
            raise StateError(f"the guardian cannot be started: {error.strerror}") from error
        finally:
            os.close(orders_in)
            os.close(answers_out)
        os.set_blocking(self._orders, False)
        header = {
            "folder": str(folder),
            "state": str(folder.parent.parent),
            "runner": os.getpid(),
            "environment": dict(environment),
            "python_path": os.environ.get("PYTHONPATH"),
            "faults": list(faults),
            "targets": list(targets),
        }
        self._send("start " + json.dumps(header))

    def heard(self, data: bytes) -> bool:
        """What came from the guardian; whether it lives."""
        if data:
            self._ready.set()
        return bool(data)

    def wait_ready(self, cancel: Cancel, patience: float = 10.0) -> None:
        """Until the guardian has said that it watches and has loaded what an undo needs.

        Nothing that has a way back is done before. Raises Interrupted, StateError.
        """
        end = now() + patience
        while not self._ready.wait(0.05):
            cancel.check()
            if now() > end:
                raise StateError("the guardian did not start; see guardian.log in the run's folder")

    def beat(self) -> None:
        if self._orders >= 0 and now() - self._beaten >= BEAT - 0.01:
            self._beaten = now()
            if not self._ready.is_set() or not self._unread():
                self._read = now()
            self._send("beat")
            # One that is frozen reads nothing; the pipe would hold its beats for twenty minutes.
            self.deaf = self.deaf or now() - self._read > UNREAD

    def _unread(self) -> int:
        """Bytes that the guardian has yet to read."""
        with self._writing:
            if self._orders < 0:
                return 0
            told = fcntl.ioctl(self._orders, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(told, sys.byteorder)

    def expect(self, what: str, seconds: float, *, undo: bool = False) -> None:
        """`what` will be over by then, or the runner counts as hung. Several things may be going
        on; the first that is late counts. undo: an abort does not cut this time short."""
        with self._promising:
            self._promises[what] = (now() + seconds, undo)
            self._tell()

    def over(self, what: str) -> None:
        """`what` is over: nothing is promised of it any more."""
        with self._promising:
            self._promises.pop(what, None)
            self._tell()

    def hasten(self, seconds: float) -> None:
        """The run aborts: what is no undo gives way within that time."""
        with self._promising:
            end = now() + seconds
            for what, (at, undo) in self._promises.items():
                if not undo:
                    self._promises[what] = (min(at, end), undo)
            self._tell()

    def _tell(self) -> None:
        first = min((at for at, _ in self._promises.values()), default=float("inf"))
        self._send(f"expect {first:.3f}")

    def let_go(self) -> None:
        """Everything is undone, or known to be stuck: the guardian may end, in its own time."""
        self._send("done")

    def close(self) -> None:
        """After `let_go`, when nobody listens to the guardian any more."""
        self._close()
        if self.pid:
            _ending.append(self.pid)
            self.pid = 0

    def abandon(self) -> None:
        """Close the pipe without a word, and wait until the guardian has undone what there is."""
        self._close()
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0

    def _close(self) -> None:
        with self._writing:
            forget(self._orders)
            for file in (self._orders, self.answers):
                if file >= 0:
                    os.close(file)
            self._orders = self.answers = -1

    def _send(self, message: str) -> None:
        with self._writing:
            if self._orders >= 0:
                # A dead guardian is heard of by its end of the other pipe.
                with contextlib.suppress(BrokenPipeError):
                    try:
                        os.write(self._orders, message.encode() + b"\n")
                    except BlockingIOError:
                        self.deaf = True
