"""What came of a fault that others answer: who took the place of what was ended, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from chaoskit.clock import now
from chaoskit.model.fault import Change, Fault, Outcome
from chaoskit.model.target import Target
from chaoskit.model.verdict import Verdict
from chaoskit.undo import Live

if TYPE_CHECKING:
    from chaoskit.engine.session import Session

OUTCOME_EVERY = 0.05
"""Seconds between two questions to a fault that others answer."""


class Outcomes:
    """Of one step: each of its targets is asked about until there is an answer.

    groups: what was changed, by the target's key.
    """

    def __init__(
        self, session: Session, number: str, fault: Fault[Any], groups: Mapping[str, Sequence[Live]]
    ) -> None:
        self._session = session
        self._number = number
        self._fault = fault
        self._groups = groups
        self._answers = type(fault).outcome is not Fault.outcome
        self._hurt: dict[str, float] = {}
        """Since when, of those without an answer: one may have been hurt long before another."""

    def hurt(self, target: Target) -> None:
        if self._answers:
            self._hurt[target.key] = now()

    def still_there(self, target: Target) -> None:
        """Who still lives has yet to be replaced: the time begins now."""
        if target.key in self._hurt:
            self._hurt[target.key] = now()

    @property
    def every(self) -> float:
        """Seconds until they shall be asked again."""
        return OUTCOME_EVERY if self._hurt else inf

    def ask(self) -> None:
        for key in list(self._hurt):
            if self._session.abort.cancel.is_set:
                return
            if self._told(key, self._fault.outcome):
                del self._hurt[key]

    def close(self, held: Collection[str]) -> None:
        """The hold of these is over: what is not known by now is told as that."""
        for key in [key for key in self._hurt if key in held]:
            if self._session.abort.cancel.is_set:
                return
            self._told(key, self._fault.no_outcome)
            del self._hurt[key]

    def _told(
        self, key: str, ask: Callable[[Any, Sequence[Change], float], Outcome | None]
    ) -> bool:
        lives = self._groups[key]
        target = lives[0].target
        outcome = ask(target, [live.cell.change for live in lives], now() - self._hurt[key])
        if outcome is None:
            return False
        session, told = self._session, f"{target.label}: {outcome.text}"
        session.say("outcome", told, step=self._number, told=told, held=outcome.held)
        if outcome.unknown:
            session.findings.add(Verdict.INCONCLUSIVE, f"step {self._number}: {told}")
        elif outcome.held is False:
            session.findings.add(Verdict.DEVIATED, f"step {self._number}: {told}")
        return True
