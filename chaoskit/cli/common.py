"""What several commands share: the state folder, variables, runs that were left behind."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaoskit.errors import ChaoskitError, InputError, Problem
from chaoskit.report.stream import printable, say, tell, width

if TYPE_CHECKING:
    from chaoskit.journal import RunFolder, State
    from chaoskit.model.experiment import Experiment
    from chaoskit.model.result import Result

_FEW = 3
"""How many of what is left are named in a line."""


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document (schema 1)")


def add_variables(parser: ArgumentParser) -> None:
    add_var(parser)
    parser.add_argument(
        "--var-file",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a YAML or JSON file of variables",
    )


def add_var(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--var",
        metavar="NAME=VALUE",
        type=_variable,
        action="append",
        default=[],
        help="set a variable of the file; others can read it in `ps`, so not for secrets",
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        # The text may be a secret that was meant to be a value: it is not repeated.
        raise ArgumentTypeError("expected NAME=VALUE")
    return name, value


def open_state(args: Namespace) -> State:
    """The state folder that the command line names. Raises StateError."""
    from chaoskit.journal import State

    return State.open(Path(args.state) if args.state else None)


def state_option(args: Namespace) -> str:
    """` --state DIR` as it was given, for commands that people are told to type; or ""."""
    if not args.state:
        return ""
    from shlex import quote

    return f" --state {quote(args.state)}"


def load(path: Path, args: Namespace) -> Experiment:
    """The experiment in that file with the variables of the command line. Raises InputError."""
    from chaoskit import spec

    return spec.load(path, dict(args.var), args.var_file)


def problem_json(problem: Problem | str) -> dict[str, Any]:
    if isinstance(problem, str):
        return {"message": problem}
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
    }


def show_result(result: Result, args: Namespace) -> None:
    """The verdict block, on stdout."""
    from chaoskit.report.stream import colours
    from chaoskit.report.text import result_lines

    say(
        result_lines(
            result,
            width=width(sys.stdout),
            colour=colours(sys.stdout),
            state=state_option(args),
        )
    )


def tell_left(state: State, args: Namespace) -> None:
    """Say on stderr which runs died with something in, if any. Never fails the command."""
    try:
        left = abandoned(state)
    except ChaoskitError as error:
        tell(f"chaoskit: {printable(error)}")
        return
    for folder in left[:_FEW]:
        tell(printable(f"chaoskit: run {folder.id} died with {not_undone(folder)}"))
    if len(left) > _FEW:
        tell(f"chaoskit: and {len(left) - _FEW} more runs that died")
    if left and args.command != "recover":
        tell(f"chaoskit: `chaoskit recover{state_option(args)}` undoes it")


def abandoned(state: State) -> list[RunFolder]:
    """The runs that were left behind. A guardian needs a moment to take over a run whose runner
    has just died: what looks left is looked at again."""
    if not (left := state.left()):
        return []
    from time import sleep

    sleep(0.15)
    ids = {folder.id for folder in state.left()}
    return [folder for folder in left if folder.id in ids]


def not_undone(folder: RunFolder) -> str:
    """What a dead run has not undone, in a few words; some of it may have ended by itself."""
    try:
        left = folder.result().left
    except ChaoskitError as error:
        return f"a journal that cannot be read: {error}"
    if not left:
        return "nothing of it in; its end was not recorded"
    named = list(dict.fromkeys(f"{one.fault} on {one.target}" for one in left))
    more = f" and {len(named) - _FEW} more" if len(named) > _FEW else ""
    return f"{', '.join(named[:_FEW])}{more} not undone"


def load_all(args: Namespace) -> list[Experiment]:
    """Every experiment that the command line names, all of them right: what is wrong in any of
    them is told before anything is done. Raises InputError."""
    from chaoskit import spec

    experiments: list[Experiment] = []
    problems: list[Problem | str] = []
    for path in spec.experiment_files(args.path):
        try:
            experiments.append(load(path, args))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return experiments
