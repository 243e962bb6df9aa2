"""Quantities with their units: how they are written, what they are inside, how they are printed.

Inside, a Duration is seconds, a Size bytes, a Percent a fraction of 1 and a Rate bytes a second.
The aliases below are what a fault, a target or a probe annotates its fields with: the loader
reads the unit from the alias, and so does the JSON Schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Unit(Enum):
    """What kind of quantity or text a field holds."""

    DURATION = "duration"
    SIZE = "size"
    PERCENT = "percent"
    RATE = "rate"
    NUMBER = "number"
    TEXT = "text"
    REGEX = "regular expression"
    JSONPATH = "JSON path"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Share:
    """A percentage where a quantity could stand too (`size: 64MiB` or `size: 10%`).

    fraction: of 1.
    """

    fraction: float


Duration = Annotated[float, Unit.DURATION]
Size = Annotated[int, Unit.SIZE]
Percent = Annotated[float, Unit.PERCENT]
Rate = Annotated[float, Unit.RATE]
Regex = Annotated[str, Unit.REGEX]
JsonPath = Annotated[str, Unit.JSONPATH]
Command = Annotated[str | tuple[str, ...], Unit.COMMAND]
"""A string, run by `sh -c`, or a list, run as it is. Secrets come in its environment only."""
Amount: TypeAlias = Size | Share
"""For a field that takes `64MiB` as well as `10%`: an int of bytes or a Share, never mixed up.

Annotate with it, or with `Share` beside any other number (`cores: float | Share`). In a union with
another number, `Percent` is read as a Share too, because 50% and 0.5 cores are different things.
"""

WANTED: Mapping[Unit, str] = {
    Unit.DURATION: "a duration such as 500ms, 2s or 1m30s",
    Unit.SIZE: "a size such as 64MiB or 10MB",
    Unit.PERCENT: "a percentage such as 50%",
    Unit.RATE: "a rate such as 10MiB/s",
    Unit.NUMBER: "a number",
    Unit.TEXT: "text",
    Unit.REGEX: "a regular expression",
    Unit.JSONPATH: "a JSON path such as $.queue.length",
    Unit.COMMAND: "a command, or a list of its words",
}
"""What an error says was expected."""

ENDING: Mapping[Unit, str] = {
    Unit.DURATION: "s",
    Unit.SIZE: "MiB",
    Unit.PERCENT: "%",
    Unit.RATE: "MiB/s",
}
"""The ending that an error proposes to somebody who wrote a bare number."""

_N = r"[0-9]+(?:\.[0-9]+)?"
_SIZE = rf"({_N}) ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)"
PATTERNS: Mapping[Unit, str] = {
    Unit.DURATION: rf"(?=[0-9])(?:({_N})d)?(?:({_N})h)?(?:({_N})m)?(?:({_N})s)?(?:({_N})ms)?"
    rf"(?:({_N})us)?",
    Unit.SIZE: _SIZE,
    Unit.PERCENT: rf"({_N}) ?%",
    Unit.RATE: _SIZE + "/s",
}
"""How each quantity is written, as a regular expression that the whole text matches."""

_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6)
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_CENTURY = 100 * 365 * 86400.0
"""Seconds that nobody waits longer than; the system's clocks would overflow."""
_MOST = 100
"""Characters of a quantity; more digits than that are a mistake, and would overflow."""


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `2s`, `1m30s`, larger units first. Raises ValueError, saying what was
    expected."""
    parts = _match(text, Unit.DURATION).groups()
    found = (float(part) * seconds for part, seconds in zip(parts, _SECONDS, strict=True) if part)
    return min(sum(found), _CENTURY)


def parse_size(text: str) -> int:
    """Bytes from `64MiB`, `10MB`. Raises ValueError, saying what was expected."""
    number, unit = _match(text, Unit.SIZE).groups()
    return round(float(number) * _BYTES[unit])


def parse_percent(text: str) -> float:
    """A fraction from `1%`, `99.9%`. Raises ValueError, saying what was expected."""
    return float(_match(text, Unit.PERCENT)[1]) / 100


def parse_rate(text: str) -> float:
    """Bytes a second from `10MiB/s`. Raises ValueError, saying what was expected."""
    number, unit = _match(text, Unit.RATE).groups()
    return float(round(float(number) * _BYTES[unit]))


PARSERS: Mapping[Unit, Callable[[str], int | float]] = {
    Unit.DURATION: parse_duration,
    Unit.SIZE: parse_size,
    Unit.PERCENT: parse_percent,
    Unit.RATE: parse_rate,
}


def _match(text: str, unit: Unit) -> re.Match[str]:
    found = re.fullmatch(PATTERNS[unit], text) if len(text) <= _MOST else None
    if found is None:
        raise ValueError(f"expected {WANTED[unit]}, found {text!r}")
    return found


def show_duration(seconds: float) -> str:
    """A duration as a person writes it: `500ms`, `2.5s`, `1m30s`."""
    if seconds < 0:
        return "-" + show_duration(-seconds)
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us" if seconds else "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{n}{unit}" for n, unit in parts if n)


def show_size(size: float) -> str:
    """A size as a person writes it: `640B`, `1.5MiB`."""
    if size < 1024:
        return f"{size:.0f}B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f}".rstrip("0").rstrip(".") + unit
    return f"{size / 1024:.1f}".rstrip("0").rstrip(".") + "TiB"


def show_percent(fraction: float) -> str:
    """A fraction as a percentage: `1%`, `99.95%`."""
    return f"{fraction * 100:.2f}".rstrip("0").rstrip(".") + "%"


def show(value: Json, unit: Unit) -> str:
    """Any reading in its unit, for people; text is cut to one line of 80 characters."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int | float):
        match unit:
            case Unit.DURATION:
                return show_duration(value)
            case Unit.SIZE:
                return show_size(value)
            case Unit.PERCENT:
                return show_percent(value)
            case Unit.RATE:
                return show_size(value) + "/s"
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 80 else text[:77] + "...")
