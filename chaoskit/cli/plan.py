"""`chaoskit plan`: what a run would do now, before anything happens."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from chaoskit.cli.common import add_json, add_variables, load, open_state
from chaoskit.report.stream import say, say_json, width

SUMMARY = "Show the exact targets, undo and privileges of a run; change nothing."
EXAMPLES = """\
  chaoskit plan experiment.yaml
  chaoskit plan experiment.yaml --seed 7 --json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", type=Path)
    add_variables(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="what `pick` chooses by")
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.planning import make_plan
    from chaoskit.report.text import plan_lines

    plan = make_plan(load(args.path, args), open_state(args), args.seed)
    code = 3 if plan.refusals else 0
    if args.json:
        say_json(plan.to_json() | {"exit": code})
    else:
        say(plan_lines(plan, width=width(sys.stdout)))
    return code
