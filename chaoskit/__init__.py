"""chaoskit breaks one thing on purpose, watches what that does, puts it back, says what it learnt.

experiment = chaoskit.load("experiment.yaml")
print(chaoskit.plan(experiment).steps)
result = chaoskit.run(experiment)
assert result.verdict is Verdict.HELD
"""

from __future__ import annotations

from chaoskit.version import __version__

TYPE_CHECKING = False  # Type checkers take it for true; `typing` itself is slow to import.
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from chaoskit.model.experiment import Experiment
    from chaoskit.model.result import Observer, Plan, Result

__all__ = ["__version__", "load", "plan", "run"]


def load(
    path: str | PathLike[str],
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[str | PathLike[str]] = (),
) -> Experiment:
    """The experiment in that file, with `variables` over `var_files` over the environment.

    Raises InputError with everything that is wrong, each with its file, line and column.
    """
    from pathlib import Path

    from chaoskit import spec

    return spec.load(Path(path), variables or {}, [Path(file) for file in var_files])


def plan(
    experiment: Experiment,
    *,
    state: str | PathLike[str] | None = None,
    seed: int | None = None,
) -> Plan:
    """The exact targets, undo and privileges of a run now. Changes nothing.

    state: the state folder, see `run`. seed: what `pick` chooses by; a new one when None.
    """
    from pathlib import Path

    from chaoskit.journal import State
    from chaoskit.planning import make_plan

    return make_plan(experiment, State.open(Path(state) if state else None), seed)


def run(
    experiment: Experiment,
    *,
    state: str | PathLike[str] | None = None,
    seed: int | None = None,
    reason: str = "",
    observer: Observer | None = None,
) -> Result:
    """Run it: break, watch, put back. Returns when everything is undone or known to be stuck.

    state: the state folder; by default CHAOSKIT_STATE or the platform's. reason: why, for the
    record. observer: is told each Event while it happens. In the main thread, SIGINT, SIGTERM,
    SIGHUP and SIGQUIT abort the run while it is on. The run's folder gets its report.

    Raises Refused when the run could not even be recorded, and nothing was done.
    """
    from pathlib import Path

    from chaoskit import engine, report
    from chaoskit.journal import RunFolder, State
    from chaoskit.model.result import silent

    opened = State.open(Path(state) if state else None)
    result = engine.run(experiment, opened, seed=seed, reason=reason, observer=observer or silent)
    report.write(RunFolder.at(Path(result.folder)), result)
    return result
