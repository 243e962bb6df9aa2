"""The loop of a run, and the guardian that outlives it."""

from __future__ import annotations

TYPE_CHECKING = False  # The guardian starts by importing this: it must cost nothing.
if TYPE_CHECKING:
    from chaoskit.journal import State
    from chaoskit.model.experiment import Experiment
    from chaoskit.model.result import Observer, Result


def run(
    experiment: Experiment,
    state: State,
    *,
    seed: int | None = None,
    reason: str = "",
    observer: Observer | None = None,
) -> Result:
    """See `chaoskit.run`; this one writes no report."""
    from chaoskit.engine.session import Session

    return Session(experiment, state, seed=seed, reason=reason, observer=observer).run()
