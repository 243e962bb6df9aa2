"""A run in a process of its own with some part of chaoskit bent first: slow, hung or frozen.

Its guardian is the real one, in a process that knows nothing of the bend.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spawned import Spawned

from chaoskit.clock import until
from chaoskit.errors import StateError
from chaoskit.journal import State

SHORT = "from chaoskit.engine import session, steps\nsession.UNDO_SECONDS = steps.UNDO_SECONDS = {}"
"""What the guardian grants beyond what is known, made so short that a test can wait for it."""

_RUN = """
import sys, chaoskit
result = chaoskit.run(chaoskit.load(sys.argv[1]), state=sys.argv[2])
print(result.verdict.value, result.undone_by or None)
"""


def pause(spawned: Spawned, hold: str = "30s", name: str = "") -> dict[str, Any]:
    target = {"process": {"cmdline": f"{name or spawned.name}$"}}
    return {"fault": "pause", "target": target, "for": hold}


def write(folder: Path, *steps: dict[str, Any], within: str = "100ms", **more: Any) -> Path:
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {
                "name": "there",
                "file": {"path": str(folder), "timeout": "100ms"},
                "expect": {"exists": True},
            }
        ],
        "method": list(steps),
        "verify": [{"check": "there", "within": within}],
    }
    path = folder / "experiment.json"
    path.write_text(json.dumps(document | more))
    return path


@contextlib.contextmanager
def bent(file: Path, *bends: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The run of that file after these bends, in a session of its own."""
    runner = subprocess.Popen(
        [sys.executable, "-P", "-c", "\n".join((*bends, _RUN)), str(file), str(state(file))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        yield runner
    finally:
        runner.kill()
        runner.communicate()
        until(lambda: not _in_use(file), 20)


def chaoskit(*words: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "chaoskit"), "--state", str(state), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def _in_use(file: Path) -> bool:
    """Whether a guardian is still at work; not, where a test has taken the folder away."""
    with contextlib.suppress(StateError):
        return any(folder.in_use() for folder in runs(file))
    return False


def state(file: Path) -> Path:
    return file.parent / "state"


def runs(file: Path) -> list[Any]:
    return State(state(file)).runs()


def records(file: Path, kind: str = "") -> list[dict[str, Any]]:
    """Of all runs of that file, those of one kind."""
    return [r for folder in runs(file) for r in folder.records() if r["kind"] == kind or not kind]


def told(file: Path) -> str:
    """Who undid the latest run, and why it ended."""
    result = State(state(file)).find().result()
    return f"{result.undone_by}: {result.reason}"
