"""What the benches share: victims, both tools' command lines, and tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
CHAOSKIT = str(BIN / "chaoskit")
CHAOS = str(BIN / "chaos")  # Chaos Toolkit, the peer: `make bench` installs it.


@contextmanager
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps; ended whatever happens."""
    process = subprocess.Popen(["sleep", "3600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def wait_for(condition: Any, seconds: float, pause: float = 0.001) -> float | None:
    """Seconds until the condition held; None when it did not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(pause)
    return time.monotonic() - began


def resume(pid: int) -> None:
    os.kill(pid, 18)


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def chaoskit_pause(folder: Path, pid: int, watched: Path, every: str, hold: str) -> list[str]:
    """The command line of an experiment that pauses the victim, watched by one gate."""
    file = write(folder / "chaoskit.json", {
        "chaoskit": 1,
        "title": "bench",
        "steady-state": [
            {"name": "there", "file": {"path": str(watched)}, "expect": {"exists": True}}
        ],
        "method": [{"fault": "pause", "target": {"process": {"pid": pid}}, "for": hold}],
        "gates": [{"check": "there", "every": every, "consecutive": 1}],
        "verify": [{"check": "there", "within": "10ms"}],
    })  # fmt: skip
    return [CHAOSKIT, "--state", str(folder / "state"), "run", str(file), "--plain"]


def chaos_pause(folder: Path, pid: int, watched: Path, every: float, hold: float) -> list[str]:
    """The same for Chaos Toolkit, with its safeguards add-on and the strategy that rolls back."""
    file = write(folder / "chaos.json", {
        "version": "1.0.0",
        "title": "bench",
        "description": "bench",
        "controls": [{
            "name": "safeguard",
            "provider": {
                "type": "python",
                "module": "chaosaddons.controls.safeguards",
                "arguments": {"probes": [{
                    "name": "there",
                    "type": "probe",
                    "tolerance": True,
                    "frequency": every,
                    "provider": {
                        "type": "python", "module": "os.path", "func": "exists",
                        "arguments": {"path": str(watched)},
                    },
                }]},
            },
        }],
        "steady-state-hypothesis": {"title": "there", "probes": [{
            "type": "probe", "name": "there", "tolerance": True,
            "provider": {"type": "python", "module": "os.path", "func": "exists",
                         "arguments": {"path": str(watched)}},
        }]},
        "method": [{
            "type": "action", "name": "pause",
            "provider": {"type": "process", "path": "kill", "arguments": f"-STOP {pid}"},
            "pauses": {"after": hold},
        }],
        "rollbacks": [{
            "type": "action", "name": "resume",
            "provider": {"type": "process", "path": "kill", "arguments": f"-CONT {pid}"},
        }],
    })  # fmt: skip
    return [
        CHAOS, "--log-file", str(folder / "chaos.log"), "run", "--rollback-strategy", "always",
        "--journal-path", str(folder / "journal.json"), str(file),
    ]  # fmt: skip


# Byte code may be written: both tools are started as their users start them.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def quiet(command: Sequence[str], cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env=ENVIRONMENT,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"\n{title}")
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
