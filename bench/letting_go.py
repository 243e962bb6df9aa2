"""How often a fault is gone within a second after its runner came to a bad end, beside the peer."""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from common import (
    chaos_pause,
    chaoskit_pause,
    median,
    quiet,
    resume,
    stopped,
    table,
    victim,
    wait_for,
)

WITHIN = 1.0


def once(tool: str, how: signal.Signals, moment: float | None) -> float | None:
    """Seconds from the signal until the victim runs; None when it did not within WITHIN.

    moment: seconds after the start of the runner, whatever it does then; None: while it holds.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, victim() as process:
        folder = Path(name)
        watched = folder / "watched"
        watched.touch()
        if tool == "chaoskit":
            command = chaoskit_pause(
                folder, process.pid, watched, "1s", "400ms" if moment else "9s"
            )
        else:
            command = chaos_pause(folder, process.pid, watched, 1.0, 0.4 if moment else 9)
        runner = quiet(command, folder)
        try:
            if moment is None:
                assert wait_for(lambda: stopped(process.pid), 10) is not None, tool
                time.sleep(0.2)
            else:
                time.sleep(moment)
            runner.send_signal(how)
            if how == signal.SIGKILL:
                runner.wait()
            if moment is not None:
                # Nothing may be left once a second is over, wherever the runner was.
                time.sleep(WITHIN)
                return 0.0 if not stopped(process.pid) else None
            return wait_for(lambda: not stopped(process.pid), WITHIN, 0.0005)
        finally:
            if stopped(process.pid):
                resume(process.pid)
            runner.kill()
            runner.wait()
            time.sleep(0.05)


def main(random_kills: int, others: int) -> None:
    rows = []
    for how in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                signal.SIGINT):  # fmt: skip
        for tool in ("chaoskit", "chaos"):
            times = [once(tool, how, None) for _ in range(others)]
            good = [t * 1000 for t in times if t is not None]
            rows.append((
                f"{how.name} while it holds", tool, f"{len(good)}/{others}",
                f"{median(good):.0f}" if good else "-", f"{max(good):.0f}" if good else "-",
            ))  # fmt: skip
    for tool, rounds in (("chaoskit", random_kills), ("chaos", others)):
        most = 0.8
        times = [once(tool, signal.SIGKILL, random.uniform(0.02, most)) for _ in range(rounds)]
        good = [t for t in times if t is not None]
        rows.append(("SIGKILL at a random moment", tool, f"{len(good)}/{rounds}", "", ""))
    table(
        f"letting go: back within {WITHIN:g} s",
        ("what happened to the runner", "tool", "restored", "p50 ms", "most ms"),
        rows,
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 100,
        int(sys.argv[2]) if len(sys.argv) > 2 else 10,
    )
