"""How long a start takes, and how much memory: `--version` and a minimal run, beside the peer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import CHAOS, CHAOSKIT, ENVIRONMENT, median, table, write


def once(command: list[str], cwd: Path) -> tuple[float, float, float]:
    """Wall milliseconds, peak MiB of the process itself, and with the peaks of those it started and
    that live longest (a guardian)."""
    peaks: dict[str, float] = {}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=ENVIRONMENT)  # fmt: skip
    watching = threading.Thread(target=_watch, args=(process.pid, peaks))
    watching.start()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode)
    watching.join()
    own = usage.ru_maxrss / 1024
    return took * 1000, own, own + max(peaks.values(), default=0.0)


def _watch(pid: int, peaks: dict[str, float]) -> None:
    """The peak of each child, while the process lives: seldom, or the watch slows the start."""
    while True:
        time.sleep(0.01)
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        for child in children:
            with contextlib.suppress(OSError, IndexError):
                told = Path(f"/proc/{child}/status").read_text().partition("VmHWM:")[2]
                peaks[child] = int(told.split()[0]) / 1024


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
            in_all = [median([pair[who][2] for pair in pairs]) for who in (0, 1)]
            rows.append((
                case, f"{wall[0]:.0f}", f"{wall[1]:.0f}", f"{wall[0] / wall[1]:.2f}", most,
                f"{memory[0]:.1f}", f"{memory[1]:.1f}", f"{memory[0] / memory[1]:.2f}",
                f"{in_all[0]:.1f}", f"{in_all[1]:.1f}",
            ))  # fmt: skip
        table(
            f"start: median of {rounds}",
            ("case", "chaoskit ms", "chaos ms", "ratio", "at most", "chaoskit MiB", "chaos MiB",
             "ratio", "with guardian", "with child"),
            rows,
        )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
