"""Restart a container, as a deployment or an impatient person does."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.capabilities import IsContainer
from chaoskit.faults.container_end import EndContainer
from chaoskit.faults.stop import GRACE, whole_seconds
from chaoskit.model.container import ContainerState
from chaoskit.model.units import Duration


@dataclass(frozen=True)
class Restart(EndContainer):
    """Stop the container and start it again at once; how long it is away is measured."""

    grace: Duration = field(
        default=GRACE,
        metadata={"max": 600.0, "doc": "whole seconds from its stop signal to SIGKILL"},
    )
    name = "restart"
    momentary = True
    examples = ({"grace": "0s"},)

    def problems(self) -> list[tuple[str, str]]:
        return whole_seconds(self.grace)

    @property
    def undo_takes(self) -> float:
        return self.grace

    def remarks(self, target: IsContainer) -> tuple[str, ...]:
        return ()

    def by(self, state: ContainerState) -> str:
        return ""

    def way_back(self) -> str:
        return "it runs again by then, or is started"

    def end(self, target: IsContainer) -> None:
        target.restart(self.grace)
