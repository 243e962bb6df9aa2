"""What targets stand on for one run: a proxy of ours, up before anything is looked at and gone
when all else is over. It is journaled, made and undone as faults are."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from chaoskit import registry
from chaoskit.errors import ChaoskitError, Interrupted, Refused
from chaoskit.model.fault import Fault
from chaoskit.model.target import Target
from chaoskit.undo import STANDING, Live

if TYPE_CHECKING:
    from chaoskit.engine.steps import Steps


class Standing:
    """Puts it up and takes it down, for one session."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.lives: list[Live] = []

    @cached_property
    def wanted(self) -> list[tuple[Fault[Any], Target]]:
        """Each once, however many steps name it."""
        session = self._steps.session
        found: dict[str, tuple[Fault[Any], Target]] = {}
        for step in session.experiment.fault_steps():
            if stands := step.selector.stands_on(session.binding(STANDING)):
                name, target = stands
                found.setdefault(target.key, (registry.fault(name, target.kind)(), target))
        return list(found.values())

    def put_up(self) -> None:
        """All of it, or Refused: nothing has been hurt yet."""
        steps = self._steps
        for fault, target in self.wanted:
            steps.promise(STANDING)
            try:
                steps.inject(STANDING, fault, target, self.lives)
            except (Interrupted, Refused):
                raise
            except (ChaoskitError, OSError) as error:
                raise Refused(f"{target.label}: {error}") from error
            for told in (f"{target.label} is up", *fault.remarks(target)):
                steps.session.say("note", told, step=STANDING)
        steps.session.guard.over(STANDING)

    def take_down(self) -> None:
        if self.lives:
            self._steps.undo("take down", self.lives, self.lives[0].fault)
