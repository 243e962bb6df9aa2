"""What all faults have in common that hurt a link: one cell for each direction, read back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from chaoskit.capabilities import HasLink
from chaoskit.errors import ChaoskitError, Gone, Interrupted
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.impairment import Impairment
from chaoskit.model.params import freeze_value
from chaoskit.model.units import Json, Percent

Direction = Literal["upstream", "downstream", "both"]
DIRECTION = "upstream (from the client to the server), downstream, or both"
LONGEST = 86400.0
"""Seconds: what delays longer than a day is another fault."""


@dataclass(frozen=True)
class Network(Fault[HasLink]):
    """What is done to a part of the connections of a link; subclasses say what."""

    toxicity: Percent = field(
        default=1.0,
        kw_only=True,
        metadata={"above": 0, "max": 1, "doc": "how many of the connections it applies to"},
    )
    needs = HasLink
    settle = 2.0
    patience = 8.0

    @abstractmethod
    def impairments(self) -> tuple[Impairment, ...]:
        """What is done, each in one cell of its own."""

    @property
    def ends(self) -> Ends:
        return Ends.BY_TARGET

    def ends_on(self, target: HasLink) -> Ends:
        return Ends.BY_ITSELF if target.lets_go() else Ends.BY_RECOVER

    def way_back(self) -> str:
        return "the link as it was"

    def refuse(self, target: HasLink) -> str | None:
        return next(filter(None, map(target.cannot, self.impairments())), None)

    def remarks(self, target: HasLink) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r for one in self.impairments() for r in target.remarks(one)))

    def changes(self, target: HasLink) -> Iterator[Change]:
        for what in self.impairments():
            try:
                change = target.impairing(what)
            except Gone:
                return
            yield change

    def look(self, target: HasLink, change: Change) -> Json:
        return target.holds(change.key)

    def make(self, target: HasLink, change: Change) -> None:
        for what in self.impairments():
            if target.impairing(what).key == change.key:
                target.impair(what, change)

    def unmake(self, target: HasLink, change: Change) -> None:
        target.relieve(change)

    def took(self, target: HasLink, changes: Sequence[Change]) -> bool:
        """Read back, and seen where traffic can show it."""
        try:
            there = super().took(target, changes)
            return there and target.shows(self.impairments()) is not False
        except Interrupted:
            raise
        except ChaoskitError:
            return False  # It does not answer: that is no proof of anything.


@dataclass(frozen=True)
class Directed(Network):
    """What is done to one direction or to both; subclasses name their kind and its values."""

    direction: Direction = field(default="downstream", kw_only=True, metadata={"doc": DIRECTION})
    takes: ClassVar[tuple[str, ...]] = ()
    """The fields that are the impairment's values."""

    @property
    def kind(self) -> str:
        return self.name

    def impairments(self) -> tuple[Impairment, ...]:
        directions = ("upstream", "downstream") if self.direction == "both" else (self.direction,)
        values = {name: freeze_value(getattr(self, name), {}) for name in self.takes}
        return tuple(Impairment(self.kind, one, self.toxicity, values) for one in directions)
