"""Freeze a container: its daemon stops all of its processes at once, and they cannot notice."""

from __future__ import annotations

from collections.abc import Iterator
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
            key = f"{target.key} started {target.started}"
            yield Change(key, _now(target, key), "paused")
        except Gone:
            return

    def look(self, target: IsContainer, change: Change) -> Json:
        return _now(target, change.key)

    def make(self, target: IsContainer, change: Change) -> None:
        self._unless(target, change, "paused", target.pause)

    def unmake(self, target: IsContainer, change: Change) -> None:
        self._unless(target, change, "running", target.unpause)

    def _unless(self, target: IsContainer, change: Change, wanted: str, do: object) -> None:
        """A daemon says no to pausing what is paused: a request of ours may have been there before,
        and its answer lost."""
        assert callable(do)
        try:
            do()
        except ChaoskitError:
            if _now(target, change.key) != wanted:
                raise

    def way_back(self) -> str:
        return "the container is unpaused"


def _now(target: IsContainer, key: str) -> str:
    state = target.state()
    if not state.runs or state.started != key.rpartition(" ")[2]:
        raise Gone("it was restarted or has ended")
    return state.status
