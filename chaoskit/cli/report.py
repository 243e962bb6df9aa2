"""`chaoskit report`: what a run came to, from its journal."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from chaoskit.cli.common import add_json, open_state, show_result
from chaoskit.report.stream import say, say_json

SUMMARY = "Show what a run came to; the latest one when none is named."
EXAMPLES = """\
  chaoskit report
  chaoskit report 20261123-05 --md > report.md
  chaoskit report --json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="the id or how it begins")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--md", action="store_true", help="print Markdown")
    add_json(shape)  # type: ignore[arg-type]


def run(args: Namespace) -> int:
    from chaoskit import report

    folder = open_state(args).find(args.run)
    result = folder.result()
    if result.state == "done" and not (folder.path / "report.md").exists():
        # A run that its guardian ended had nobody left to write it.
        report.write(folder, result)
    if args.json:
        say_json(result.to_json())
    elif args.md:
        say(report.markdown(result).rstrip("\n"))
    else:
        show_result(result, args)
    return 0
