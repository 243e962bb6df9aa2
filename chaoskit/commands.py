"""Running a command of the user's: bounded in time, in its own group, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chaoskit.clock import Cancel, now
from chaoskit.errors import ChaoskitError, Interrupted

CAP = 64 * 1024
"""Bytes of each of output and errors that are kept."""

MOST_HELD = 16 * CAP
"""Bytes of output that are held before what is beyond CAP is thrown away."""

LOOK = 0.02
"""Seconds between two looks at whether the run aborts."""


class NotStarted(ChaoskitError):
    """There is no such command, or it may not be run."""


class TimedOut(ChaoskitError):
    """It did not end in time, and was killed with all of its group."""


@dataclass(frozen=True, slots=True)
class Completed:
    """exit: its exit code, or minus the signal that ended it. seconds: how long it took."""

    exit: int
    output: str
    errors: str
    seconds: float


def run_command(
    command: str | tuple[str, ...],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cancel: Cancel | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run a command to its end: a string by `sh -c`, a tuple as it is.

    timeout: seconds. environment: added to our own; secrets go this way, never in arguments.
    Output goes to memory files, not pipes, so that a daemon that the command leaves behind holds
    nobody up; at most CAP bytes of it are kept. Raises NotStarted, TimedOut, and Interrupted when
    `cancel` is raised; in the last two the command's whole process group is killed.
    """
    began = now()
    if cwd is not None and not os.path.isdir(cwd):
        raise NotStarted(f"cannot be started: there is no folder {cwd}")
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    if cwd is not None and not _is_here(cwd):
        # posix_spawn knows no folder; a shell that becomes the command does.
        words = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *words]
    with _memory() as output, _memory() as errors:
        pid = _spawn(words, output, errors, os.environ | dict(environment or {}))
        try:
            code = _wait(pid, began + timeout, cancel, (output, errors))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if isinstance(error, TimeoutError):
                raise TimedOut(f"did not end within {timeout:g}s and was killed") from None
            raise
        return Completed(code, _kept(output), _kept(errors), now() - began)


def _is_here(folder: Path) -> bool:
    try:
        return folder.samefile(".")
    except OSError:
        return False


def _spawn(
    words: list[str], output: IO[bytes], errors: IO[bytes], environment: Mapping[str, str]
) -> int:
    """Start it in a session of its own, with nothing to read. `subprocess` is not used: what it
    costs to import is a good part of a whole run."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawnp(
            words[0],
            words,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing, 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE],
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStarted(f"cannot be started: {(why or '').lower()}") from error
    finally:
        os.close(nothing)


def _wait(pid: int, end: float, cancel: Cancel | None, written: Sequence[IO[bytes]]) -> int:
    """Its exit code, when it ends; TimeoutError or Interrupted before that."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(max(0.0, min(LOOK, end - now())) * 1000):
            for file in written:
                # Who prints without end goes on writing behind a hole, and fills no memory.
                if os.fstat(file.fileno()).st_blocks * 512 > MOST_HELD:
                    os.ftruncate(file.fileno(), CAP)
            if now() >= end:
                raise TimeoutError
            if cancel is not None and cancel.is_set:
                raise Interrupted("the run is aborting")
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _memory() -> IO[bytes]:
    return os.fdopen(os.memfd_create("output"), "wb")


def _kept(file: IO[bytes]) -> str:
    data = os.pread(file.fileno(), CAP, 0)
    return data.decode(errors="replace")
