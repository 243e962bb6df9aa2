"""`chaoskit run`: experiments one by one, each with its view, its report and its verdict."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chaoskit.cli.common import (
    add_json,
    add_variables,
    load_all,
    open_state,
    show_result,
)
from chaoskit.errors import Refused
from chaoskit.model.result import Result
from chaoskit.model.verdict import Verdict, worst
from chaoskit.report.stream import printable, say, say_json, tell

if TYPE_CHECKING:
    from chaoskit.journal import State
    from chaoskit.model.experiment import Experiment
    from chaoskit.report.live import View

SUMMARY = "Run experiments: break, watch, put back, tell."
EXAMPLES = """\
  chaoskit run experiment.yaml
  chaoskit run experiments/ --reason "before the release"
  chaoskit run experiment.yaml --var CHECKOUT_URL=http://127.0.0.1:8080 --seed 7
  chaoskit run experiment.yaml --json > result.json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE|DIR", type=Path, nargs="+")
    add_variables(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="what `pick` chooses by")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the record")
    parser.add_argument("--plain", action="store_true", help="plain lines, no live view")
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.engine.ears import late_signals

    experiments = load_all(args)
    state = open_state(args)
    results: list[Result] = []
    cut = False
    with late_signals() as came:
        for index, experiment in enumerate(experiments, 1):
            if len(experiments) > 1 and not args.json:
                say(printable(f"== {index} of {len(experiments)}: {experiment.file}"))
            result, aborted_by = one(experiment, state, args)
            results.append(result)
            if (came or _over(result, aborted_by)) and index < len(experiments):
                tell(f"chaoskit: {len(experiments) - index} more experiments were not run")
                cut = bool(came)
                break
        return _ending(results, args, cut)


def one(experiment: Experiment, state: State, args: Namespace) -> tuple[Result, str]:
    """Run it and show it: its result, and what aborted it, if anything did."""
    from chaoskit import engine

    view = _view(experiment, args)
    try:
        result = engine.run(
            experiment,
            state,
            seed=args.seed,
            reason=args.reason,
            observer=view,
        )
        trouble = _report(result)
    except Refused as error:
        result, trouble = _unrecorded(experiment, str(error)), ""
    except BaseException:
        view.close()
        raise
    _finish(view, result, trouble, args)
    return result, view.aborted_by


def _finish(view: View, result: Result, trouble: str, args: Namespace) -> None:
    try:
        view.close()
        if trouble:
            tell(f"chaoskit: {printable(trouble)}")
        if not args.json:
            say()
            show_result(result, args)
    except KeyboardInterrupt:
        # All is undone and told to the journal; a terminal that hangs changes no verdict. The
        # thread that hangs in it would bring down an ordinary exit.
        os._exit(result.exit_code)


def _report(result: Result) -> str:
    from chaoskit import report
    from chaoskit.journal import RunFolder

    return report.write(RunFolder.at(Path(result.folder)), result)


def _view(experiment: Experiment, args: Namespace) -> View:
    from chaoskit.report import live

    units = {
        check.name: {c.reading: c.unit for c in check.expect.conditions}
        for check in experiment.steady_state
    }
    return live.choose(
        json=args.json,
        plain=args.plain,
        title=experiment.title,
        hypothesis=experiment.hypothesis,
        units=units,
    )


def _over(result: Result, aborted_by: str) -> bool:
    """Whether nothing more is to be run: a person said stop, or something is left in the world."""
    return aborted_by in ("signal", "halt") or result.verdict in (Verdict.STUCK, Verdict.FAILED)


def _ending(results: Sequence[Result], args: Namespace, cut: bool) -> int:
    """What it came to over all files. cut: a signal kept some from being run."""
    verdicts = [result.verdict or Verdict.FAILED for result in results]
    verdict = worst([*verdicts, Verdict.ABORTED] if cut else verdicts)
    if args.json:
        if len(args.path) == 1 and not args.path[0].is_dir():
            say_json(results[0].to_json())
        else:
            say_json(
                {
                    "schema": 1,
                    "kind": "runs",
                    "exit": verdict.exit_code,
                    "verdict": verdict.value,
                    "runs": [result.to_json() for result in results],
                }
            )
    elif len(results) > 1:
        say(["", f"{verdict.value.upper()}  over {len(results)} experiments"])
        say(
            printable(f"  {(result.verdict or Verdict.FAILED).value:<12} {result.file}")
            for result in results
        )
    return verdict.exit_code


def _unrecorded(experiment: Experiment, reason: str) -> Result:
    """A run that could not even be recorded."""
    return Result(
        run="",
        title=experiment.title,
        file=str(experiment.file),
        state="done",
        verdict=Verdict.REFUSED,
        reason=reason,
        hypothesis=experiment.hypothesis,
        tags=experiment.tags,
        who="",
        why="",
        started="",
        ended="",
        seconds=0.0,
        seed=0,
        plan_hash="",
        undone_by="",
        steps=(),
        checks=(),
        left=(),
        learnt=(),
        timeline=(),
        folder="",
        version="",
    )
