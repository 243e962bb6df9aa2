"""Whom a run is hurting, and whom it may hurt next: the blast radius over all of its steps."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from chaoskit.errors import Gone, Refused
from chaoskit.model.experiment import FaultStep, Pick
from chaoskit.model.target import Target
from chaoskit.safety import claims
from chaoskit.safety.blast import choose

if TYPE_CHECKING:
    from chaoskit.engine.session import Session


class Casualties:
    """The targets of one run, from their choice to their release. Safe for several threads."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._guard = threading.Lock()
        self._hurt: dict[str, tuple[int, frozenset[str]]] = {}
        """How many steps are hurting a target, and all keys that are part of it."""
        self._ended: dict[str, set[str]] = {}
        """The victims of one-way faults, by the selector that found them."""
        self._most: dict[str, int] = {}
        """How many a selector matched at most."""

    def choose(
        self, number: str, step: FaultStep, pick: Pick, done: Sequence[Target]
    ) -> list[Target]:
        """Find the targets anew, as the plan has them where they still match, and claim them.

        done: those of the stages before. Returns the new ones. Raises Refused.
        """
        session = self.session
        with session.state.choosing():
            with self._guard:
                hurt = {key: keys for key, (_, keys) in self._hurt.items()}
            prefer = {target.key for target in done} or set(session.planned)
            lost, spent = self._lost(step, done)
            choice = choose(
                step,
                pick,
                session.binding(number),
                session.experiment.blast_radius,
                session.seed,
                held=claims.others(session.state, session.folder.id),
                hurt=hurt,
                lost=lost,
                spent=spent,
                prefer=prefer,
            )
            if choice.refusals:
                raise Refused("; ".join(choice.refusals))
            what = step.selector.describe()
            if (hurt_then := len(choice.targets) + spent) > (named := session.named.get(number, 0)):
                raise Refused(f"{what}: {hurt_then} would be hurt by now, the plan named {named}")
            self._most[what] = max(self._most.get(what, 0), choice.matched)
            had = {target.key for target in done}
            new = [target for target in choice.targets if target.key not in had]
            for target in new:
                try:
                    why = step.fault.refuse(target)
                except Gone:
                    why = "it has just ended"
                if why:
                    raise Refused(f"{step.fault.name} on {target.label}: {why}")
                session.claim(target)
            with self._guard:
                for target in new:
                    times, _ = self._hurt.get(target.key, (0, frozenset()))
                    self._hurt[target.key] = (times + 1, target.claim().keys)
        return new

    def _lost(self, step: FaultStep, done: Sequence[Target]) -> tuple[int, int]:
        """How many of those that this run ended have no successor yet; and how many of the stages
        before match no more, whoever has taken their place."""
        what = step.selector.describe()
        ended, before = self._ended.get(what, set()), {target.key for target in done}
        if not ended | before:
            return 0, 0
        there = {target.key for target in step.selector.find(self.session.binding("0"))}
        lost = min(len((ended | before) - there), self._most.get(what, 0) - len(there))
        return max(0, lost), len(before - there)

    def release(self, step: FaultStep, keys: Collection[str], stuck: Collection[str]) -> None:
        """The step is over. Who is stuck or ended for good stays hurt until the run is over."""
        with self._guard:
            for key in keys:
                if step.fault.way_back() is None:
                    self._ended.setdefault(step.selector.describe(), set()).add(key)
                elif key not in stuck and key in self._hurt:
                    times, parts = self._hurt.pop(key)
                    if times > 1:
                        self._hurt[key] = (times - 1, parts)
