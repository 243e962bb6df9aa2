"""End a process, and see who takes its place: one way, so it speaks of the role, not the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import HasRole, Proc
from chaoskit.clock import backoff
from chaoskit.errors import Gone
from chaoskit.model.fault import Change, Ends, Fault, Outcome
from chaoskit.model.units import Command, Duration, Json, show_duration

_SIGNALS = ("KILL", "TERM", "INT", "QUIT", "HUP", "ABRT", "SEGV", "USR1", "USR2")


@dataclass(frozen=True)
class Kill(Fault[HasRole]):
    """End a process; `restart` brings it back, or a supervisor is expected to."""

    signal: str = field(default="KILL", metadata={"doc": f"one of {', '.join(_SIGNALS)}"})
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
    needs = HasRole
    patience = 10.0
    examples = ({"restart": "${RESTART}"}, {"signal": "TERM", "grace": "1s"})

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if self.signal.removeprefix("SIG") not in _SIGNALS:
            found.append(("signal", f"expected one of {', '.join(_SIGNALS)}"))
        if self.grace is not None and self.signal.removeprefix("SIG") == "KILL":
            found.append(("grace", "SIGKILL leaves no grace; name another signal"))
        return found

    @property
    def ends(self) -> Ends:
        return Ends.BY_RECOVER if self.restart is not None else Ends.ONE_WAY

    def way_back(self) -> str | None:
        if self.restart is None:
            return None
        words = self.restart if isinstance(self.restart, str) else " ".join(self.restart)
        return f"`{words}`, unless somebody has taken its place"

    def changes(self, target: HasRole) -> Iterator[Change]:
        processes = target.tree() if self.tree else target.tree()[:1]
        for process in processes:
            yield Change(process.key, "alive", "dead")

    def look(self, target: HasRole, change: Change) -> Json:
        if _alive(target.process(change.key)):
            return "alive"
        if self.restart is not None and self._filled(target, change):
            return "alive"
        return "dead"

    def make(self, target: HasRole, change: Change) -> None:
        process = target.process(change.key)
        number = signal.Signals[f"SIG{self.signal.removeprefix('SIG')}"]
        process.signal(number)
        if number is not signal.SIGKILL and self.grace is not None:
            for pause in backoff(self.grace):
                if not _alive(process):
                    return
                # An abort ends the grace at once: what was begun is not left half done.
                if target.binding.cancel.wait(pause):
                    break
            if _alive(process):
                process.signal(signal.SIGKILL)

    def unmake(self, target: HasRole, change: Change) -> None:
        assert self.restart is not None
        if not self._filled(target, change):
            target.start(self.restart, self._token(target, change))

    def took(self, target: HasRole, changes: Sequence[Change]) -> bool:
        """All of them are dead, whoever has taken their place since."""
        return all(not _alive(target.process(change.key)) for change in changes)

    def outcome(self, target: HasRole, changes: Sequence[Change], elapsed: float) -> Outcome | None:
        new = target.successors()
        if not new or len(target.peers()) < target.complement:
            return None
        held = None if self.replaced_within is None else elapsed <= self.replaced_within
        late = f", later than {show_duration(self.replaced_within or 0)}" if held is False else ""
        return Outcome(
            f"replaced by {target.describe(new[-1])} after {show_duration(elapsed)}{late}", held
        )

    def no_outcome(
        self, target: HasRole, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        held = None if self.replaced_within is None else False
        if target.complement == 0 or not target.has_role:
            return Outcome("named by its pid, so whether somebody took its place is unknown", None)
        return Outcome(f"nobody took its place in {show_duration(elapsed)}", held)

    def _filled(self, target: HasRole, change: Change) -> bool:
        """Somebody does its work again: as many as before match, or what we started lives."""
        return (target.has_role and len(target.peers()) >= target.complement) or target.started(
            self._token(target, change)
        )

    def _token(self, target: HasRole, change: Change) -> str:
        return f"{target.binding.mark}-{change.key}"


def _alive(process: Proc) -> bool:
    try:
        process.state()
    except Gone:
        return False
    return True
