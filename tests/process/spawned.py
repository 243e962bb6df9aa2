"""Processes for a test to hurt: each marked by the test's name for them, all gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process, with_environment

BEGIN = "import os, signal, sys, time; signal.alarm(300); "
IDLE = "print('ready', flush=True); time.sleep(300)"
STUBBORN = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {IDLE}"
POLITE = (
    "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), os._exit(0))); "
    "print('ready', flush=True)\n"
    "while True: time.sleep(300)"
)
FAMILY = f"os.fork(); {IDLE}"
"""A parent and a child with the same command line, as forked workers have."""


class Spawned:
    """What one test has started. `name` is in the arguments of each, `mark` in its environment,
    and so in that of everything below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"victim-{uuid.uuid4().hex[:12]}"
        self.mark = {"CHAOSKIT_TEST": self.name}
        self._popen: list[subprocess.Popen[str]] = []

    def python(self, code: str = IDLE, *words: str, name: str = "") -> Process:
        """A Python that runs this code, once it has said that it is ready."""
        return self.run([*self.words(code, name), *words])

    def words(self, code: str = IDLE, name: str = "") -> list[str]:
        return [sys.executable, "-I", "-S", "-c", BEGIN + code, name or self.name]

    def run(
        self,
        words: list[str],
        *,
        ready: bool = True,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        made = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd or self.folder,
            env=os.environ | self.mark | dict(environment or {}),
            start_new_session=True,
        )
        self._popen.append(made)
        assert made.stdout is not None
        if ready:
            assert made.stdout.readline() == "ready\n"
        return Process.at(made.pid)

    def nobody(self) -> Process:
        """A process of the user nobody; only root can start it."""
        if (setpriv := shutil.which("setpriv")) is None:
            pytest.skip("needs setpriv")
        ids = ["--reuid", "65534", "--regid", "65534", "--clear-groups"]
        line = "echo ready; read -r line </dev/zero"
        process = self.run([setpriv, *ids, "/bin/sh", "-c", line, self.name], cwd=Path("/"))
        assert process.uid() == 65534
        return process

    def reap(self, process: Process) -> None:
        """Wait for its end, as its parent."""
        (made,) = [popen for popen in self._popen if popen.pid == process.pid]
        made.wait(20)

    def alive(self) -> list[Process]:
        """Everything that is left of it all, whoever started it."""
        (assignment,) = [f"{name}={value}".encode() for name, value in self.mark.items()]
        return with_environment(assignment)

    def binding(self, step: str = "1") -> Binding:
        return Binding(
            run="20260101-000000-abcdef", step=step, folder=self.folder, environment=self.mark
        )

    def _end(self) -> bool:
        for process in self.alive():
            with contextlib.suppress(Gone, PermissionError):
                process.signal(signal.SIGKILL)
        for made in self._popen:
            made.poll()
        return not self.alive()

    def close(self) -> None:
        ended = until(self._end, 20)
        for made in self._popen:
            made.kill()
            made.wait()
            assert made.stdout is not None
            made.stdout.close()
        assert ended


@contextlib.contextmanager
def spawning(folder: Path) -> Iterator[Spawned]:
    made = Spawned(folder)
    try:
        yield made
    finally:
        made.close()
