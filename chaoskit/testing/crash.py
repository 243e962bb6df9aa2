"""Runs an experiment and dies by SIGKILL at an exact point: random kills hide the worst bugs.

    python -m chaoskit.testing.crash EXPERIMENT STATE [--at POINT] [--guardian dies] [--points FILE]

A point is `<before|after|inside>:<what>:<nth>`, where `what` is a kind of journal record, `make`
or `unmake`. With --points, every point that the run passes is written there, one a line, so that a
suite can enumerate them: a new record adds its own. Readings (`sample`) come at any time and any
number, nothing depends on them, and so they are no points.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import chaoskit
from chaoskit import registry
from chaoskit.engine.ears import late_signals
from chaoskit.engine.guard import Guard
from chaoskit.journal import Journal
from chaoskit.model.binding import Binding
from chaoskit.model.experiment import Experiment
from chaoskit.model.fault import Fault

MOST_INSIDE = 8
"""Points within one make or unmake: what comes after so many calls is mostly a loop that waits."""


class Points:
    """Counts the points that a run passes, and dies at one of them."""

    def __init__(self, at: str, file: Path | None, guardian_dies: bool) -> None:
        self._at = at
        self._file = file
        self._guardian_dies = guardian_dies
        self._seen: Counter[str] = Counter()
        self._guard = threading.Lock()
        self.guardian = 0

    def pass_by(self, when: str, what: str) -> None:
        with self._guard:
            self._seen[f"{when}:{what}"] += 1
            point = f"{when}:{what}:{self._seen[f'{when}:{what}']}"
            if self._file is not None:
                with self._file.open("a") as file:
                    file.write(point + "\n")
        if point == self._at:
            self.die()

    def die(self) -> None:
        if self._guardian_dies and self.guardian:
            os.kill(self.guardian, signal.SIGKILL)
            os.waitpid(self.guardian, 0)
        os.kill(os.getpid(), signal.SIGKILL)

    def around(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.pass_by("before", what)
            result = real(*arguments, **named)
            self.pass_by("after", what)
            return result

        return wrapped

    def inside(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Also a point at each call of the fault's and the target's own functions within it: a
        change that is made in several parts is cut between any two of them."""

        def wrapped(fault: Fault[Any], target: Any, *rest: Any) -> Any:
            kinds = (*type(fault).__mro__, *type(target).__mro__)
            modules = {kind.__module__ for kind in kinds} - {"builtins", "abc", "typing"}

            left = MOST_INSIDE

            def called(frame: FrameType, event: str, _: Any) -> None:
                nonlocal left
                if left and event == "call" and frame.f_globals.get("__name__") in modules:
                    left -= 1
                    self.pass_by("inside", what)

            before = sys.gettrace()
            sys.settrace(called)
            try:
                return real(fault, target, *rest)
            finally:
                sys.settrace(before)

        return self.around(what, wrapped)

    def watch(self, experiment: Experiment) -> None:
        """Put the points into the journal and into the experiment's faults."""
        write, start = Journal._write, Guard.start

        def record(journal: Journal, kind: str, fields: Any) -> None:
            if kind == "sample":
                write(journal, kind, fields)
            else:
                self.around(kind, write)(journal, kind, fields)

        def started(guard: Guard, *arguments: Any, **named: Any) -> None:
            start(guard, *arguments, **named)
            self.guardian = guard.pid

        Journal._write = record  # type: ignore[method-assign,assignment]
        Guard.start = started  # type: ignore[method-assign,assignment]
        kinds: set[type[Fault[Any]]] = {type(step.fault) for step in experiment.fault_steps()}
        for step in experiment.fault_steps():
            if stands := step.selector.stands_on(Binding(run="", step="0", folder=Path())):
                kinds.add(registry.fault(stands[0], stands[1].kind))
        for kind in kinds:
            kind.make = self.inside("make", kind.make)  # type: ignore[method-assign]
            kind.unmake = self.inside("unmake", kind.unmake)  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(prog="chaoskit.testing.crash", description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("state")
    parser.add_argument("--at", default="")
    parser.add_argument("--points", type=Path)
    parser.add_argument("--guardian", choices=["lives", "dies"], default="lives")
    given = parser.parse_args()
    experiment = chaoskit.load(given.experiment)
    Points(given.at, given.points, given.guardian == "dies").watch(experiment)
    with late_signals():
        result = chaoskit.run(experiment, state=given.state)
    print(result.verdict and result.verdict.value, result.reason)
    sys.exit(result.exit_code)


if __name__ == "__main__":
    main()
