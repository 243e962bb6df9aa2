"""How long a start takes, and how much memory: `--version` and a minimal run, beside the peer."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import CHAOS, CHAOSKIT, ENVIRONMENT, median, table, write


def once(command: list[str], cwd: Path) -> tuple[float, float]:
    """Wall milliseconds and peak MiB of the process itself."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=ENVIRONMENT)  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode)
    return took * 1000, usage.ru_maxrss / 1024


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ours = write(folder / "ours.json", {
            "chaoskit": 1,
            "title": "minimal",
            "steady-state": [
                {"name": "there", "file": {"path": name}, "expect": {"exists": True}}
            ],
            "method": [{"run": ["true"]}],
        })  # fmt: skip
        probe = {
            "type": "probe", "name": "there", "tolerance": True,
            "provider": {"type": "python", "module": "os.path", "func": "exists",
                         "arguments": {"path": name}},
        }  # fmt: skip
        theirs = write(folder / "theirs.json", {
            "version": "1.0.0", "title": "minimal", "description": "minimal",
            "steady-state-hypothesis": {"title": "there", "probes": [probe]},
            "method": [{"type": "action", "name": "true",
                        "provider": {"type": "process", "path": "true"}}],
        })  # fmt: skip
        cases = {
            "--version": ([CHAOSKIT, "--version"], [CHAOS, "--version"], 0.4),
            "minimal run": (
                [CHAOSKIT, "--state", str(folder / "state"), "run", str(ours)],
                [CHAOS, "run", str(theirs)],
                0.7,
            ),
        }
        rows = []
        for case, (mine, peer, most) in cases.items():
            for command in (mine, peer):
                once(command, folder)  # Warm: byte code and the page cache.
            pairs = [(once(mine, folder), once(peer, folder)) for _ in range(rounds)]
            wall = [median([pair[who][0] for pair in pairs]) for who in (0, 1)]
            memory = [median([pair[who][1] for pair in pairs]) for who in (0, 1)]
            rows.append((
                case, f"{wall[0]:.0f}", f"{wall[1]:.0f}", f"{wall[0] / wall[1]:.2f}", most,
                f"{memory[0]:.1f}", f"{memory[1]:.1f}", f"{memory[0] / memory[1]:.2f}",
            ))  # fmt: skip
        table(
            f"start: median of {rounds}",
            ("case", "chaoskit ms", "chaos ms", "ratio", "at most", "chaoskit MiB", "chaos MiB",
             "ratio"),
            rows,
        )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
