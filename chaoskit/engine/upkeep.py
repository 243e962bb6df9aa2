"""What is done for a fault while it holds: keeping it in, and seeing that its target restarts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Interrupted, Refused
from chaoskit.model.experiment import FaultStep
from chaoskit.model.fault import Fault
from chaoskit.model.target import Target
from chaoskit.model.units import Json
from chaoskit.undo import Live

if TYPE_CHECKING:
    from chaoskit.engine.steps import Steps

KEEP_EVERY = 1.0
"""Seconds between two times that a fault may keep itself in."""
LOOK_EVERY = 0.25
"""Seconds between two looks at whether a target has restarted."""


class Upkeep:
    """Of one step, while it holds. groups: the cells of each target, added to when one is reborn.

    every: seconds after which `turn` wants to be called again; endless when there is nothing to do.
    """

    def __init__(
        self, steps: Steps, number: str, step: FaultStep, groups: dict[str, list[Live]]
    ) -> None:
        self._steps = steps
        self._number = number
        self._step = step
        self._groups = groups
        self._keeps = type(step.fault).keep is not Fault.keep
        ends = step.fault.ends_target  # Then it is no news that it did.
        self._looks = not ends and step.selector.target.reborn is not Target.reborn
        self._kept = self._looked = now()
        self._told: set[str] = set()
        self._seen: dict[str, Json] = {}
        self.every = min(
            KEEP_EVERY if self._keeps else math.inf, LOOK_EVERY if self._looks else math.inf
        )

    def turn(self) -> None:
        """Do what is due. Raises what an injection raises."""
        if self._looks and now() - self._looked >= LOOK_EVERY:
            self._looked = now()
            for key, lives in self._groups.items():
                if lives and key not in self._told:
                    self._look(key, lives)
        if self._keeps and now() - self._kept >= KEEP_EVERY:
            self._kept = now()
            for lives in self._groups.values():
                self._keep(lives)

    def _look(self, key: str, lives: list[Live]) -> None:
        """A target that restarted has left most cells behind: those of its new incarnation are made
        in the same group, and undone with it."""
        session, fault = self._steps.session, self._step.fault
        try:
            reborn = lives[-1].target.reborn()
        except ChaoskitError:
            return  # It cannot be told now; the proof at the end asks again.
        if reborn is None or fault.ends_target or reborn.ref() == self._seen.get(key):
            return
        self._seen[key] = reborn.ref()
        if _outlasts(fault, reborn, lives):
            for live in lives:
                live.target = reborn
            told = f"{reborn.label} was restarted: {fault.name} is still in"
            session.say("restarted", told, step=self._number, told=told, again=False)
            return
        again = self._step.on_restart == "reapply"
        what = f"{fault.name} is made again" if again else f"{fault.name} has ended with it"
        told = f"{reborn.label} was restarted: {what}"
        session.say("restarted", told, step=self._number, told=told, again=again)
        if not again:
            self._told.add(key)
            return
        if why := fault.refuse(reborn):
            raise Refused(f"{fault.name} on {reborn.label}, which was restarted: {why}")
        self._steps.inject(self._number, fault, reborn, self._steps.lives, lives)

    def _keep(self, lives: list[Live]) -> None:
        if not lives:
            return
        target = lives[-1].target
        self._step.fault.keep(target, [live.cell.change for live in lives if live.target is target])


def _outlasts(fault: Fault[Any], reborn: Target, lives: Sequence[Live]) -> bool:
    """Whether its cells are of what a restart keeps (a container's networks), and still hold it."""
    try:
        return fault.took(reborn, [live.cell.change for live in lives])
    except Interrupted:
        raise
    except ChaoskitError:
        return False
