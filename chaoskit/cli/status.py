"""`chaoskit status`: what is running, what is halted and what was left behind."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.cli.common import abandoned, add_json, open_state, state_option
from chaoskit.errors import ChaoskitError
from chaoskit.report.stream import say, say_json, tell, width

if TYPE_CHECKING:
    from chaoskit.journal import RunFolder
    from chaoskit.model.result import Result
    from chaoskit.safety.halt import Halt

SUMMARY = "Show what is running, what is halted and what was left behind."
EXAMPLES = """\
  chaoskit status
  chaoskit status --json"""


def arguments(parser: ArgumentParser) -> None:
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.cli.release import halt_json
    from chaoskit.report.text import finish
    from chaoskit.safety import halt

    state = open_state(args)
    halted = halt.current(state)
    left = _results(abandoned(state))
    gone = {result.run for result in left}
    running = _results([f for f in state.unsettled() if f.id not in gone and f.in_use()])
    if args.json:
        say_json(
            {
                "schema": 1,
                "kind": "status",
                "state": str(state.path),
                "halt": halt_json(halted),
                "running": [_short(result) for result in running],
                "left": [_short(result) for result in left],
            }
        )
    else:
        lines = [*_lines(halted, running, left, state_option(args)), f"state folder {state.path}"]
        say(finish(lines, width(sys.stdout)))
    return 0


def _results(folders: Sequence[RunFolder]) -> list[Result]:
    results = []
    for folder in folders:
        try:
            results.append(folder.result())
        except ChaoskitError as error:
            tell(f"chaoskit: run {folder.id}: {error}")
    return results


def _short(result: Result) -> dict[str, Any]:
    whole = result.to_json()
    kept = ("run", "title", "file", "who", "why", "started", "seconds", "left", "folder")
    return {name: whole[name] for name in kept}


def _lines(
    halted: Halt | None, running: Sequence[Result], left: Sequence[Result], state: str
) -> Iterator[str]:
    if halted is not None:
        yield str(halted)
        yield f"  no run starts until `chaoskit release{state}`"
    for result in running:
        yield f"running  {result.run}  {result.title}"
        yield f"  by {result.who} since {result.started}" + (
            f": {result.why}" if result.why else ""
        )
        yield from _cells(result, "in now")
    for result in left:
        yield f"LEFT BEHIND  {result.run}  {result.title}"
        yield f"  by {result.who}, started {result.started}"
        yield from _cells(result, "not undone")
        yield f"  undo it: chaoskit recover{state} {result.run}"
    if halted is None and not running and not left:
        yield "nothing is running, nothing is halted, nothing was left behind"


def _cells(result: Result, word: str) -> Iterator[str]:
    for what in dict.fromkeys(f"{one.fault} on {one.target}" for one in result.left):
        yield f"  {word}: {what}"
