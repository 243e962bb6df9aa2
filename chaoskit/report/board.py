"""What the live view shows, as plain values: events in, styled rows out, no clock, no terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chaoskit.model.result import Event
from chaoskit.model.units import Unit, show, show_duration
from chaoskit.report.stream import printable

Row: TypeAlias = list[tuple[str, str]]
"""One line: pieces of text, each with a style (`bold`, `dim`, `green`, `red`, `yellow` or "")."""

Units: TypeAlias = Mapping[str, Mapping[str, Unit]]
"""The unit of each reading of each check, so that 0.012 is shown as 12ms."""

MARKS = 24
"""How many readings of a check are remembered."""

MOST_ROWS = 6
"""How many faults and how many checks are shown at once, the busiest part of a run."""


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters of the view."""

    ok: str = "✓"
    failed: str = "✗"
    unread: str = "?"
    full: str = "━"
    empty: str = "─"
    rule: str = "─"


ASCII = Signs("+", "x", "?", "#", ".", "-")

_SIGHTS = {"ok": "green", "failed": "red", "unread": "yellow"}
_PHASES = {
    "plan": "choosing targets",
    "before": "steady state before",
    "method": "method",
    "undo": "undoing",
    "verify": "verifying",
    "done": "done",
}


@dataclass(slots=True)
class _Step:
    text: str
    targets: tuple[str, ...]
    began: float
    until: float
    fault: bool
    proven: bool = False


@dataclass(slots=True)
class _Check:
    marks: deque[str] = field(default_factory=lambda: deque(maxlen=MARKS))
    value: str = ""
    detail: str = ""
    gate: str = ""


