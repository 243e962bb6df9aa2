"""The way out to people: it never raises, so that a closed pipe or a full disk changes no verdict,
and no text from outside (the name of a process, an answer of a server) steers the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

_STEERING = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    """The text on one line, with everything that steers a terminal shown as `\\x1b`."""
    flat = re.sub(r"[ \t]*[\r\n]+[ \t]*", " ", str(text)).replace("\t", " ")
    return _STEERING.sub(_escape, flat)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def forgiving() -> None:
    """Let the standard streams show what their encoding cannot, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors="backslashreplace")


def say(lines: str | Iterable[str] = "") -> None:
    """Print a line, or several, to stdout at once."""
    _write(sys.stdout, lines)


def tell(lines: str | Iterable[str]) -> None:
    """Print a line, or several, to stderr: for what is not the answer to the command."""
    _write(sys.stderr, lines)


def dumps(document: Mapping[str, Any]) -> str:
    """The document as JSON that any encoding can carry and any reader reads."""
    try:
        return json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), indent=2)


def say_json(document: Mapping[str, Any]) -> None:
    """Print the document to stdout."""
    say(dumps(document))


def _finite(value: Any) -> Any:
    """JSON knows neither infinity nor NaN: they become null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value


def _write(stream: TextIO | None, lines: str | Iterable[str]) -> None:
    if stream is None:  # Started with the descriptor closed (`>&-`).
        return
    text = lines if isinstance(lines, str) else "\n".join(lines)
    try:
        stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError) as error:
        _silence(stream)
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            tell(f"chaoskit: the output cannot be written: {error}")


def _silence(stream: TextIO) -> None:
    """What could not be written stays in the buffer and would fail again at the very end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def colours(stream: TextIO | None) -> bool:
    """Whether colours may be used on it: a terminal that has them, and no NO_COLOR."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR")


def on_terminal(stream: TextIO | None) -> bool:
    """Whether it is a terminal that can do more than print lines."""
    try:
        return (
            stream is not None
            and stream.isatty()
            and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        )
    except ValueError:
        return False


def width(stream: TextIO | None) -> int | None:
    """Columns of the terminal; None when it is none, and nothing is folded."""
    try:
        if stream is None or not stream.isatty():
            return None
        # Serial lines and some CI runners say that they have no columns at all.
        return max(20, os.get_terminal_size(stream.fileno()).columns or 80)
    except (OSError, ValueError):
        return None
