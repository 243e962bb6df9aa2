"""A real process to hurt, with what `Burdens` and `Files` ask of a target and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaoskit.capabilities import Proc
from chaoskit.clock import Cancel, now, until
from chaoskit.errors import Gone
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault
from chaoskit.procfs import Process, tree
from chaoskit.targets.burdens import Burdens, leftover_helpers
from chaoskit.targets.files import Files

SOON = 20.0
"""Seconds in which what takes a fraction of one must have happened, on a loaded machine too."""

SERVANT = """
import os, subprocess, sys
held, children = [], []
for line in sys.stdin:
    word, *rest = line.split()
    if word == "hold":  # a descriptor of that number
        os.dup2(0, int(rest[0]))
        answer = "held"
    elif word == "open":  # how many more files can be opened, all closed again
        more = []
        try:
            while len(more) < 5000:
                more.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for number in more:
            os.close(number)
        answer = len(more)
    elif word == "fork":  # a child that lives as long as we do
        reading, writing = os.pipe()
        children.append(subprocess.Popen(["/bin/cat"], stdin=reading, stdout=2))
        os.close(reading)
        held.append(writing)
        answer = children[-1].pid
    print(answer, flush=True)
"""


class Beside(Burdens, Files):
    """A target. Its process does what `ask` says; everything of it ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self._run = f"20261123-053812-{uuid.uuid4().hex[:6]}"
        self._kept = Path(tempfile.mkdtemp(prefix="chaoskit-test-"))
        # The last word is a guardian's: other tests look for what dead runs left, everywhere.
        self.popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SERVANT, f"chaoskit-{self._run}"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.root = Process.at(self.popen.pid)
        self._reading, self._writing = os.pipe()
        self.binding = self.bind()

    def bind(self, **more: Any) -> Binding:
        """As the runner binds it."""
        given = {"lifeline": self._reading, "ends_at": now() + 100.0} | more
        return Binding(self._run, "1", self._kept, **given)

    def undoing(self) -> None:
        """From now on as the guardian and `recover` bind it."""
        self.binding = Binding(self._run, "1", self._kept)

    def ask(self, *words: object) -> str:
        assert self.popen.stdin is not None and self.popen.stdout is not None
        self.popen.stdin.write(" ".join(map(str, words)) + "\n")
        self.popen.stdin.flush()
        return self.popen.stdout.readline().strip()

    def tree(self) -> list[Proc]:
        return list(tree(self.root))

    def process(self, key: str) -> Proc:
        return Process.from_key(key)

    def helpers(self) -> list[Process]:
        return [process for mark, process in leftover_helpers() if mark.startswith(self.mark)]

    def cut(self) -> None:
        """The runner is gone: nobody holds the lifeline any more."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def end(self) -> None:
        """The target ends."""
        for process in tree(self.root)[1:]:
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        self.popen.kill()
        self.popen.communicate()

    def close(self) -> None:
        self.cut()
        for process in self.helpers():
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        until(lambda: not self.helpers(), SOON)
        self.end()
        os.close(self._reading)
        shutil.rmtree(self._kept)


class After(Cancel):
    """An abort that comes when it has been looked for so many times; `meanwhile` at each look."""

    def __init__(self, looks: int, meanwhile: Any = lambda: None) -> None:
        super().__init__()
        self.looks = looks
        self.meanwhile = meanwhile

    def check(self) -> None:
        self.meanwhile()
        self.looks -= 1
        if self.looks < 0:
            self.set()
        super().check()


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Beside]:
    made = Beside(folder)
    try:
        yield made
    finally:
        made.close()


def inject(fault: Fault[Any], target: Beside) -> list[Change]:
    """As the engine does it: each change is made before the next one is asked for."""
    done = []
    for change in fault.changes(target):
        fault.make(target, change)
        done.append(change)
    return done


def proven(fault: Fault[Any], target: Beside, changes: list[Change]) -> bool:
    return until(lambda: fault.took(target, changes), SOON)


def unproven(fault: Fault[Any], target: Beside, changes: list[Change]) -> bool:
    return until(lambda: not fault.took(target, changes), SOON)


def undo(fault: Fault[Any], target: Beside, changes: list[Change]) -> None:
    """As whoever undoes does it: without a lifeline, newest first, and looking until it is so."""
    target.undoing()
    for change in reversed(changes):
        fault.unmake(target, change)
    for change in changes:
        assert until(lambda c=change: fault.look(target, c) == c.was, SOON)  # type: ignore[misc]