class Board:
    """Knows what a run has told so far. Times are seconds since the run began."""

    def __init__(
        self, title: str, hypothesis: str = "", units: Units | None = None, signs: Signs = Signs()
    ) -> None:
        self.title = printable(title)
        self.hypothesis = printable(hypothesis)
        self.phase = "plan"
        self.abort = ""
        self._units = units or {}
        self._signs = signs
        self._steps: dict[str, _Step] = {}
        self._checks: dict[str, _Check] = {}

    def feed(self, event: Event) -> None:
        """Take one event in. What is unknown changes nothing."""
        data = event.data
        number = str(data.get("step", data.get("number", "")))
        match event.kind:
            case "plan":
                for check in data["plan"]["checks"]:
                    self._checks.setdefault(check, _Check())
            case "phase":
                self.phase = str(data["phase"])
                if self.phase != "method":
                    self._forget_actions()
            case "step":
                self._forget_actions(but=number.partition(".")[0])
                self._steps[number] = _Step(
                    printable(data.get("title") or event.text),
                    tuple(printable(target) for target in data.get("targets", ())),
                    event.at,
                    event.at + float(data.get("hold") or 0.0),
                    data.get("what") == "fault" or bool(data.get("targets")),
                )
            case "injected":
                if step := self._steps.get(number):
                    step.proven, step.began = True, event.at
                    step.until = float(data.get("until") or step.until)
                    step.targets = tuple(
                        printable(target) for target in data.get("targets", step.targets)
                    )
            case "undone" | "released" | "acted" | "problem":
                self._steps.pop(number, None)
            case "sample":
                self._sample(data)
            case "abort":
                self.abort = printable(event.text)

    def _forget_actions(self, but: str = "") -> None:
        """An action or a wait is over when the next one begins; a fault only when it is undone."""
        for number, step in list(self._steps.items()):
            if not step.fault and (not but or number.partition(".")[0] != but):
                del self._steps[number]

    def _sample(self, data: Mapping[str, Any]) -> None:
        check = self._checks.setdefault(str(data["check"]), _Check())
        check.marks.append(str(data["sight"]))
        check.detail = printable(data.get("detail") or "")
        if data.get("gate"):
            check.gate = printable(data["gate"])
        found = data.get("found")
        units = self._units.get(str(data["check"]), {})
        if isinstance(found, Mapping):
            found = {
                name: show(value, units.get(name, Unit.NUMBER))
                if isinstance(value, int | float)
                else value
                for name, value in found.items()
            }
            check.value = printable(", ".join(f"{name} {value}" for name, value in found.items()))
        elif found is not None:
            check.value = printable(found)
        else:
            check.value = ""

    def rows(self, at: float, width: int) -> list[Row]:
        """The view at that time, for so many columns; a row may be longer and is to be cut."""
        rows = [self._head(at, width)]
        if self.hypothesis:
            rows.append([("  " + self.hypothesis, "dim")])
        if self.abort:
            rows.append([("  " + self.abort, "bold red")])
            # Forty columns exactly: on a narrow terminal, too, all of it can be read.
            rows.append([("undoing; a second Ctrl-C changes nothing", "bold")])
        steps = list(self._steps.items())
        for number, step in steps[:MOST_ROWS]:
            rows += self._step(number, step, at, width)
        if len(steps) > MOST_ROWS:
            rows.append([(f"  and {len(steps) - MOST_ROWS} more steps", "dim")])
        checks = list(self._checks.items())
        for name, check in checks[:MOST_ROWS]:
            rows += self._check(name, check, width)
        if len(checks) > MOST_ROWS:
            rows.append([(f"  and {len(checks) - MOST_ROWS} more checks", "dim")])
        if not self.abort:
            rows.append([("  Ctrl-C undoes everything and stops", "dim")])
        return rows

    def _head(self, at: float, width: int) -> Row:
        tail = f" {_PHASES.get(self.phase, self.phase)}, {show_duration(round(at))}"
        title = self.title[: max(0, width - len(tail) - 6)]
        rule = self._signs.rule
        fill = rule * max(1, width - len(title) - len(tail) - 4)
        return [(rule * 2 + " ", "dim"), (title, "bold"), (" " + fill, "dim"), (tail, "bold")]

    def _step(self, number: str, step: _Step, at: float, width: int) -> list[Row]:
        span = step.until - step.began
        done = min(1.0, max(0.0, (at - step.began) / span)) if span > 0 else 1.0
        left = max(0.0, step.until - at)
        word = "IN  " if step.proven else "into" if step.fault else "now "
        style = "bold red" if step.proven else "yellow"
        if step.fault and not step.proven:
            clock = f"{show_duration(max(0.0, at - step.began))} so far"
        elif left:
            clock = f"{left:.1f}s left of {show_duration(span)}"
        else:
            clock = (
                f"out for {show_duration(max(0.0, at - step.until))}"
                if not step.fault
                else ("its time is over, undoing")
            )
        cells = max(6, min(30, width // 4))
        full = round(done * cells)
        bar = [(self._signs.full * full, style), (self._signs.empty * (cells - full), "dim")]
        what = [(f"  {word} ", style), (f"{number} {step.text}", "")]
        rows: list[Row]
        if width >= 100:
            rows = [[*what, ("  ", ""), *bar, (f" {clock}", "bold")]]
        else:
            rows = [what, [("       ", ""), *bar, (f" {clock}", "bold")]]
        if step.fault and step.targets:
            more = f" and {len(step.targets) - 3} more" if len(step.targets) > 3 else ""
            rows.append([("       on " + ", ".join(step.targets[:3]) + more, "dim")])
        return rows

    def _check(self, name: str, check: _Check, width: int) -> list[Row]:
        shown = list(check.marks)[-max(5, min(MARKS, width // 5)) :]
        signs = {"ok": self._signs.ok, "failed": self._signs.failed}
        room = max(5, min(MARKS, width // 5))
        row: Row = [("  ", "")]
        row += [(signs.get(mark, self._signs.unread), _SIGHTS.get(mark, "")) for mark in shown]
        row.append((" " * (room - len(shown) + 1), ""))
        last = shown[-1] if shown else ""
        row.append((printable(name), _SIGHTS.get(last, "") if last != "ok" else ""))
        told = check.value or ("" if shown else "not read yet")
        if last and last != "ok" and check.detail:
            told = check.detail
        gate = f"gate: {check.gate}" if check.gate and check.gate != "watched only" else check.gate
        if width >= 80:
            row.append((f"  {told}", "dim" if last == "ok" else ""))
            if gate:
                row.append((f"  {gate}", "dim" if check.gate == "ok" else "yellow"))
            return [row]
        rows = [row, [(f"       {told}", "dim" if last == "ok" else "")]] if told else [row]
        if gate and check.gate != "ok":
            rows.append([(f"       {gate}", "yellow")])
        return rows
