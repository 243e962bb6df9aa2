"""What faults have in common that end a container: it is started again, unless somebody else does.

A signal and a request need time: a container that has been told to end and still runs looks as if
nothing had been done, and ends after the undo has gone away. So a marker in the run's folder says,
before it is told, which incarnation is doomed; an undo that finds it alive ends it first.
"""

from __future__ import annotations

import contextlib
import signal
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaoskit.capabilities import IsContainer
from chaoskit.clock import now, until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import LOST
from chaoskit.model.container import ContainerState
from chaoskit.model.fault import Change, Fault, Found, Outcome
from chaoskit.model.units import Duration, Json, show_duration
from chaoskit.procfs import boot_id

_RUNNING, _ENDING, _ENDED = "running", "ending", "ended"
_BACK, _REPLACED = "running again", "replaced"
STOPPED = (_ENDED, _REPLACED)
"""What a look answers when the container does not run."""
_TRIAL = 0.5
"""Seconds that an undo watches what it has started: what cannot run ends sooner."""
_DEATH = 10.0
"""Seconds that a container may take to be gone after SIGKILL."""


@dataclass(frozen=True)
class EndContainer(Fault[IsContainer]):
    """One cell: the incarnation runs, or it was ended by us."""

    replaced_within: Duration | None = field(
        default=None,
        kw_only=True,
        metadata={"doc": "the hypothesis: it, or one in its place, runs again in that time"},
    )
    needs = IsContainer
    alters = "whether it runs"
    ends_target = True
    settle = 2.0
    patience = 15.0

    @abstractmethod
    def end(self, target: IsContainer) -> None:
        """Have it end; what that takes may go on after the return."""

    def refuse(self, target: IsContainer) -> str | None:
        state = target.state()
        if state.removes_itself:
            return "it is removed when it ends (--rm), so nothing could start it again"
        if state.status == "paused":
            return "it is paused"
        return no_guests(target)

    def remarks(self, target: IsContainer) -> tuple[str, ...]:
        policy = target.state().policy
        if policy == "no":
            return (
                "it has no restart policy: unless somebody starts it, chaoskit does at the end",
            )
        return (f"its restart policy is {policy}: the daemon may start it before chaoskit does",)

    def way_back(self) -> str:
        return "the container is started again, unless it runs already"

    def changes(self, target: IsContainer) -> Iterator[Change]:
        try:
            key = f"{target.key} started {target.started}"
            yield Change(key, self._now(target, key), _ENDED)
        except Gone:
            return

    def look(self, target: IsContainer, change: Change) -> Json:
        return self._now(target, change.key)

    def found(self, now: Json, change: Change) -> Found:
        if now in (_RUNNING, _BACK, _REPLACED):
            return Found.WAS
        return Found.OURS if now in (_ENDING, _ENDED) else Found.FOREIGN

    def make(self, target: IsContainer, change: Change) -> None:
        _marker(target).write_text(f"{boot_id()} {now()}")
        self.end(target)

    def unmake(self, target: IsContainer, change: Change) -> None:
        if self._now(target, change.key) == _ENDING:
            with contextlib.suppress(Gone):  # It has just ended: the container has not gone.
                target.signal(signal.SIGKILL)
            if not until(lambda: self._now(target, change.key) != _ENDING, _DEATH):
                raise ChaoskitError("it has been sent SIGKILL and has not ended")
        if self._now(target, change.key) == _ENDED:
            target.start()
            until(lambda: not target.state().runs, _TRIAL)
            if not (state := target.state()).runs:
                raise ChaoskitError(
                    f"it was started and has ended again with exit code {state.exit}: "
                    "`docker logs` tells why"
                )

    def took(self, target: IsContainer, changes: Sequence[Change]) -> bool:
        """The incarnation has ended, whatever runs by now."""
        try:
            return all(self._now(target, change.key) in (*STOPPED, _BACK) for change in changes)
        except Gone:
            return True

    def outcome(
        self, target: IsContainer, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        try:
            with contextlib.suppress(Gone):
                state = target.state()
                if state.runs and state.started != target.started:
                    # How long it was away is the daemon's to say: our looks have gaps. But of one
                    # that ended again and again it tells the last time only.
                    once = state.restarts <= target.restarts + 1
                    away = state.away if once and state.away is not None else elapsed
                    told = f"it runs again after {show_duration(away)}{self.by(state)}"
                    return self._answer(told, away)
            if new := target.successors():
                told = f"replaced by {new[-1]} after {show_duration(elapsed)}"
                return self._answer(told, elapsed)
        except ChaoskitError:
            pass  # The daemon does not answer: it may at the next look.
        return None

    def no_outcome(
        self, target: IsContainer, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        expected = self.replaced_within
        try:
            with contextlib.suppress(Gone):
                target.state()
        except ChaoskitError as error:
            told = f"whether somebody started it again cannot be seen: {error}"
            return Outcome(told, unknown=expected is not None)
        told = f"nobody started it again in {show_duration(elapsed)}, so chaoskit does"
        if expected is None:
            return Outcome(told)
        if elapsed < expected:
            told += f", and the step ended before {show_duration(expected)} were over"
            return Outcome(told, unknown=True)
        return Outcome(told, held=False)

    def by(self, state: ContainerState) -> str:
        """Who has started it again, for people. The daemon counts what a restart policy does, and
        begins anew when somebody starts the container."""
        if state.restarts:
            return f", started by its restart policy ({state.policy})"
        return ", started by somebody else"

    def _answer(self, text: str, elapsed: float) -> Outcome:
        if self.replaced_within is None:
            return Outcome(text)
        held = elapsed <= self.replaced_within
        late = "" if held else f", later than {show_duration(self.replaced_within)}"
        return Outcome(text + late, held)

    def _now(self, target: IsContainer, key: str) -> str:
        state = target.state()
        if not state.runs:
            return _REPLACED if target.replaced() else _ENDED
        if state.started != key.rpartition(" ")[2]:
            return _BACK
        return _ENDING if self._doomed(target) else _RUNNING

    def _doomed(self, target: IsContainer) -> bool:
        """Whether it has been told to end and may still do so. Not for ever: who runs long after
        that was never reached by it."""
        while_on_its_way = self.settle + self.undo_takes + _DEATH
        lost = target.binding.folder / LOST
        with contextlib.suppress(OSError):
            # Of what lay in a folder that was lost, nobody knows whether it was doomed.
            if time.time() - lost.stat().st_mtime < while_on_its_way:
                return True
        try:
            boot, at = _marker(target).read_text().split()
        except (OSError, ValueError):
            return _marker(target).exists()  # It has only just been made.
        return boot == boot_id() and now() - float(at) < while_on_its_way


def no_guests(target: IsContainer) -> str | None:
    """Why it must not end: who runs among its processes ends with it, and who shares its network
    or its memory stays in the old one, alone, until it is restarted itself."""
    try:
        others = target.guests()
    except ChaoskitError as error:
        return str(error)
    if others:
        return (
            f"{', '.join(others)} run in its network, among its processes or in its shared memory, "
            "and would not get that back with it"
        )
    return None


def _marker(target: IsContainer) -> Path:
    return target.binding.folder / f"{target.mark}.doomed"
