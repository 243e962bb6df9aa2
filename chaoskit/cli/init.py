"""`chaoskit init`: a first experiment for a process or URL of theirs, written and explained."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from chaoskit.cli import first
from chaoskit.cli.common import add_json
from chaoskit.errors import InputError, Problem
from chaoskit.report.stream import printable, say, say_json

SUMMARY = "Write a first experiment for a process or URL of yours, and explain it."
EXAMPLES = """\
  chaoskit init                                  (asks)
  chaoskit init --process 'worker\\.py' --url http://127.0.0.1:8080/health
  chaoskit init --port 8080 my-first.yaml"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=Path("experiment.yaml")
    )
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument("--process", metavar="REGEX", help="found in the command line of a process")
    whom.add_argument("--pid", type=_above_zero, metavar="N", help="the process of that id")
    parser.add_argument("--url", help="what answers 200 when all is well")
    parser.add_argument("--port", type=_port, metavar="N", help="a local port that is listened on")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_json(parser)


def _above_zero(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ArgumentTypeError(f"expected the id of a process, found {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"expected a port from 1 to 65535, found {text!r}")
    return int(text)


def run(args: Namespace) -> int:
    wish = first.Wish(args.process or "", args.pid, args.url or "", args.port)
    if wish.empty:
        wish = _asked()
    text = first.experiment(wish, str(args.file))
    if not args.force and (args.file.exists() or args.file.is_symlink()):
        raise InputError([f"{args.file} is there already; --force writes over it"])
    _write(args.file, text, args.force)
    if args.json:
        say_json({"schema": 1, "kind": "init", "exit": 0, "file": str(args.file), "text": text})
    else:
        say(printable(line) for line in (f"wrote {args.file}", *first.explained(wish, args.file)))
    return 0


def _asked() -> first.Wish:
    """Ask a person. Raises InputError where there is none."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise InputError(["chaoskit init: say what to break: --process, --pid, --url or --port"])
    say("A first experiment freezes one process for a few seconds and watches what that does.")
    try:
        process = input("Which process? A regular expression for its command line: ").strip()
        url = input("Which URL answers 200 when all is well? (empty: none): ").strip()
    except EOFError:
        raise InputError(["chaoskit init: there was no answer"]) from None
    wish = first.Wish(process, None, url, None)
    if wish.empty:
        raise InputError(["chaoskit init: a process or a URL is needed"])
    return wish


def _write(path: Path, text: str, force: bool) -> None:
    """Write it once it has passed `check`, whole or not at all. Raises InputError."""
    from chaoskit import spec

    beside = path.with_name(f".{path.name}.{os.getpid()}.yaml")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        try:
            spec.load(beside, {}, [])
        except InputError as error:
            told = [p.message if isinstance(p, Problem) else p for p in error.problems]
            raise InputError([f"chaoskit init: {message}" for message in told]) from error
        if force:
            beside.replace(path)
        else:
            os.link(beside, path)  # Never over a file that came in the meantime.
    except OSError as error:
        raise InputError([f"{path} cannot be written: {error.strerror}"]) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
