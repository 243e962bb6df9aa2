"""What is expected of a reading. Pure: a reading in, what is wrong with it out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from chaoskit.model.probe import Reading
from chaoskit.model.redact import NOTHING_SECRET, Redactor
from chaoskit.model.units import Json, Unit, show

MATCHERS = ("equals", "below", "above", "between", "matches", "contains")


@dataclass(frozen=True, slots=True)
class Condition:
    """One matcher on one reading: `latency below 0.5 s`.

    value: in the reading's inner unit (seconds, bytes, fraction); for `between` [low, high], both
    included; for `matches` a regular expression that is searched for.
    """

    reading: str
    unit: Unit
    matcher: str
    value: Json

    def holds(self, found: Json) -> bool:
        """Whether the value found satisfies it. NaN, a missing value and a wrong type never do."""
        match self.matcher:
            case "equals":
                return _equal(found, self.value)
            case "matches":
                return isinstance(found, str | int | float) and bool(
                    re.search(_text(self.value), _text(found))
                )
            case "contains":
                if isinstance(found, list):
                    return any(_equal(item, self.value) for item in found)
                return isinstance(found, str) and _text(self.value) in found
        number = _number(found)
        if number is None:
            return False
        match self.matcher, self.value:
            case "below", int() | float() as most:
                return number < most
            case "above", int() | float() as least:
                return number > least
            case "between", [int() | float() as low, int() | float() as high]:
                return low <= number <= high
        return False

    def wanted(self, redactor: Redactor) -> str:
        """The matcher and its value, for people: `below 500ms`."""
        value = redactor.json(self.value)
        if isinstance(value, list):
            low, high = (show(v, self.unit) for v in value)
            return f"{self.matcher} {low} and {high}"
        return f"{self.matcher} {show(value, self.unit)}"

    def __str__(self) -> str:
        return f"{self.reading} {self.wanted(NOTHING_SECRET)}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """All conditions of one check. `within`: seconds that a check may take to become true when it
    is asked before or after the method; a gate judges each reading by itself."""

    conditions: tuple[Condition, ...]
    within: float | None = None

    def failures(self, reading: Reading, redactor: Redactor = NOTHING_SECRET) -> list[str]:
        """What does not hold, each with what was found; empty when all is as expected.

        redactor: takes secrets out of what is told, before long texts are cut: half a secret
        would not be known for one any more.
        """
        return [
            f"{condition.reading} is "
            f"{show(redactor.json(reading.get(condition.reading)), condition.unit)}, "
            f"expected {condition.wanted(redactor)}"
            for condition in self.conditions
            if not condition.holds(reading.get(condition.reading))
        ]


def _number(value: Json) -> float | None:
    """The value as a finite number; text that is one counts, as a command's output is text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Json) -> str:
    return value if isinstance(value, str) else show(value, Unit.NUMBER)


def _equal(found: Json, expected: Json) -> bool:
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _equal(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, bool) or isinstance(found, bool):
        return found is expected
    if isinstance(found, str) and isinstance(expected, str):
        return found.strip() == expected.strip()
    if isinstance(expected, int | float) and not isinstance(found, list | dict):
        number = _number(found)
        return number is not None and number == _number(expected)
    return found == expected
