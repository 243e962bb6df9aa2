"""Things to hurt, one for each kind of target that there is."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from containers import (
    ClockSpecimen,
    DockerSpecimen,
    EndedSpecimen,
    NetworkedSpecimen,
    RemovedSpecimen,
)
from links import OurProxySpecimen, OwnProxySpecimen, ToxiproxySpecimen

from chaoskit import registry
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.matching import ProcessMatch
from chaoskit.model.units import Json
from chaoskit.procfs import Process, tree
from chaoskit.targets.burdens import leftover_helpers
from chaoskit.testing.conformance import Specimen

VICTIM = Path(__file__).with_name("victim.py")


class ProcessSpecimen(Specimen):
    """A process with two children, known by a name of its own in its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"victim-{uuid.uuid4().hex[:12]}"
        ready = folder / "ready"
        self._command = [sys.executable, "-I", "-S", str(VICTIM), self.name]
        self._process = subprocess.Popen([*self._command, str(ready)])
        assert until(ready.exists, 20.0)

    def target(self) -> Mapping[str, Any]:
        return {"process": {"cmdline": self.name}}

    def _roots(self) -> list[Process]:
        return ProcessMatch(cmdline=self.name).find_processes()

    def variables(self) -> Mapping[str, str]:
        return {"FOLDER": str(self.folder), "RESTART": f"exec {' '.join(self._command)}"}

    def snapshot(self, runs: Sequence[str]) -> Json:
        seen: list[Json] = []
        for root in self._roots():
            for process in tree(root):
                with contextlib.suppress(Gone):
                    seen.append([process.state(), list(process.file_limit())])
        helpers = [mark for mark, _ in leftover_helpers() if any(run in mark for run in runs)]
        files = sorted(path.name for path in self.folder.glob(".chaoskit-*"))
        return {"processes": sorted(seen, key=str), "helpers": list[Json](helpers),
                "files": list[Json](files)}  # fmt: skip

    def vanish(self) -> None:
        for process in self._roots():
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.vanish()
        until(lambda: not self._roots(), 5.0)


class CellsSpecimen(Specimen):
    """A folder of two cells, of the plug-in in tests/plugin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.cells.mkdir()
        for name in ("a", "b"):
            (self.cells / name).write_text(f"value of {name}")

    def target(self) -> Mapping[str, Any]:
        return {"cells": {"folders": [str(self.cells)]}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        return {path.name: path.read_text() for path in sorted(self.cells.iterdir())}

    def vanish(self) -> None:
        for path in self.cells.iterdir():
            path.unlink()
        self.cells.rmdir()

    def close(self) -> None:
        pass


SPECIMENS: Mapping[str, Callable[[Path], Specimen]] = {
    "process": ProcessSpecimen,
    "cells": CellsSpecimen,
    "proxy:toxiproxy": ToxiproxySpecimen,
    "proxy:ours": OurProxySpecimen,
    "proxy:own": OwnProxySpecimen,
    "docker:lonely": DockerSpecimen,
    "docker:ended": EndedSpecimen,
    "docker:removed": RemovedSpecimen,
    "docker:networked": NetworkedSpecimen,
    "docker:faketime": ClockSpecimen,
}
"""By kind of target, and where there are several things of a kind, by what it is."""


def specimens_of(target: str, fault: str) -> list[str]:
    """The names of those on which the fault is tried."""
    return [
        name
        for name, made in SPECIMENS.items()
        if name.partition(":")[0] == target
        and fault in getattr(made, "suits", (fault,))
        and getattr(made, "takes", lambda _: True)(registry.fault(fault, target))
    ]
