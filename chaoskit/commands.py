"""Running a command of the user's: bounded in time, in its own group, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chaoskit.clock import Cancel, now
from chaoskit.errors import ChaoskitError, Interrupted

CAP = 64 * 1024
"""Bytes of each of output and errors that are kept."""


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
    Output goes to memory files, not pipes, so that a daemon that the command leaves behind holds nobody
    up; at most CAP bytes of it are kept. Raises NotStarted, TimedOut, and Interrupted when
    `cancel` is raised; in the last two the command's whole process group is killed.
    """
    import subprocess

    began = now()
    with _memory() as output, _memory() as errors:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command] if isinstance(command, str) else list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=os.environ | dict(environment or {}),
                cwd=cwd,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise NotStarted(f"cannot be started: {why}") from error
        try:
            _wait(process, began + timeout, cancel)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, TimeoutError):
                raise TimedOut(f"did not end within {timeout:g}s and was killed") from None
            raise
        return Completed(process.returncode, _kept(output), _kept(errors), now() - began)


def _wait(process: object, end: float, cancel: Cancel | None) -> None:
    """Until the process ends; TimeoutError or Interrupted before that."""
    import subprocess

    assert isinstance(process, subprocess.Popen)
    pause = 0.0005
    while process.poll() is None:
        if now() >= end:
            raise TimeoutError
        if cancel is not None and cancel.is_set:
            raise Interrupted("the run is aborting")
        time.sleep(min(pause, max(0.0, end - now())))
        pause = min(pause * 1.3, 0.02)


def _memory() -> IO[bytes]:
    return os.fdopen(os.memfd_create("output"), "wb")


def _kept(file: IO[bytes]) -> str:
    data = os.pread(file.fileno(), CAP, 0)
    return data.decode(errors="replace")
