"""From the moment the watched thing breaks until the fault is undone, beside the peer."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from common import (
    chaos_pause,
    chaoskit_pause,
    median,
    percentile,
    quiet,
    resume,
    stopped,
    table,
    victim,
    wait_for,
)

HOLD = 30


def once(tool: str, every: float) -> float | None:
    """Seconds from the break to the undo; None when it was not undone within the hold."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, victim() as process:
        folder = Path(name)
        watched = folder / "watched"
        watched.touch()
        if tool == "chaoskit":
            shown = f"{every * 1000:.0f}ms"
            command = chaoskit_pause(folder, process.pid, watched, shown, f"{HOLD}s")
        else:
            command = chaos_pause(folder, process.pid, watched, every, HOLD)
        runner = quiet(command, folder)
        try:
            assert wait_for(lambda: stopped(process.pid), 10) is not None, tool
            # At any moment of the probe's period, not in step with it.
            time.sleep(0.3 + random.random() * every)
            watched.unlink()
            return wait_for(lambda: not stopped(process.pid), HOLD - 5, 0.0005)
        finally:
            if stopped(process.pid):
                resume(process.pid)
            runner.kill()
            runner.wait()


def main(rounds: int) -> None:
    rows = []
    for every, most in ((1.0, 1100), (0.1, 120)):
        tools = ("chaoskit", "chaos")
        turns = [{tool: once(tool, every) for tool in tools} for _ in range(rounds)]
        for tool in tools:
            times = [turn[tool] for turn in turns]
            seen = [1000 * t for t in times if t is not None]
            rows.append((
                f"{every:g}s", tool, f"{len(seen)}/{rounds}",
                f"{median(seen):.0f}" if seen else "-",
                f"{percentile(seen, 0.95):.0f}" if seen else "-",
                most if tool == "chaoskit" else "",
            ))  # fmt: skip
    table(
        "abort: from the break to the undo, in ms",
        ("probing each", "tool", "undone", "p50", "p95", "p95 at most"),
        rows,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
