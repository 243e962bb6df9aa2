"""Remove a container: whoever runs it makes another one, or chaoskit makes the same one again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from chaoskit.capabilities import CanBeMadeAgain
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.container_end import no_guests
from chaoskit.model.container import Standing
from chaoskit.model.fault import Change, Ends, Fault, Found, Outcome
from chaoskit.model.units import Duration, Json, show_duration

_GONE = Standing.AWAY.value
_OURS = {s.value for s in Standing if not s.as_before and s is not Standing.OTHERWISE}


@dataclass(frozen=True)
class Remove(Fault[CanBeMadeAgain]):
    """Remove a container that others make again, or that is made again exactly (`recreate`)."""

    recreate: bool = field(
        default=False,
        metadata={
            "doc": "the way back: the same is made again, with its name, networks and volumes"
        },
    )
    replaced_within: Duration | None = field(
        default=None, metadata={"doc": "the hypothesis: others make another one in that time"}
    )
    name = "remove"
    needs = CanBeMadeAgain
    ends_target = True
    settle = 2.0
    patience = 20.0
    examples = ({"recreate": True},)

    def refuse(self, target: CanBeMadeAgain) -> str | None:
        if self.replaced_within is not None and not target.has_role:
            return "an id has no role, so replaced-within cannot be told: select by something else"
        if self.recreate:
            return target.why_not_again(target.kept())
        if not target.made_by:
            return (
                "nobody would make it again: it is of no compose project and no swarm service. Say "
                "`recreate: true`, or label it chaoskit.recreated=true where somebody does"
            )
        return no_guests(target)

    def remarks(self, target: CanBeMadeAgain) -> tuple[str, ...]:
        if self.recreate:
            return tuple(target.lost(target.kept()))
        return (
            f"{target.made_by} has to make it again: chaoskit does not",
            "what it has written outside of volumes is lost, and its log",
        )

    @property
    def ends(self) -> Ends:
        return Ends.BY_RECOVER if self.recreate else Ends.ONE_WAY

    def way_back(self) -> str | None:
        return "the same is made again, unless somebody else has" if self.recreate else None

    def changes(self, target: CanBeMadeAgain) -> Iterator[Change]:
        try:
            kept = target.kept()
        except Gone:
            return
        yield Change(target.key, kept if self.recreate else Standing.THERE.value, _GONE)

    def look(self, target: CanBeMadeAgain, change: Change) -> Json:
        if not self.recreate:
            return _GONE if _is_gone(target) else change.was
        standing, told = target.standing(_kept(change))
        return change.was if standing.as_before else told or standing.value

    def found(self, now: Json, change: Change) -> Found:
        if now == change.was:
            return Found.WAS
        return Found.OURS if now in _OURS else Found.FOREIGN

    def make(self, target: CanBeMadeAgain, change: Change) -> None:
        if self.recreate:
            target.get_ready(_kept(change))
            target.binding.cancel.check()
        target.remove()

    def unmake(self, target: CanBeMadeAgain, change: Change) -> None:
        target.make_again(_kept(change))

    def took(self, target: CanBeMadeAgain, changes: Sequence[Change]) -> bool:
        """It is gone, whoever has taken its place since, but chaoskit itself."""
        for change in changes:
            if not _is_gone(target):
                return False
            try:
                if self.recreate:
                    now = self.look(target, change)
                    if self.found(now, change) is not Found.OURS:
                        return False
            except Gone:
                continue
        return bool(changes)

    def outcome(
        self, target: CanBeMadeAgain, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        try:
            new = target.newcomers() if target.has_role else []
        except ChaoskitError:
            return None  # The daemon does not answer: it may at the next look.
        if not new:
            return None
        told = f"made again as {new[-1]}, after {show_duration(elapsed)}"
        if self.replaced_within is None:
            return Outcome(told)
        held = elapsed <= self.replaced_within
        late = "" if held else f", later than {show_duration(self.replaced_within)}"
        return Outcome(told + late, held)

    def no_outcome(
        self, target: CanBeMadeAgain, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        if not target.has_role:
            return Outcome("an id has no role: whether somebody made it again is unknown")
        told = f"nobody made it again in {show_duration(elapsed)}"
        expected = self.replaced_within
        try:
            target.newcomers()
        except ChaoskitError as error:
            told = f"whether somebody made it again cannot be seen: {error}"
            return Outcome(told, unknown=expected is not None)
        if expected is None:
            return Outcome(told)
        if elapsed < expected:
            told += f", and the step ended before {show_duration(expected)} were over"
            return Outcome(told, unknown=True)
        return Outcome(told, held=False)


def _is_gone(target: CanBeMadeAgain) -> bool:
    try:
        target.state()
    except Gone:
        return True
    return False


def _kept(change: Change) -> dict[str, Json]:
    return cast(dict[str, Json], change.was)
