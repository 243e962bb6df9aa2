"""`chaoskit release`: lets runs start again after a halt."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from chaoskit.cli.common import add_json, open_state
from chaoskit.report.stream import printable, say, say_json

if TYPE_CHECKING:
    from chaoskit.safety.halt import Halt

SUMMARY = "Let runs start again after a halt."
EXAMPLES = """\
  chaoskit release"""


def arguments(parser: ArgumentParser) -> None:
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.safety import halt

    released = halt.release(open_state(args))
    if args.json:
        say_json({"schema": 1, "kind": "release", "halt": halt_json(released)})
    elif released is None:
        say("nothing was halted")
    else:
        say(["runs may start again", f"  {printable(released)}"])
    return 0


def halt_json(halt: Halt | None) -> dict[str, str] | None:
    return None if halt is None else {"reason": halt.reason, "who": halt.who, "at": halt.at}
