"""Quantities with their units: how they are written, what they are inside, how they are printed.

Inside, a Duration is seconds, a Size bytes, a Percent a fraction of 1 and a Rate bytes a second.
The aliases below are what a fault, a target or a probe annotates its fields with: the loader
reads the unit from the alias, and so does the JSON Schema.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


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


Duration = Annotated[float, Unit.DURATION]
Size = Annotated[int, Unit.SIZE]
Percent = Annotated[float, Unit.PERCENT]
Rate = Annotated[float, Unit.RATE]
Regex = Annotated[str, Unit.REGEX]
JsonPath = Annotated[str, Unit.JSONPATH]
Command = Annotated[str | tuple[str, ...], Unit.COMMAND]
"""A string, run by `sh -c`, or a list, run as it is. Secrets come in its environment only."""

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION_PART = re.compile(_NUMBER + r"(us|ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:us|ms|s|m|h|d))+")
_SIZE = re.compile(_NUMBER + r" ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_PERCENT = re.compile(_NUMBER + r" ?%")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
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


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `2s`, `1m30s`. Raises ValueError, saying what was expected."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 500ms, 2s or 1m30s, found {text!r}")
    return sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))


def parse_size(text: str) -> int:
    """Bytes from `64MiB`, `10MB`. Raises ValueError, saying what was expected."""
    if not (match := _SIZE.fullmatch(text)):
        raise ValueError(f"expected a size such as 64MiB or 10MB, found {text!r}")
    return round(float(match[1]) * _BYTES[match[2]])


def parse_percent(text: str) -> float:
    """A fraction from `1%`, `99.9%`. Raises ValueError, saying what was expected."""
    if not (match := _PERCENT.fullmatch(text)):
        raise ValueError(f"expected a percentage such as 50%, found {text!r}")
    return float(match[1]) / 100


def parse_rate(text: str) -> float:
    """Bytes a second from `10MiB/s`. Raises ValueError, saying what was expected."""
    if not text.endswith("/s"):
        raise ValueError(f"expected a rate such as 10MiB/s, found {text!r}")
    return float(parse_size(text[:-2].rstrip()))


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
