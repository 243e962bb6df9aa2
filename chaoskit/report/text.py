"""A result and a plan for a terminal, to be read at three in the morning: the verdict first, then
what is left, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from chaoskit.model.result import Left, Plan, PlannedStep, Result
from chaoskit.model.units import show_duration
from chaoskit.model.verdict import Verdict
from chaoskit.report.stream import printable
from chaoskit.report.words import MEANING, proof, readings

_COLOURS = {
    Verdict.HELD: "32",
    Verdict.DEVIATED: "31",
    Verdict.REFUSED: "33",
    Verdict.ABORTED: "33",
    Verdict.INCONCLUSIVE: "33",
    Verdict.INPUT: "31",
    Verdict.STUCK: "1;41;97",
    Verdict.FAILED: "31",
}
_FEW = 8
"""How many targets of a step, or cells of a target, are named."""


def result_lines(
    result: Result, *, width: int | None = None, colour: bool = False, state: str = ""
) -> list[str]:
    """The verdict block. width: columns to fold at. state: ` --state DIR`, for what to type."""
    word = result.verdict.value.upper() if result.verdict else result.state.upper()
    lines = finish(_result(result, word, state), width)
    if colour:
        code = _COLOURS.get(result.verdict, "1") if result.verdict else "1"
        lines[0] = lines[0].replace(word, f"\x1b[1;{code}m{word}\x1b[0m", 1)
    return lines


def plan_lines(plan: Plan, *, width: int | None = None) -> list[str]:
    """What would be done to whom, and why it may not run, if so."""
    return finish(_plan(plan), width)


def finish(lines: Iterable[str], width: int | None) -> list[str]:
    """Fit for a terminal: nothing in them steers it, and long ones are folded below themselves."""
    clean = [printable(line) for line in lines]
    if width is None:
        return clean
    return [part for line in clean for part in _fold(line, width)]


def _fold(line: str, width: int) -> Iterator[str]:
    indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 4)
    while len(line) > width:
        cut = line.rfind(" ", len(indent) + 1, width + 1)
        cut = cut if cut > len(indent) else width
        yield line[:cut].rstrip()
        line = indent + line[cut:].lstrip()
    yield line


def _result(result: Result, word: str, state: str) -> Iterator[str]:
    yield f"{word}  {result.title or result.run}"
    yield f"  {result.reason or MEANING.get(word.lower(), '')}"
    if result.left:
        yield ""
        yield "what is left, and how to remove it"
        for left in result.left:
            yield from left_lines(left, result.run, state)
    if result.steps:
        yield ""
        yield "steps"
        for step in result.steps:
            yield f"  {step.number}  {step.text}: {proof(step, result)}"
            yield from (f"       {target}" for target in step.targets[:_FEW])
            if (more := len(step.targets) - _FEW) > 0:
                yield f"       and {more} more"
            yield from (f"       {outcome}" for outcome in step.outcomes)
    if result.checks:
        yield ""
        yield "checks"
        for check in result.checks:
            yield (
                f"  {check.name}: before {check.before or 'not asked'}, "
                f"during {readings(check)}, after {check.after or 'not asked'}"
            )
            if check.before_detail and check.before != "ok":
                yield f"       before: {check.before_detail}"
            if check.first_failure:
                yield f"       first failure {check.first_failure}"
            if check.after_detail and check.after != "ok":
                yield f"       after: {check.after_detail}"
    if result.learnt:
        yield ""
        yield "learnt"
        yield from (f"  - {sentence}" for sentence in result.learnt)
    yield ""
    took = show_duration(result.seconds)
    yield f"run {result.run}, {took}, seed {result.seed}" + (
        f", plan {result.plan_hash}" if result.plan_hash else ""
    )
    report = Path(result.folder) / "report.md"
    yield f"report {report}" if report.exists() else f"folder {result.folder}"


def left_lines(left: Left, run: str, state: str = "") -> Iterator[str]:
    """One cell that is still as the run made it, and what a person does about it."""
    yield f"  cell {left.cell}: {left.fault} on {left.target}"
    yield f"       {left.why}"
    yield f"       it was {left.was!r}, chaoskit put {left.put!r}, last found {left.found!r}"
    command = f"chaoskit recover{state} {run}"
    yield f"       put it right by hand and: {command}"
    yield f"       or keep what is there:    {command} --accept {left.cell}"
    yield f"       or write the old value:   {command} --force {left.cell}"


def _plan(plan: Plan) -> Iterator[str]:
    yield plan.title
    yield f"  {plan.file}, seed {plan.seed}, plan {plan.hash}"
    if plan.refusals:
        yield ""
        yield "this run would be REFUSED"
        yield from (f"  - {refusal}" for refusal in plan.refusals)
    yield ""
    yield "steps"
    for step in plan.steps:
        yield from _planned(step)
    yield ""
    yield "watched"
    yield from (f"  check {check}" for check in plan.checks)
    yield from (f"  gate  {gate}" for gate in plan.gates)
    if not plan.gates:
        yield "  no gate: nothing aborts, a failure makes the run deviated at its end"
    yield ""
    yield "limits"
    yield from (f"  {limit}" for limit in plan.limits)
    yield f"  the method takes {show_duration(plan.seconds)} when nothing goes wrong"


def _planned(step: PlannedStep) -> Iterator[str]:
    if step.kind != "fault":
        yield f"  {step.number}  {step.text}" + (f"; undo: {step.undo}" if step.undo else "")
        return
    yield f"  {step.number}  {step.text}, held for {show_duration(step.hold)}"
    yield f"       picks {step.pick} of {step.matched} that match: {len(step.targets)} chosen"
    # All of them: a plan that leaves targets out is not one that can be approved.
    for target in step.targets:
        cells = f", {len(target.cells)} changes:" if len(target.cells) > 1 else ""
        yield f"       - {target.label}{cells}"
        if cells:
            yield f"         {', '.join(target.cells)}"
    for left_out in step.passed_over[:_FEW]:
        yield f"       passed over: {left_out}"
    if (more := len(step.passed_over) - _FEW) > 0:
        yield f"       and {more} more passed over"
    yield from (f"       note: {remark}" for remark in step.remarks)
    yield f"       undo: {step.undo}"
    yield f"       ends without chaoskit: {step.ends}"
    yield f"       needs: {', '.join(step.privileges) or 'nothing beyond what you have'}"
