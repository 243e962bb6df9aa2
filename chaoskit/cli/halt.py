"""`chaoskit halt`: the Andon cord. It imports and asks as little as it can, and takes any words."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from chaoskit.cli.common import add_json, open_state, state_option
from chaoskit.report.stream import printable, say, say_json

SUMMARY = "Pull the cord: every run undoes at once, and none starts until `chaoskit release`."
EXAMPLES = """\
  chaoskit halt
  chaoskit halt --reason "customers see errors"
  chaoskit halt customers see errors"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for everybody's record")
    # In a hurry nobody should be stopped by a forgotten `--reason`.
    parser.add_argument("words", metavar="REASON", nargs="*", help="the same, without quotes")
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.safety import halt

    reason = " ".join(filter(None, [args.reason, *args.words])) or "no reason given"
    pulled = halt.pull(open_state(args), reason)
    if args.json:
        from chaoskit.cli.release import halt_json

        say_json({"schema": 1, "kind": "halt", "halt": halt_json(pulled)})
    else:
        say(
            [
                printable(pulled),
                "every run undoes now (exit 4), and none starts (exit 3) until "
                f"`chaoskit release{state_option(args)}`",
            ]
        )
    return 0
