"""Experiments on containers by the command line, as people run them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaoskit.clock import until
from chaoskit.journal import State
from chaoskit.procfs import with_argument

CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")


def write(path: Path, *method: Mapping[str, Any], **more: Any) -> Path:
    """An experiment of these steps, each for half a minute unless it says how long."""
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
        ],
        "method": [{"for": "30s"} | dict(step) for step in method],
        "verify": [{"check": "there", "within": "1s"}],
    }
    path.write_text(json.dumps(document | more))
    return path


def step(fault: str, host: str, /, hold: str = "30s", pick: Any = None, **match: Any) -> Any:
    """A step on containers of that daemon. match: keys of the selector, or of the fault where it
    begins with `_`."""
    params = {key[1:].replace("_", "-"): match.pop(key) for key in list(match) if key[0] == "_"}
    target: dict[str, Any] = {"docker": {"host": host} | match}
    if pick is not None:
        target["pick"] = pick
    return {"fault": fault, "target": target, "for": hold} | params


def chaoskit(*words: str | Path, state: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHAOSKIT, "--state", str(state), *map(str, words)],
        capture_output=True, text=True, timeout=100, **more,
    )  # fmt: skip


def begin(*words: str | Path, state: Path, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [CHAOSKIT, "--state", str(state), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more,
    )  # fmt: skip


@contextlib.contextmanager
def running(file: Path, state: Path, *words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A run whose first fault is in and proven."""
    before = len(records(state, "injected"))
    runner = begin("run", file, *words, state=state, **more)
    try:
        assert until(
            lambda: runner.poll() is not None or len(records(state, "injected")) > before, 60
        )
        assert runner.poll() is None, runner.communicate()[0]
        yield runner
    finally:
        runner.kill()
        runner.communicate()


def records(state: Path, kind: str) -> list[dict[str, Any]]:
    return [r for f in State(state).runs() for r in f.records() if r["kind"] == kind]


def settled(state: Path, within: float = 60.0) -> bool:
    """Whether every run comes to be over, with nothing left in."""
    return until(lambda: not State(state).left() and not State(state).unsettled(), within)


def kill_both(state: Path) -> None:
    """The runner of the latest run and its guardian, before either can notice."""
    folder = State(state).find()
    run = folder.id
    runner = next(r["pid"] for r in folder.records() if r["kind"] == "run")
    (guardian,) = with_argument(f"chaoskit-{run}")
    os.kill(runner, signal.SIGSTOP)
    guardian.signal(signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
