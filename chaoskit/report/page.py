"""A run as a page to put into a ticket: what was tried, what happened, what was learnt.

It speaks of the system, never of who is to blame. Texts come from outside (command lines, answers
of servers) and are escaped, so that they can be nothing but text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from chaoskit.model.result import CheckResult, Result
from chaoskit.model.units import show_duration
from chaoskit.report.stream import printable
from chaoskit.report.words import MEANING, proof, readings, seconds_in

_SPECIAL = re.compile(r"([\\`*_#\[\]<>|~&])")
_AT_START = re.compile(r"^([+\-=])|^(\d+)([.)])")
"""What makes a heading, a list or a rule of a line when it stands first."""


def escape(text: object) -> str:
    """The text so that Markdown shows it as it is, on one line."""
    flat = _SPECIAL.sub(r"\\\1", printable(text).strip())
    return _AT_START.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", flat)


def page(result: Result) -> str:
    """The report of a run as Markdown."""
    return "\n".join(_lines(result)).rstrip() + "\n"


def _lines(result: Result) -> Iterator[str]:
    word = result.verdict.value if result.verdict else result.state
    yield f"# {escape(result.title or result.run)}"
    yield ""
    yield f"**{word.upper()}**: {escape(result.reason or MEANING.get(word, ''))}"
    yield ""
    if result.hypothesis:
        yield f"> {escape(result.hypothesis)}"
        yield ""
    if result.left:
        yield from _left(result)
    yield from _facts(result)
    yield from _section("What was learnt", (f"- {escape(one)}" for one in result.learnt))
    yield from _section("Steps", _steps(result))
    yield from _section("Checks", _checks(result.checks))
    yield from _section(
        "Timeline", (f"- `{at:8.3f}s` {escape(text)}" for at, text in result.timeline)
    )


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    if body:
        yield from (f"## {title}", "", *body, "")


def _left(result: Result) -> Iterator[str]:
    yield "## What is left, and how to remove it"
    yield ""
    for left in result.left:
        yield f"- cell {left.cell}, {escape(left.fault)} on {escape(left.target)}: " + escape(
            left.why
        )
        yield f"  - was `{_code(left.was)}`, put `{_code(left.put)}`, found `{_code(left.found)}`"
        yield f"  - {printable(left.remedy)}"
    yield ""


def _code(value: object) -> str:
    return printable(value).replace("`", "'")


def _facts(result: Result) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    facts = {
        "Run": result.run,
        "Experiment": result.file,
        "By": result.who,
        "Why": result.why,
        "Started": result.started,
        "Ended": result.ended,
        "Took": show_duration(result.seconds),
        "Undone by": result.undone_by,
        "Seed": str(result.seed),
        "Plan": result.plan_hash,
        "Tags": ", ".join(result.tags),
        "chaoskit": result.version,
        "Folder": result.folder,
    }
    for name, value in facts.items():
        if value:
            yield f"| {name} | {escape(value)} |"
    yield ""


def _steps(result: Result) -> Iterator[str]:
    for step in result.steps:
        yield f"- **{escape(step.number)}** {escape(step.text)}: {escape(proof(step, result))}"
        if step.targets:
            yield f"  - on {', '.join(escape(target) for target in step.targets)}"
        if times := seconds_in(step):
            yield f"  - {times}"
        yield from (f"  - {escape(outcome)}" for outcome in step.outcomes)


def _checks(checks: Iterable[CheckResult]) -> Iterator[str]:
    rows = [
        " | ".join(
            (
                escape(check.name),
                escape(check.probe),
                escape(check.expect),
                _state(check.before, check.before_detail),
                escape(readings(check)),
                _state(check.after, check.after_detail),
                escape(check.first_failure),
            )
        )
        for check in checks
    ]
    if rows:
        yield "| Check | Probe | Expected | Before | During | After | First failure |"
        yield "|---|---|---|---|---|---|---|"
        yield from (f"| {row} |" for row in rows)


def _state(word: str, detail: str) -> str:
    shown = word or "not asked"
    return escape(f"{shown}: {detail}" if detail and word != "ok" else shown)
