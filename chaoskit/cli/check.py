"""`chaoskit check`: everything that is wrong with the files, at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from chaoskit.cli.common import add_json, add_variables, load, problem_json
from chaoskit.errors import InputError
from chaoskit.report.stream import printable, say, say_json, tell

SUMMARY = "Tell everything that is wrong with experiment files; change nothing."
EXAMPLES = """\
  chaoskit check experiment.yaml
  chaoskit check experiments/ --json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE|DIR", type=Path, nargs="+")
    add_variables(parser)
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit import spec

    files: list[dict[str, Any]] = []
    for path in spec.experiment_files(args.path):
        try:
            title, problems = load(path, args).title, []
        except InputError as error:
            title, problems = "", list(error.problems)
        files.append(
            {
                "file": str(path),
                "title": title,
                "ok": not problems,
                "problems": [problem_json(problem) for problem in problems],
            }
        )
        tell_problems = [printable(problem) for problem in problems]
        if tell_problems:
            tell(tell_problems)
        elif not args.json:
            say(printable(f"{path}: ok ({title})"))
    wrong = sum(not file["ok"] for file in files)
    code = 2 if wrong else 0
    if args.json:
        say_json({"schema": 1, "kind": "check", "exit": code, "files": files})
    elif wrong:
        count = sum(len(file["problems"]) for file in files)
        tell(
            f"{count} problem{'s' * (count != 1)} in {wrong} of {len(files)} "
            f"file{'s' * (len(files) != 1)}"
        )
    return code
