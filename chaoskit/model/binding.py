"""What ties a target to one run: its mark, its folder, its abort and its lifeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chaoskit.clock import Cancel
from chaoskit.model.redact import NOTHING_SECRET, Redactor

LOST = "lost"
"""A file in the folder of a run that was written anew: what else had lain in it is not known."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One step of one run, as targets see it. The runner, the guardian and `recover` each make one.

    run: the run's id; it is part of every mark, so that leftovers name their run.
    step: the step's number in the run (`1`, `2.1`): two like faults in one run do not collide.
    folder: the run's own folder, for small markers and for the output of restarted commands.
    cancel: raised when the run aborts; long work looks at it between its parts.
    lifeline: descriptor of a pipe's reading end that the runner alone holds open for writing.
        Helpers get it as their standard input and end when it closes. None while undoing.
    ends_at: CLOCK_MONOTONIC seconds at which helpers end by themselves, whatever happens.
    environment: variables (secrets among them) that commands get; never journaled.
    redactor: takes secrets out of a text before it is cut: half a secret is known to nobody.
    seed: the run's, for whatever draws lots while the fault is in.
    allow_shared: it allows faults on a container's network to reach others that share it.
    allow_host: the blast radius allows faults on a container to reach the machine under it.
    """

    run: str
    step: str
    folder: Path
    cancel: Cancel = field(default_factory=Cancel)
    lifeline: int | None = None
    ends_at: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    redactor: Redactor = NOTHING_SECRET
    seed: int = 0
    allow_host: bool = False
    allow_shared: bool = False

    @property
    def mark(self) -> str:
        """What everything carries that this step leaves in the world."""
        return f"chaoskit-{self.run}-{self.step}"
