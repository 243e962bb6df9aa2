"""End a process and see who takes its place: one way, so it speaks of the role.

With `restart` there is a way back. What makes that hard is that a signal needs time: a process
that has been signalled and still lives looks as if nothing had been done, and ends after the undo
has gone away. So a marker in the run's folder says, before the signal goes, who is doomed; an undo
that finds them alive ends them first and restarts then.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaoskit.capabilities import HasRole, Proc
from chaoskit.clock import backoff, now, until
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.model.fault import Change, Ends, Fault, Found, Outcome
from chaoskit.model.units import Command, Duration, Json, show_duration

SIGNALS = ("KILL", "TERM", "INT", "QUIT", "HUP", "ABRT", "SEGV", "USR1", "USR2")
_ENDING = "ending"
_DEATH = 5.0
"""Seconds that a process may take to be gone after SIGKILL."""
_STARTING = "starting"
_CALLED = "dead, though its restart was called: that has ended, or goes on unseen"
_LASTS = 2.0
"""Seconds after which what was started has come up: a command that cannot work ends sooner."""
_STAYS = 1.0
"""Seconds in which a newcomer has gone again or is one that stays. No longer than that is waited,
for there may be newcomers all the time."""


@dataclass(frozen=True)
class Kill(Fault[HasRole]):
    """End a process; `restart` brings it back, or a supervisor is expected to."""

    signal: str = field(default="KILL", metadata={"doc": f"one of {', '.join(SIGNALS)}"})
    grace: Duration | None = field(
        default=None, metadata={"doc": "after another signal, how long until SIGKILL follows"}
    )
    tree: bool = field(default=False, metadata={"doc": "also everything below the process"})
    restart: Command | None = field(
        default=None,
        metadata={"doc": "the way back: a command that starts it again, unless it is there"},
    )
    replaced_within: Duration | None = field(
        default=None, metadata={"doc": "the hypothesis: somebody takes its place in that time"}
    )
    name = "kill"
    momentary = True
    needs = HasRole
    ends_target = True
    patience = 10.0
    examples = ({"restart": "${RESTART}"}, {"signal": "TERM", "grace": "1s"})

    def problems(self) -> list[tuple[str, str]]:
        found = []
        name = self.signal.removeprefix("SIG")
        if name not in SIGNALS:
            found.append(("signal", f"expected one of {', '.join(SIGNALS)}"))
        if self.grace is not None and name == "KILL":
            found.append(("grace", "SIGKILL leaves no grace; name another signal"))
        if self.restart is not None and self.grace is None and name != "KILL":
            found.append(
                (
                    "restart",
                    "say after which grace SIGKILL follows: what ends at some time or never "
                    "cannot be started again",
                )
            )
        return found

    def refuse(self, target: HasRole) -> str | None:
        if self.replaced_within is not None and not target.has_role:
            return "a pid has no role, so replaced-within cannot be told: select by something else"
        return None

    @property
    def ends(self) -> Ends:
        return Ends.BY_RECOVER if self.restart is not None else Ends.ONE_WAY

    def way_back(self) -> str | None:
        if self.restart is None:
            return None
        words = self.restart if isinstance(self.restart, str) else " ".join(self.restart)
        return f"`{words}`, unless somebody has taken its place"

    def changes(self, target: HasRole) -> Iterator[Change]:
        # Listed at once and parents first: a parent that lives on would replace its children.
        for process in target.tree() if self.tree else target.tree()[:1]:
            if _alive(process):
                yield Change(process.key, "alive", "dead")

    def look(self, target: HasRole, change: Change) -> Json:
        if self._doomed(target, change):
            return _ENDING
        if _alive(target.process(change.key)):
            return "alive"
        if self.restart is None:
            return "dead"
        token = _token(target)
        if target.started(token):
            return "alive" if target.started(token, _LASTS) else _STARTING
        if _role_filled(target):
            return "alive"
        return _CALLED if target.called(token) else "dead"

    def found(self, now: Json, change: Change) -> Found:
        if now == _STARTING:
            return Found.FOREIGN  # Neither there nor gone: time tells.
        return Found.OURS if now in (_ENDING, _CALLED) else super().found(now, change)

    def make(self, target: HasRole, change: Change) -> None:
        process = target.process(change.key)
        number = signal.Signals[f"SIG{self.signal.removeprefix('SIG')}"]
        self._doom(target, change)
        try:
            process.signal(number)
        except PermissionError:
            _marker(target, change).unlink(missing_ok=True)
            raise
        if number is not signal.SIGKILL and self.grace is not None:
            for pause in backoff(self.grace):
                if not _alive(process):
                    return
                # An abort ends the grace at once: what was begun is not left half done.
                if target.binding.cancel.wait(pause):
                    break
            process.signal(signal.SIGKILL)

    def unmake(self, target: HasRole, change: Change) -> None:
        assert self.restart is not None
        doomed = self._doomed(target, change)
        for process in doomed:
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        if not until(lambda: not any(map(_alive, doomed)), _DEATH):
            raise ChaoskitError("it has been sent SIGKILL and has not ended")
        # Whoever has just begun may stay: then it is back, and a second one would be too many.
        until(lambda: self._filled(target) or not target.newcomers(), _STAYS)
        if _alive(target.process(change.key)) or self._filled(target):
            return
        token = _token(target)
        if not target.called(token):  # Who clears its environment is not seen, and is there.
            target.start(self.restart, token)

    def took(self, target: HasRole, changes: Sequence[Change]) -> bool:
        """All of them are dead, whoever has taken their place since."""
        return not any(_alive(target.process(change.key)) for change in changes)

    def outcome(self, target: HasRole, changes: Sequence[Change], elapsed: float) -> Outcome | None:
        try:
            new = target.successors()
            if not new or len(target.peers()) < target.complement:
                return None
            after = max(0.0, elapsed - new[-1].age())
            told = f"replaced by {target.describe(new[-1])} after {show_duration(after)}"
        except (Refused, Gone):
            return None  # A pid file that is being written: it may be there at the next look.
        if self.replaced_within is None:
            return Outcome(told)
        held = after <= self.replaced_within
        late = "" if held else f", later than {show_duration(self.replaced_within)}"
        return Outcome(told + late, held)

    def no_outcome(
        self, target: HasRole, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        if not target.has_role:
            return Outcome("a pid has no role: whether somebody took its place is unknown", None)
        expected = self.replaced_within
        try:
            began = now()
            # Who has begun at the last moment has taken its place, if he stays.
            until(lambda: not target.newcomers(), _STAYS)
            if late := self.outcome(target, changes, elapsed + now() - began):
                return late
            target.peers()
        except Refused as error:
            told = f"whether somebody took its place cannot be seen: {error}"
            return Outcome(told, unknown=expected is not None)
        told = f"nobody took its place in {show_duration(elapsed)}"
        if expected is None:
            return Outcome(told)
        if elapsed < expected:
            told += f", and the step ended before {show_duration(expected)} were over"
            return Outcome(told, unknown=True)
        return Outcome(told, held=False)

    def _filled(self, target: HasRole) -> bool:
        """Somebody does its work again: what we started lives, or as many as before match."""
        return target.started(_token(target)) or _role_filled(target)

    def _doom(self, target: HasRole, change: Change) -> None:
        """Write down who is about to be signalled: with `tree` all, as the first death parts
        them from the tree and a runner that dies then has not named them in the journal."""
        if self.restart is None:
            return
        keys = {change.key, *(p.key for p in (target.tree() if self.tree else []))}
        marker = _marker(target, change)
        new = marker.with_suffix(".new")
        new.write_text("\n".join(sorted(keys)))
        new.rename(marker)

    def _doomed(self, target: HasRole, change: Change) -> list[Proc]:
        """Those of them that are still alive."""
        if self.restart is None:
            return []
        try:
            keys = _marker(target, change).read_text().split("\n")
        except FileNotFoundError:
            return []
        return [process for key in keys if _alive(process := target.process(key))]


def _role_filled(target: HasRole) -> bool:
    return target.has_role and len(target.peers()) >= target.complement


def _token(target: HasRole) -> str:
    """The same for all processes of one target: it is started once, however many of it died."""
    return f"{target.binding.mark}-restart"


def _marker(target: HasRole, change: Change) -> Path:
    name = f"{target.binding.mark}-{change.key}".replace("/", "_")
    return target.binding.folder / f"{name}.doomed"


def _alive(process: Proc) -> bool:
    try:
        process.state()
    except Gone:
        return False
    return True
