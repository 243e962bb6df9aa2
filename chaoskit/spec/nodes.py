"""A file as a tree whose every part knows where it stands."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple, TypeAlias

from chaoskit.spec.problems import At, Problems, quoted

MOST_DEPTH = 64
MOST_VALUES = 100_000
"""Values in a file, each alias counted as what it stands for."""


class Scalar:
    """One value. text: as written, without its quotes. value: by the YAML 1.2 core schema.

    shown: the text with `${NAME}` for secrets. secrets: their names. loose: the whole of it is one
    variable, so its text will do where a text is wanted and its value where anything else is.
    broken: what is wrong with it has been told; nothing more is to be said of it.
    """

    __slots__ = ("at", "broken", "loose", "secrets", "shown", "text", "value")
    values = 1
    depth = 0

    def __init__(self, at: At, text: str, value: Any) -> None:
        self.at = at
        self.text = text
        self.value = value
        self.shown = text
        self.secrets: tuple[str, ...] = ()
        self.loose = False
        self.broken = False


class Listing:
    """A list. values: how many there are in it, itself included; depth: of lists and mappings."""

    __slots__ = ("at", "depth", "items", "values")

    def __init__(self, at: At) -> None:
        self.at = at
        self.items: list[Node] = []
        self.values = 1
        self.depth = 1


class Entry(NamedTuple):
    """at: where the key stands."""

    at: At
    node: Node


class Table:
    """A mapping. values and depth as of a Listing."""

    __slots__ = ("at", "depth", "entries", "values")

    def __init__(self, at: At) -> None:
        self.at = at
        self.entries: dict[str, Entry] = {}
        self.values = 1
        self.depth = 1


Node: TypeAlias = Scalar | Listing | Table

_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_FIRST = frozenset("+-.0123456789")
_MOST_DIGITS = 100
"""Longer ones stay text: no quantity has as many, and turning them into numbers takes time."""


def resolve(text: str) -> Any:
    """What a plain scalar is by the YAML 1.2 core schema. Numbers with a leading zero stay text,
    since they are one thing in YAML 1.1 and another in 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST or len(text) > _MOST_DIGITS:
        return text
    if re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", text):
        return int(text)
    if re.fullmatch(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"0o[0-7]+|0x[0-9a-fA-F]+", text):
        return int(text, 0)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)", text):
        return -math.inf if text[0] == "-" else math.inf
    return math.nan if text in (".nan", ".NaN", ".NAN") else text


def make_scalar(at: At, text: str, plain: bool, problems: Problems) -> Scalar:
    """A scalar of that text, quoted or plain. What an escape may say and no file, argument or
    report can hold (NUL, half a character) is told."""
    if bad := unusable(text):
        problems.add(at, f"the character {bad} cannot stand in a value")
        text = ""
    scalar = Scalar(at, text, resolve(text) if plain else text)
    scalar.broken = bool(bad)
    return scalar


def unusable(text: str) -> str:
    """The first character that no argument, file or report can hold, as U+0000; or ""."""
    if text.isascii():
        return "U+0000" if "\0" in text else ""
    return next((f"U+{ord(c):04X}" for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), "")


def grow(parent: Listing | Table, child: Node, problems: Problems, at: At) -> None:
    """Count a child into its parent. Raises InputError when the file expands to too much."""
    parent.values += child.values
    parent.depth = max(parent.depth, child.depth + 1)
    if parent.values > MOST_VALUES:
        problems.stop(at, f"the file stands for more than {MOST_VALUES} values")


def add_entry(table: Table, key: str, at: At, node: Node, problems: Problems) -> None:
    """Put an entry in, unless its key is there already."""
    if not key.strip():
        problems.add(at, "a key is empty")
    elif before := table.entries.get(key):
        line, column = before.at
        problems.add(at, f"the key {quoted(key)} is there already, at {line}:{column}")
    else:
        table.entries[key] = Entry(at, node)


def describe(node: Node) -> str:
    """What was found, for messages; never a secret."""
    if isinstance(node, Listing):
        return "a list" if node.items else "an empty list"
    if isinstance(node, Table):
        return "a mapping" if node.entries else "an empty mapping"
    if isinstance(node.value, str):
        return quoted(node.shown)
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return f"the number {node.shown}"


def plain(node: Node) -> Any:
    """The tree as JSON that loads to the same again: secrets as `${NAME}`, a literal `${` as
    `$${`."""
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    if isinstance(node, Table):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    return node.shown if isinstance(node.value, str) else node.value
