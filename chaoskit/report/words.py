"""The words that every report of a run shares, whatever it is written in."""

from __future__ import annotations

from chaoskit.model.result import CheckResult, Result, StepResult
from chaoskit.model.units import show_duration

MEANING = {
    "held": "the steady state held throughout; everything is undone",
    "deviated": "the hypothesis was wrong; everything is undone",
    "input": "the input is wrong; nothing was done",
    "refused": "nothing was injected",
    "aborted": "the run was cut short; everything is undone",
    "stuck": "something could not be undone",
    "inconclusive": "nothing can be said: an effect was not proven, or a gate could not see",
    "failed": "chaoskit itself failed; everything is undone",
    "running": "the run is going on",
    "left": "the run died and has not been undone",
    "done": "the run is over",
}
"""What a verdict, or the state of a run without one, means."""


def proof(step: StepResult, result: Result) -> str:
    """What is known of a step's effect, and of its end."""
    parts = [step.problem] if step.problem else []
    if step.kind != "fault":
        parts = parts or [_end_of_action(step, result)]
    elif step.injected is None:
        parts = parts or ["not injected" if step.began is not None else "not reached"]
    elif not step.problem:
        parts.append({True: "proven", False: "NOT proven", None: "not looked at"}[step.proven])
        if step.proven_again is not None:
            parts.append("still there at the end" if step.proven_again else "ENDED EARLY")
    if step.one_way and step.injected is not None:
        parts.append("one way: nothing undoes it")
    elif step.undo_took is not None and not step.one_way:
        parts.append(f"undone in {show_duration(step.undo_took)}")
    elif step.injected is not None and step.undone is None:
        parts.append(_end_of_another(result))
    return ", ".join(parts)


def _end_of_action(step: StepResult, result: Result) -> str:
    """What is known of an action or a wait; one that was cut short is not claimed to be done."""
    if step.began is None:
        return "not reached"
    if step.acted is not None:
        return "done"
    return "going on" if result.state == "running" else "cut short"


def _end_of_another(result: Result) -> str:
    """How a fault ended whose runner did not come to undo it."""
    if result.state == "running":
        return "in now"
    if result.left or result.state == "left":
        return "NOT undone by its run"
    return f"undone by {result.undone_by or 'another process'}"


def seconds_in(step: StepResult) -> str:
    """When it went in and out, in seconds since the run began; "" when it never was in."""
    if step.injected is None:
        return ""
    until = f"{step.undone:.2f}s" if step.undone is not None else "now"
    return f"in from {step.injected:.2f}s to {until}"


def readings(check: CheckResult) -> str:
    """`10 ok, 2 failed`; "none" when it was never read while faults were in."""
    counted = (
        (check.during_ok, "ok"),
        (check.during_failed, "failed"),
        (check.during_unread, "unread"),
    )
    return ", ".join(f"{count} {word}" for count, word in counted if count) or "none"
