"""End a container by a signal, as a crash does, and see who starts it again."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from chaoskit.capabilities import IsContainer
from chaoskit.clock import backoff
from chaoskit.errors import Gone
from chaoskit.faults.container_end import EndContainer
from chaoskit.faults.kill import SIGNALS
from chaoskit.model.units import Duration


@dataclass(frozen=True)
class KillContainer(EndContainer):
    """Send the container's first process a signal, and start the container again afterwards."""

    signal: str = field(default="KILL", metadata={"doc": f"one of {', '.join(SIGNALS)}"})
    grace: Duration | None = field(
        default=None, metadata={"doc": "after another signal, how long until SIGKILL follows"}
    )
    name = "kill"
    momentary = True
    examples = ({}, {"signal": "TERM", "grace": "500ms"})

    def problems(self) -> list[tuple[str, str]]:
        name = self.signal.removeprefix("SIG")
        found = []
        if name not in SIGNALS:
            found.append(("signal", f"expected one of {', '.join(SIGNALS)}"))
        elif name == "KILL" and self.grace is not None:
            found.append(("grace", "SIGKILL leaves no grace; name another signal"))
        elif name != "KILL" and self.grace is None:
            found.append(("signal", "say after which grace SIGKILL follows: it may not end of it"))
        return found

    def remarks(self, target: IsContainer) -> tuple[str, ...]:
        if target.here:
            return super().remarks(target)
        return ("the daemon sends the signal, so its restart policy does not apply",)

    def end(self, target: IsContainer) -> None:
        number = signal.Signals[f"SIG{self.signal.removeprefix('SIG')}"]
        target.signal(number)
        if self.grace is None:
            return
        for pause in backoff(self.grace):
            # An abort ends the grace at once: what was begun is not left half done.
            if target.binding.cancel.wait(pause):
                break
            state = target.state()
            if not state.runs or state.started != target.started:
                return
        try:
            target.signal(signal.SIGKILL)
        except Gone:
            return
