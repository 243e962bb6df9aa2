"""What a run came to, from everything that was found on the way; and what can be learnt from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from chaoskit.engine.abort import Abort
from chaoskit.journal import summarise
from chaoskit.model.result import CheckResult, StepResult
from chaoskit.model.units import show_duration
from chaoskit.model.verdict import Verdict, worst


class Findings:
    """Everything that speaks against `held`. Safe to add to from several threads."""

    def __init__(self) -> None:
        self._found: list[tuple[Verdict, str]] = []
        self._guard = threading.Lock()
        self.known_stuck = False

    def add(self, verdict: Verdict, reason: str) -> None:
        with self._guard:
            self._found.append((verdict, reason))

    def ruling(self, bad: int, total: int, one_way: bool = False) -> tuple[Verdict, str]:
        """The worst verdict, and every reason for it; the other findings follow.

        bad, total: readings while faults were in that did not hold, and all of them. one_way:
        some fault has no way back, so that not all is undone.
        """
        verdict = worst(verdict for verdict, _ in self._found)
        back = "proven, and all that has a way back undone" if one_way else "proven and undone"
        if verdict is Verdict.HELD and bad:
            return verdict, (
                f"no gate fired, though {bad} of {total} readings did not hold; every fault was "
                f"{back}"
            )
        if verdict is Verdict.HELD:
            return verdict, f"the steady state held throughout; every fault was {back}"
        reasons = dict.fromkeys(reason for found, reason in self._found if found is verdict)
        others = dict.fromkeys(r for found, r in self._found if found is not verdict)
        return verdict, "; ".join([*reasons, *(f"also: {reason}" for reason in others)])


def learnt(verdict: Verdict, records: Sequence[Mapping[str, Any]], abort: Abort) -> list[str]:
    """What the run has shown, in sentences that blame nobody and claim only what was seen."""
    if verdict is Verdict.REFUSED:
        return []
    from pathlib import Path

    result = summarise(records, Path())
    lessons = [sentence for step in result.steps if (sentence := _of_step(step))]
    lessons += [sentence for check in result.checks if (sentence := _of_check(check))]
    if abort.by == "gate":
        times = [r["t"] for r in records if r["kind"] == "injected"]
        pulled = next((r["t"] for r in records if r["kind"] == "abort"), None)
        if times and pulled is not None and pulled >= min(times):
            after = show_duration(pulled - max(t for t in times if t <= pulled))
            lessons.append(f"The gate let go {after} after the last injection.")
    return lessons


def _of_step(step: StepResult) -> str:
    if step.kind != "fault" or step.injected is None:
        return ""
    whom = ", ".join(step.targets)
    held = ""
    if step.undone is not None:
        held = f" for {show_duration(step.undone - step.injected)}"
    proof = ", but it ended before its time" if step.proven_again is False else ""
    stages = f" in {step.stages} stages" if step.stages > 1 else ""
    told = f"{step.text.split()[0]} on {whom}{stages}{held}{proof}"
    return "; ".join([told, *step.outcomes]) + "."


def _of_check(check: CheckResult) -> str:
    total = check.during_ok + check.during_failed + check.during_unread
    if not total:
        return f"{check.name}: not read while faults were in, so nothing is known of it."
    if check.during_ok == total:
        return f"{check.name}: held in " + (
            f"all {total} readings." if total > 1 else "its only reading."
        )
    bad = []
    if check.during_failed:
        bad.append(f"failed in {check.during_failed}")
    if check.during_unread:
        bad.append(f"could not be read in {check.during_unread}")
    after = {"ok": " It held again afterwards.", "": ""}.get(
        check.after, f" Afterwards: {check.after_detail}."
    )
    told = f"{check.name}: {' and '.join(bad)} of {total} readings"
    return f"{told}, first {check.first_failure}.{after}"
