"""Freeze a container: its daemon stops all of its processes at once, and they cannot notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaoskit.capabilities import IsContainer
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json


@dataclass(frozen=True)
class PauseContainer(Fault[IsContainer]):
    """Freeze every process of the container, and let it go on afterwards."""

    name = "pause"
    needs = IsContainer
    settle = 2.0
    patience = 15.0

    def changes(self, target: IsContainer) -> Iterator[Change]:
        try:
            yield Change(f"{target.key} started {target.started}", _now(target), "paused")
        except Gone:
            return

    def look(self, target: IsContainer, change: Change) -> Json:
        return _now(target)

    def ask(self, target: IsContainer) -> None:
        target.state()

    def make(self, target: IsContainer, change: Change) -> None:
        _ask(target, target.pause, "paused")

    def unmake(self, target: IsContainer, change: Change) -> None:
        _ask(target, target.unpause, "running")

    def way_back(self) -> str:
        return "the container is unpaused"


def _now(target: IsContainer) -> str:
    return "paused" if target.paused() else "running"


def _ask(target: IsContainer, do: Callable[[], None], wanted: str) -> None:
    """A daemon says no to pausing what is paused: a request of ours may have been there before, and
    its answer lost."""
    try:
        do()
    except ChaoskitError:
        if _now(target) != wanted:
            raise
