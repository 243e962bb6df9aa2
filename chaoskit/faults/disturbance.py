"""What all faults have in common that are done to the packets of a target by its kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from chaoskit.capabilities import HasPackets
from chaoskit.errors import ChaoskitError, Gone, Interrupted
from chaoskit.model.fault import Change, Ends, Fault, Outcome
from chaoskit.model.impairment import Impairment
from chaoskit.model.params import freeze_value
from chaoskit.model.units import Json

LONGEST = 86400.0
"""Seconds: what delays longer than a day is another fault."""


@dataclass(frozen=True)
class Disturbance(Fault[HasPackets]):
    """Subclasses say what is done; the target knows by which way."""

    direction: Literal["in", "out", "both"] = field(
        default="out",
        kw_only=True,
        metadata={"doc": "what it sends (out), what comes to it (in), or both"},
    )
    needs = HasPackets
    alters = "the way of packets"
    settle = 1.0
    patience = 10.0
    takes: ClassVar[tuple[str, ...]] = ()
    """The fields that are the impairment's values."""

    @property
    def kind(self) -> str:
        """What it is, as an impairment."""
        return self.name

    @property
    def what(self) -> Impairment:
        values = {name: freeze_value(getattr(self, name), {}) for name in self.takes}
        return Impairment(self.kind, self.direction, 1.0, values)

    @property
    def ends(self) -> Ends:
        return Ends.BY_TARGET

    def ends_on(self, target: HasPackets) -> Ends:
        try:
            itself = target.disturbed_by_itself(self.what)
        except ChaoskitError:
            return self.ends  # It is refused, and told why.
        return Ends.BY_ITSELF if itself else Ends.BY_RECOVER

    @property
    def undo_takes(self) -> float:
        return 4.0  # What is open comes to rest.

    def way_back(self) -> str:
        return "the network as it was"

    def privileges(self, target: HasPackets) -> tuple[str, ...]:
        return ("root, to enter its network namespace",)

    def refuse(self, target: HasPackets) -> str | None:
        return target.cannot_disturb(self.what)

    def remarks(self, target: HasPackets) -> tuple[str, ...]:
        try:
            return (*target.disturb_remarks(self.what), *target.network_remarks())
        except Gone:
            raise
        except ChaoskitError:
            return ()  # The same is told by `refuse`.

    def changes(self, target: HasPackets) -> Iterator[Change]:
        try:
            yield from target.disturbing(self.what)
        except Gone:
            return

    def look(self, target: HasPackets, change: Change) -> Json:
        return target.disturbed(change)

    def make(self, target: HasPackets, change: Change) -> None:
        target.disturb(self.what, change)

    def unmake(self, target: HasPackets, change: Change) -> None:
        target.calm(change)

    def overwrite(self, target: HasPackets, change: Change) -> None:
        target.calm(change, whatever=True)

    def keep(self, target: HasPackets, changes: Sequence[Change]) -> None:
        target.keep_disturbed(changes)

    def outcome(
        self, target: HasPackets, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        return None  # It is counted when the hold ends.

    def no_outcome(
        self, target: HasPackets, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        """How many connections it met, where that is counted. None at all: nothing was tried."""
        try:
            count = target.connections_disturbed(changes)
        except ChaoskitError:
            return None
        if count is None:
            return None
        if not count:
            return Outcome("no connection was opened through it while it was in", unknown=True)
        return Outcome(f"connections opened through it: {count}")

    def took(self, target: HasPackets, changes: Sequence[Change]) -> bool:
        """Read back, and seen where traffic of our own can show it."""
        try:
            there = super().took(target, changes)
            return there and target.shows_disturbance(self.what, changes) is not False
        except Interrupted:
            raise
        except ChaoskitError:
            return False  # It does not answer, or not any more: that is no proof of anything.
