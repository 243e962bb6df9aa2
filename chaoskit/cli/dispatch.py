"""From the words of a command line to the one command that is meant, imported alone, and from
everything that can go wrong in it to one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn, Protocol

from chaoskit.errors import ChaoskitError, InputError, Problem, Refused, StateError
from chaoskit.report.stream import forgiving, printable, say, say_json, tell

TYPE_CHECKING = False  # argparse is loaded when a command is known.
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


class Command(Protocol):
    """What each module of a command has."""

    SUMMARY: str
    EXAMPLES: str

    def arguments(self, parser: ArgumentParser) -> None:
        """Declare what the command takes."""

    def run(self, args: Namespace) -> int:
        """Do it; the exit code."""


COMMANDS = {
    "run": "run experiments: break, watch, put back, tell",
    "check": "tell everything that is wrong with experiment files",
    "plan": "show the exact targets, undo and privileges of a run, changing nothing",
    "recover": "undo what was left behind by runs that died",
    "halt": "pull the cord: every run undoes, and none starts",
    "release": "let runs start again after a halt",
    "status": "what is running, what is halted, what was left behind",
    "report": "show what a run came to",
    "faults": "list the faults, what each needs and how it is undone",
    "schema": "print the JSON Schema of experiment files, for editors",
    "init": "write a first experiment for a process or URL of yours",
    "demo": "break a small shop of real processes and watch",
    "proxy": "carry traffic between services and add faults to it, as Toxiproxy does",
}
_UNWATCHED = {"schema", "faults", "halt", "proxy"}
"""Commands that do not look for runs that were left behind: they read no state, or hurry."""

EXIT_CODES = """\
exit codes:
  0  held: the steady state held, the faults were proven, all undone
  1  deviated: the hypothesis was wrong; all undone
  2  the input is wrong; nothing was done
  3  refused: nothing was injected, and the reason is told
  4  aborted by a gate, a halt or a signal; all undone
  5  stuck: something could not be undone; what is left is told
  6  inconclusive: an effect was not proven, or a gate could not see
  7  chaoskit itself failed, or its state folder cannot be used"""


def dispatch(argv: list[str]) -> int:
    """Run the command that these words name. Never raises but SystemExit from the parser."""
    forgiving()
    json = "--json" in argv
    try:
        return _dispatch(argv)
    except InputError as error:
        return _failed(2, "input", [str(p) for p in error.problems], json, error.problems)
    except Refused as error:
        return _failed(3, "refused", [f"chaoskit: refused: {error}"], json)
    except StateError as error:
        return _failed(7, "state", [f"chaoskit: {error}"], json)
    except KeyboardInterrupt:
        return _failed(4, "interrupted", ["chaoskit: interrupted"], json)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("CHAOSKIT_DEBUG"):
            import traceback

            traceback.print_exception(error)
        what = (
            str(error) if isinstance(error, ChaoskitError) else f"{type(error).__name__}: {error}"
        )
        hint = "" if os.environ.get("CHAOSKIT_DEBUG") else " (CHAOSKIT_DEBUG=1 shows where)"
        return _failed(7, "failed", [f"chaoskit itself failed: {what}{hint}"], json)


def _failed(
    code: int,
    kind: str,
    lines: list[str],
    json: bool,
    problems: tuple[Problem | str, ...] = (),
) -> int:
    tell([printable(line) for line in lines])
    if json:
        from chaoskit.cli.common import problem_json

        told = [problem_json(problem) for problem in problems] or [{"message": lines[0]}]
        say_json({"schema": 1, "kind": "error", "exit": code, "error": kind, "problems": told})
    return code


def _dispatch(argv: list[str]) -> int:
    before, name, after = _split(argv)
    if not name:
        return _without_command(before)
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else "; `chaoskit --help` lists them"
        _usage(f"there is no command {name!r}{hint}")
    command = _command(name)
    parser = _parser(name, command)
    args = parser.parse_args([*before, *after])
    if name not in _UNWATCHED:
        from chaoskit.cli.common import open_state, tell_left

        tell_left(open_state(args), args)
    return command.run(args)


def _split(argv: list[str]) -> tuple[list[str], str, list[str]]:
    """The words before the command's name, the name, and those after it."""
    index = 0
    while index < len(argv) and argv[index].startswith("-"):
        index += 2 if argv[index] == "--state" else 1
    if index >= len(argv):
        return argv, "", []
    return argv[:index], argv[index], argv[index + 1 :]


def _without_command(argv: list[str]) -> int:
    if "--help" in argv or "-h" in argv:
        say(_help())
        return 0
    if "--version" in argv:
        from chaoskit.version import __version__

        say(f"chaoskit {__version__}")
        return 0
    if argv:
        _usage(f"a command is missing after {' '.join(argv)}; `chaoskit --help` lists them")
    tell(_help())
    return 2


def _usage(message: str) -> NoReturn:
    tell(printable(f"chaoskit: error: {message}"))
    raise SystemExit(2)


def _help() -> str:
    listed = "\n".join(f"  {name:<9} {summary}" for name, summary in COMMANDS.items())
    return f"""\
usage: chaoskit [--state DIR] COMMAND ...

Break one thing on purpose, watch what that does, put it back, and say what was learnt.

commands:
{listed}

options:
  --state DIR  where runs are recorded (default: CHAOSKIT_STATE, or ~/.local/state/chaoskit)
  --version    print the version
  --help       this; `chaoskit COMMAND --help` tells more about one command

examples:
  chaoskit demo
  chaoskit init --process 'worker\\.py' --url http://127.0.0.1:8080/health
  chaoskit plan experiment.yaml
  chaoskit run experiment.yaml
  chaoskit halt --reason "customers see errors"

{EXIT_CODES}"""


def _command(name: str) -> Command:
    module: Command = import_module(f"chaoskit.cli.{name}")
    return module


def _parser(name: str, command: Command) -> ArgumentParser:
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    class Parser(ArgumentParser):
        def error(self, message: str) -> NoReturn:
            tell(printable(f"{self.prog}: error: {message}; see `{self.prog} --help`"))
            sys.exit(2)

    parser = Parser(
        prog=f"chaoskit {name}",
        description=command.SUMMARY,
        epilog=f"examples:\n{command.EXAMPLES.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="where runs are recorded (default: CHAOSKIT_STATE, or ~/.local/state/chaoskit)",
    )
    command.arguments(parser)
    return parser
