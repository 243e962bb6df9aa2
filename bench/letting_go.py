"""How often a fault is gone within a second after its runner came to a bad end, beside the peer.

The exact points at which chaoskit's runner is killed are those of the conformance suite, of every
fault on processes; the peer has no such points, so there it is only killed at random moments.

    python bench/letting_go.py [RANDOM_KILLS [OTHERS [FAULT...]]]
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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

from chaoskit import registry
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Trial

sys.path.append(str(Path(__file__).parent.parent / "tests" / "conformance"))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "proxy"))
from specimens import ProcessSpecimen  # A process to hurt, as the tests have it.

WITHIN = 1.0


def once(tool: str, sent: Sequence[signal.Signals], moment: float | None) -> float | None:
    """Seconds from the first signal until the victim runs; None when it did not within WITHIN.

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
            for how in sent:
                runner.send_signal(how)
                time.sleep(0.01 if len(sent) > 1 else 0)
            if signal.SIGKILL in sent:
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


def at_points(fault: str, params: Mapping[str, Any]) -> tuple[int, int]:
    """How many exact points there are, and after a death at how many of them all was restored:
    by the guardian at every other point, by `recover` where it had died as well."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:

        def trial(number: str) -> Trial:
            (Path(name) / number).mkdir()
            return Trial(fault, params, ProcessSpecimen(Path(name) / number))

        first = trial("points")
        points = conformance.points(first)
        first.specimen.close()
        restored = 0
        for number, point in enumerate(points):
            at = trial(str(number))
            try:
                by = "recover" if number % 2 else "guardian"
                conformance.undone_after_death_at(at, point, by)
                restored += 1
            except AssertionError as error:
                print(error, file=sys.stderr)
            finally:
                at.specimen.close()
    return len(points), restored


def cases(wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every fault on processes that has a way back, as its examples say how it is called."""
    for fault in registry.names("faults"):
        kind = registry.fault(fault)
        if registry.lacking(kind, registry.selector("process")) or fault not in (wanted or [fault]):
            continue
        for params in kind.examples:
            if fault != "kill" or "restart" in params:
                yield fault, params


def main(random_kills: int, others: int, faults: Sequence[str]) -> None:
    rows: list[tuple[str, str, str, str, str]] = []
    interrupt = signal.SIGINT
    for sent in ([signal.SIGKILL], [signal.SIGSTOP], [signal.SIGTERM], [signal.SIGHUP],
                 [signal.SIGQUIT], [interrupt], [interrupt] * 2, [interrupt] * 3):  # fmt: skip
        for tool in ("chaoskit", "chaos"):
            times = [once(tool, sent, None) for _ in range(others)]
            good = [t * 1000 for t in times if t is not None]
            names = "+".join(how.name for how in sent)
            rows.append((
                f"{names} while it holds", tool, f"{len(good)}/{others}",
                f"{median(good):.0f}" if good else "-", f"{max(good):.0f}" if good else "-",
            ))  # fmt: skip
    for tool, rounds in (("chaoskit", random_kills), ("chaos", others)):
        most = 0.8
        times = [once(tool, [signal.SIGKILL], random.uniform(0.02, most)) for _ in range(rounds)]
        good = [t for t in times if t is not None]
        rows.append(("SIGKILL at a random moment", tool, f"{len(good)}/{rounds}", "", ""))
    for fault, params in cases(faults):
        points, restored = at_points(fault, params)
        what = f"SIGKILL at each exact point of {fault} {dict(params) or ''}".rstrip()
        rows.append((what, "chaoskit", f"{restored}/{points}", "", ""))
    table(
        f"letting go: back within {WITHIN:g} s",
        ("what happened to the runner", "tool", "restored", "p50 ms", "most ms"),
        rows,
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 100,
        int(sys.argv[2]) if len(sys.argv) > 2 else 10,
        sys.argv[3:],
    )
