"""Gathers all that is wrong with one file, each at its place, without ever telling a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeAlias

from chaoskit.errors import InputError, Problem

At: TypeAlias = tuple[int, int]
"""Line and column, from 1."""

START: At = (1, 1)
_BEGIN, _END = "\ue000", "\ue001"
_UNMARKED = dict.fromkeys(map(ord, _BEGIN + _END), "?")
SHOWN = 60
"""Characters of what was found that a message repeats."""


class Problems:
    """What is wrong with one file so far. `redact` is put over every message at the end."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.redact: Callable[[str], str] = str
        self._found: dict[tuple[At, str], None] = {}

    def add(self, at: At, message: str) -> None:
        """Add one; the same at the same place (an alias used twice) counts once."""
        self._found[(at, message)] = None

    def __len__(self) -> int:
        return len(self._found)

    def take(self, other: Problems) -> None:
        """Add all that another one gathered: of something that was only tried."""
        self._found |= other._found

    def listed(self) -> list[Problem]:
        """All of them in the order of the file."""
        return [
            Problem(self.file, *at, _one_line(_unquoted(self.redact(message))))
            for at, message in sorted(self._found)
        ]

    def stop(self, at: At, message: str) -> NoReturn:
        """Add one after which nothing more can be read. Raises InputError."""
        self.add(at, message)
        raise InputError(self.listed())


def meant(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known word that is most like it, or nothing."""
    if len(word) > SHOWN:
        return ""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower().replace("_", "-"), by_lower, 1) or get_close_matches(
        word.lower(), by_lower, 1
    )
    return f" (did you mean {by_lower[found[0]]!r}?)" if found else ""


def quoted(text: str) -> str:
    """Text from the file, for a message. It is cut and put in quotes when the message is told:
    after secrets have been taken out, for half a secret would be found by nobody."""
    return _BEGIN + text.translate(_UNMARKED) + _END


def _unquoted(message: str) -> str:
    if _BEGIN not in message:
        return message
    before, _, rest = message.partition(_BEGIN)
    text, _, after = rest.partition(_END)
    cut = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
    return before + repr(cut) + _unquoted(after)


def _one_line(message: str) -> str:
    return (
        message
        if message.isprintable()
        else "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    )
