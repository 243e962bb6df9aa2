"""`chaoskit schema`: the JSON Schema that editors complete and check experiment files with."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from chaoskit.report.stream import say_json

SUMMARY = "Print the JSON Schema of experiment files, for editors."
EXAMPLES = """\
  chaoskit schema > chaoskit.schema.json
  # and as the first line of an experiment:
  # yaml-language-server: $schema=./chaoskit.schema.json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="it is JSON in any case")


def run(args: Namespace) -> int:
    from chaoskit import spec

    say_json(spec.schema())
    return 0
