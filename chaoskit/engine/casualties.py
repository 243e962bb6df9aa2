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
            had = {target.key for target in done}
            what = step.selector.describe()
            planned = session.planned.get(number, ())
            choice = choose(
                step,
                pick,
                session.binding(number),
                session.experiment.blast_radius,
                session.seed,
                held=claims.others(session.state, session.folder.id),
                hurt=hurt,
                ended=self._ended.get(what, ()),
                most=self._most.get(what, 0),
                done=had,
                prefer=planned,
            )
            if choice.refusals:
                raise Refused("; ".join(choice.refusals))
            if (count := len(choice.targets) + choice.spent) > len(planned):
                raise Refused(
                    f"{what}: {count} would be hurt by now, the plan named {len(planned)}"
                )
            self._most[what] = max(self._most.get(what, 0), choice.matched)
            new = [target for target in choice.targets if target.key not in had]
            for target in new:
                try:
                    why = step.fault.refuse(target)
                except Gone:
                    why = "it has just ended"
                if why:
                    raise Refused(f"{step.fault.name} on {target.label}: {why}")
                session.claim(target, what, choice.matched)
            with self._guard:
                for target in new:
                    times, _ = self._hurt.get(target.key, (0, frozenset()))
                    self._hurt[target.key] = (times + 1, target.claim().keys)
        return new

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
