"""Verdicts, their exit codes and which of several counts."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """What a run has shown. The value is the word in reports; see `exit_code`."""

    HELD = "held"
    DEVIATED = "deviated"
    INPUT = "input"
    REFUSED = "refused"
    ABORTED = "aborted"
    STUCK = "stuck"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"

    @property
    def exit_code(self) -> int:
        return _EXIT[self]


_EXIT = {
    Verdict.HELD: 0,
    Verdict.DEVIATED: 1,
    Verdict.INPUT: 2,
    Verdict.REFUSED: 3,
    Verdict.ABORTED: 4,
    Verdict.STUCK: 5,
    Verdict.INCONCLUSIVE: 6,
    Verdict.FAILED: 7,
}

_WORST_FIRST = (
    Verdict.STUCK,
    Verdict.FAILED,
    Verdict.INPUT,
    Verdict.ABORTED,
    Verdict.DEVIATED,
    Verdict.INCONCLUSIVE,
    Verdict.REFUSED,
    Verdict.HELD,
)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that counts over several steps or files."""
    return min(verdicts, key=_WORST_FIRST.index, default=Verdict.HELD)
