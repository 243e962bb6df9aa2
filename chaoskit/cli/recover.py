"""`chaoskit recover`: undoes what runs left behind whose runner and guardian are both gone."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaoskit.cli.common import abandoned, add_json, add_var, open_state, state_option
from chaoskit.errors import ChaoskitError, Gone, InputError
from chaoskit.report.stream import printable, say, say_json, tell, width

if TYPE_CHECKING:
    from chaoskit.journal import RunFolder, State
    from chaoskit.model.result import Left, Result

SUMMARY = "Undo what was left behind by runs that died; all of them when none is named."
EXAMPLES = """\
  chaoskit recover
  chaoskit recover 20261123-053812-3f9a1c --accept 3
  chaoskit recover --scan /var/lib/app
  chaoskit recover --install"""

_WORST_FIRST = (5, 7, 3, 0)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="the id or how it begins")
    parser.add_argument(
        "--accept",
        metavar="CELL",
        type=int,
        action="append",
        default=[],
        help="keep what is in that cell now",
    )
    parser.add_argument(
        "--force",
        metavar="CELL",
        type=int,
        action="append",
        default=[],
        help="write the old value over whatever is in that cell",
    )
    parser.add_argument(
        "--scan",
        metavar="FOLDER",
        type=Path,
        nargs="*",
        help="also end what carries our mark without any journal: helper processes, and filler "
        "files in these folders",
    )
    parser.add_argument(
        "--install", action="store_true", help="have this done at every boot (systemd or cron)"
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help=SUPPRESS)
    add_var(parser)
    add_json(parser)


def run(args: Namespace) -> int:
    state = open_state(args)
    if args.install:
        from chaoskit.cli.boot import install

        return install(state.path, args.root, json=args.json)
    folders = _folders(state, args)
    codes = [0]
    results: list[Result] = []
    removed: list[dict[str, Any]] = []
    unseen: list[str] = []
    for folder in folders:
        code, result = _recover(folder, args)
        codes.append(code)
        results += [result] if result else []
    if args.scan is not None:
        code, removed, unseen = _scan(state, args)
        codes.append(code)
    code = min(codes, key=_WORST_FIRST.index)
    if args.json:
        say_json(
            {
                "schema": 1,
                "kind": "recover",
                "exit": code,
                "runs": [result.to_json() for result in results],
                "leftovers": removed,
                "unseen": unseen,
            }
        )
    elif not folders and not removed and not code:
        say("nothing was found in what could be looked at" if unseen else "nothing was left behind")
    return code


def _folders(state: State, args: Namespace) -> list[RunFolder]:
    if args.run:
        return [state.find(args.run)]
    left = abandoned(state)
    if (args.accept or args.force) and len(left) > 1:
        raise InputError(["chaoskit recover: cells are numbered by run: name the run as well"])
    return left


def _recover(folder: RunFolder, args: Namespace) -> tuple[int, Result | None]:
    from chaoskit import report
    from chaoskit.recovery import recover

    try:
        if folder.clean():
            return 0, _clean(folder, args)
        before = folder.result().left
        result = recover(folder, accept=args.accept, force=args.force, variables=dict(args.var))
    except ChaoskitError as error:
        tell(printable(f"chaoskit: {error}"))
        return 3, None
    if trouble := report.write(folder, result):
        tell(f"chaoskit: {printable(trouble)}")
    left = bool(result.left) or result.state == "left"
    if not args.json:
        from chaoskit.report.text import finish

        say(finish(_told(result, before, state_option(args)), width(sys.stdout)))
    return (5 if left else 0), result


def _clean(folder: RunFolder, args: Namespace) -> Result:
    result = folder.result()
    if not args.json:
        say(printable(f"run {folder.id} is clean: nothing of it is in"))
    return result


def _told(result: Result, before: Sequence[Left], state: str) -> Iterator[str]:
    from chaoskit.report.text import left_lines

    if result.left:
        yield f"STUCK  {result.title or result.run}"
        for left in result.left:
            yield from left_lines(left, result.run, state)
    else:
        yield f"RECOVERED  {result.title or result.run}"
    still = {left.cell for left in result.left}
    for one in before:
        if one.cell not in still:
            yield f"  undone: cell {one.cell}, {one.fault} on {one.target}"
    if not before and not result.left:
        yield "  nothing of it was in"
    yield f"  run {result.run}"


def _scan(state: State, args: Namespace) -> tuple[int, list[dict[str, Any]], list[str]]:
    """End what carries a mark of ours and belongs to no run that is going on. Also gives what could
    not be looked at."""
    from chaoskit.recovery import scan

    code = 0
    removed: list[dict[str, Any]] = []
    unseen: list[str] = []
    for left in scan(state, args.scan, unseen.append):
        problem = ""
        try:
            left.end()
        except (Gone, FileNotFoundError):
            continue  # By itself, since it was seen.
        except (ChaoskitError, OSError) as error:
            code, problem = 5, str(error) or type(error).__name__
        removed.append({"run": left.run, "kind": left.kind, "text": left.text, "problem": problem})
        if not args.json:
            say(printable(f"{'STUCK' if problem else 'removed'}  {left.text} {problem}".rstrip()))
    if not args.json:
        for what in unseen:
            say(printable(f"not looked at  {what}"))
    return code, removed, unseen
