"""A proxy of ours that stands for a run: journaled, made and undone as faults are.

It hurts nobody; but it is a process and a port that were not there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.units import Json


@runtime_checkable
class Startable(Protocol):
    """A helper process that is started once and known by its mark."""

    binding: Binding

    @property
    def mark(self) -> str: ...

    def left(self) -> bool:
        """Whether the process, or anything else of it, is there."""

    def start(self) -> None: ...

    def end(self) -> None: ...

    def answers(self) -> bool: ...

    def upstream_silent(self) -> str | None: ...


@dataclass(frozen=True)
class OwnProxy(Fault[Startable]):
    """Start a proxy of our own for the run."""

    name = "own-proxy"
    needs = Startable

    @property
    def ends(self) -> Ends:
        return Ends.BY_ITSELF

    def way_back(self) -> str:
        return "the proxy's process is ended"

    def remarks(self, target: Startable) -> tuple[str, ...]:
        """Told when it is up: whoever asks there will meet a reset, and wonder."""
        return tuple(filter(None, [target.upstream_silent()]))

    def changes(self, target: Startable) -> Iterator[Change]:
        yield Change(f"helper:{target.mark}", None, target.mark)

    def look(self, target: Startable, change: Change) -> Json:
        return target.mark if target.left() else None

    def make(self, target: Startable, change: Change) -> None:
        target.start()

    def unmake(self, target: Startable, change: Change) -> None:
        target.end()

    def took(self, target: Startable, changes: Sequence[Change]) -> bool:
        return target.answers()
