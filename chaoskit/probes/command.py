"""Run a command: what it prints and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaoskit.commands import NotStarted, TimedOut, run_command
from chaoskit.errors import Interrupted, ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Command, Duration, Unit


@dataclass(frozen=True)
class CommandProbe(Probe):
    """A command's exit code and output."""

    run: Command
    timeout: Duration = 5.0
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = field(default=None, metadata={"doc": "the folder to run it in"})
    kind = "command"
    readings = {
        "exit": Unit.NUMBER,
        "output": Unit.TEXT,
        "errors": Unit.TEXT,
        "latency": Unit.DURATION,
    }
    main = "exit"

    def read(self, context: Context) -> Reading:
        try:
            done = run_command(
                self.run,
                timeout=self.timeout,
                environment={**context.environment, **self.env},
                cancel=context.cancel,
                cwd=context.folder / self.cwd if self.cwd else context.folder,
            )
        except (NotStarted, TimedOut, Interrupted) as error:
            raise ProbeError(f"{self.describe()} {error}") from error
        return {
            "exit": done.exit,
            "output": done.output.strip(),
            "errors": done.errors.strip(),
            "latency": done.seconds,
        }

    def describe(self) -> str:
        words = self.run if isinstance(self.run, str) else " ".join(self.run)
        return f"`{words}`"
