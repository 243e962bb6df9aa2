"""Stop a container as an operator does, and keep it stopped for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import IsContainer
from chaoskit.errors import Gone
from chaoskit.faults.container_end import STOPPED, EndContainer
from chaoskit.model.fault import Change
from chaoskit.model.units import Duration

GRACE = 10.0


@dataclass(frozen=True)
class Stop(EndContainer):
    """Stop the container: its stop signal, SIGKILL after the grace; no restart policy applies."""

    grace: Duration = field(
        default=GRACE,
        metadata={"max": 600.0, "doc": "whole seconds from its stop signal to SIGKILL"},
    )
    name = "stop"
    examples = ({"grace": "0s"},)

    def problems(self) -> list[tuple[str, str]]:
        return whole_seconds(self.grace)

    @property
    def settle(self) -> float:  # type: ignore[override]  # It depends on the file.
        """A request that lands late gives the container its grace, too, before it ends it."""
        return EndContainer.settle + self.grace

    @property
    def undo_takes(self) -> float:
        return self.grace

    def remarks(self, target: IsContainer) -> tuple[str, ...]:
        return ()

    def end(self, target: IsContainer) -> None:
        target.stop(self.grace)

    def took(self, target: IsContainer, changes: Sequence[Change]) -> bool:
        """It is stopped still: nobody has started it."""
        try:
            return all(self._now(target, change.key) in STOPPED for change in changes)
        except Gone:
            return False


def whole_seconds(grace: float) -> list[tuple[str, str]]:
    return [("grace", "a daemon counts it in whole seconds")] if grace % 1 else []
