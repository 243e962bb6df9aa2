"""From nodes to typed values: a dataclass's annotations say what its keys are and may hold.

The same annotations make the JSON Schema (see `schema`), so neither can drift from the other.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from chaoskit.errors import Problem
from chaoskit.model.experiment import Position
from chaoskit.model.units import (
    Share,
    Unit,
    parse_duration,
    parse_percent,
    parse_rate,
    parse_size,
)
from chaoskit.spec.tree import Entry, Node

INVALID: Any = object()
"""What decoding gives for a value that is wrong; the problem has been reported."""

_PARSERS = {
    Unit.DURATION: (parse_duration, "a duration such as 500ms, 2s or 1m30s"),
    Unit.SIZE: (parse_size, "a size such as 64MiB"),
    Unit.PERCENT: (parse_percent, "a percentage such as 50%"),
    Unit.RATE: (parse_rate, "a rate such as 10MiB/s"),
}


class Problems:
    """Collects everything that is wrong."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, where: Position, message: str) -> Any:
        self.found.append(Problem(where.file, where.line, where.column, message))
        return INVALID


def suggest(word: str, known: Collection[str]) -> str:
    """` (did you mean 'x'?)`, or nothing when no word is near."""
    near = difflib.get_close_matches(word, [str(k) for k in known], 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def key_of(field: Field[Any]) -> str:
    """The key in the file for a dataclass's field."""
    return str(field.metadata.get("key") or field.name.rstrip("_").replace("_", "-"))


@cache
def keys_of(kind: type) -> dict[str, tuple[Field[Any], Any]]:
    """Every key of a dataclass with its field and annotation."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        key_of(field): (field, hints[field.name])
        for field in fields(kind)
        if field.init and not field.metadata.get("internal")
    }


def required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def members(annotation: Any) -> list[Any]:
    """The kinds that a union allows, None left out; any other annotation alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for kind in get_args(annotation) if kind is not type(None)]
    return [annotation]


def unit_of(annotation: Any) -> Unit | None:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Unit):
            return extra
    return None


def describe(annotation: Any) -> str:
    """What is expected, for messages: `a duration such as 500ms, 2s or 1m30s`."""
    kinds = members(annotation)
    if len(kinds) > 1:
        return " or ".join(dict.fromkeys(describe(kind) for kind in kinds))
    (kind,) = kinds
    if (unit := unit_of(kind)) in _PARSERS:
        assert unit is not None
        return _PARSERS[unit][1]
    if unit is not None:
        return {
            Unit.REGEX: "a regular expression",
            Unit.COMMAND: "a command: a text for sh, or a list of words",
            Unit.JSONPATH: "a JSON path",
        }.get(unit, "a text")
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list of: {describe(get_args(kind)[0])}"
    if is_dataclass(kind) or get_origin(kind) in (dict, Mapping) or kind is Mapping:
        return "a mapping"
    return {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }.get(kind, "a mapping")


def decode(node: Node, annotation: Any, problems: Problems) -> Any:
    """The value that the annotation asks for, or INVALID with the problem reported."""
    kinds = members(annotation)
    if len(kinds) == 1:
        return _decode_one(node, kinds[0], problems)
    for kind in kinds:
        attempt = Problems()
        value = _decode_one(node, kind, attempt)
        if value is not INVALID:
            shared = unit_of(kind) is Unit.PERCENT
            return Share(value) if shared else value
        if not _wrong_kind(node, kind, attempt):
            problems.found += attempt.found
            return INVALID
    return problems.add(node.where, f"expected {describe(annotation)}, found {node.kind}")


def _wrong_kind(node: Node, kind: Any, attempt: Problems) -> bool:
    """Whether a union's other members may still fit: the value as a whole was not of this kind."""
    return (
        len(attempt.found) == 1
        and attempt.found[0].message.startswith(("expected", "a bare number"))
        and (attempt.found[0].line, attempt.found[0].column) == (node.where.line, node.where.column)
    )


def _decode_one(node: Node, kind: Any, problems: Problems) -> Any:
    value = node.value
    unit = unit_of(kind)
    if unit is not None:
        return _decode_unit(node, unit, problems)
    origin = get_origin(kind)
    wrong = f"expected {describe(kind)}, found {node.kind}"
    if origin is Literal:
        words = get_args(kind)
        if value in words and type(value) in {type(word) for word in words}:
            return value
        return problems.add(node.where, wrong + suggest(str(value), words))
    if origin is tuple:
        if not isinstance(value, list):
            return problems.add(node.where, wrong)
        items = [decode(item, get_args(kind)[0], problems) for item in value]
        return INVALID if any(item is INVALID for item in items) else tuple(items)
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            return problems.add(node.where, wrong)
        return decode_mapping(value, kind, node.where, problems)
    if origin is not None and issubclass(origin, Mapping):
        return _decode_texts(node, wrong, problems)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else problems.add(node.where, wrong)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    hint = "; put it in quotes" if kind is str and isinstance(value, int | float) else ""
    if kind is float and isinstance(value, str) and value.endswith("%"):
        hint = "; write 0.5, not 50%"
    return problems.add(node.where, wrong + hint)


def _decode_unit(node: Node, unit: Unit, problems: Problems) -> Any:
    value = node.value
    if unit in _PARSERS:
        parser, expected = _PARSERS[unit]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return problems.add(
                node.where, f"a bare number has no unit; expected {expected}, found {node.raw}"
            )
        if not isinstance(value, str):
            return problems.add(node.where, f"expected {expected}, found {node.kind}")
        try:
            return parser(value)
        except ValueError as error:
            return problems.add(node.where, str(error))
    if unit is Unit.COMMAND:
        return _decode_command(node, problems)
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, int | float) else ""
        return problems.add(node.where, f"expected a text, found {node.kind}{hint}")
    if unit is Unit.REGEX:
        try:
            re.compile(value)
        except re.error as error:
            return problems.add(node.where, f"{value!r} is no regular expression: {error}")
    return value


def _decode_command(node: Node, problems: Problems) -> Any:
    words = node.value if isinstance(node.value, list) else [node]
    for word in words:
        if word.secrets:
            name = word.secrets[0]
            return problems.add(
                word.where,
                f"the secret ${{{name}}} may not stand in a command, where `ps` shows it; the "
                f"command finds it in its environment as ${name}",
            )
        if not isinstance(word.value, str):
            hint = "; put it in quotes" if isinstance(word.value, int | float) else ""
            return problems.add(word.where, f"expected a text, found {word.kind}{hint}")
        if "\0" in word.value:
            return problems.add(word.where, "a command cannot hold the character U+0000")
    if not words or not words[0].value.strip():
        return problems.add(node.where, "the command is empty")
    return tuple(w.value for w in words) if isinstance(node.value, list) else node.value


def _decode_texts(node: Node, wrong: str, problems: Problems) -> Any:
    if not isinstance(node.value, dict):
        return problems.add(node.where, wrong)
    texts = {}
    for key, entry in node.value.items():
        value = entry.node.value
        if isinstance(value, dict | list) or value is None:
            problems.add(entry.node.where, f"expected a text, found {entry.node.kind}")
        else:
            texts[key] = value if isinstance(value, str) else entry.node.raw
    return texts


def decode_mapping(
    entries: Mapping[str, Entry],
    kind: type,
    where: Position,
    problems: Problems,
    also: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Any:
    """A dataclass of that kind from the entries of a mapping.

    where: of the mapping, for what is missing. also: keys that somebody else reads. more: fields
    that are no keys of the file. Reports unknown and missing keys and what `problems()` says.
    """
    known = keys_of(kind)
    values: dict[str, Any] = dict(more or {})
    sound = True
    for key, entry in entries.items():
        if key in also:
            continue
        if key not in known:
            sound = False
            every = [*known, *also]
            problems.add(entry.where, f"unknown key {key!r}{suggest(key, every)}")
            continue
        field, annotation = known[key]
        if entry.node.value is None and not required(field):
            sound = False
            problems.add(entry.where, f"{key} has no value; leave the key out instead")
            continue
        value = decode(entry.node, annotation, problems)
        sound = sound and value is not INVALID
        values[field.name] = value
    for key, (field, annotation) in known.items():
        if required(field) and key not in entries:
            sound = False
            problems.add(where, f"missing key {key!r}: {describe(annotation)}")
    if not sound:
        return INVALID
    made = kind(**values)
    for key, message in _cross_problems(made):
        entry_at = entries.get(key)
        problems.add(entry_at.node.where if entry_at else where, message)
        sound = False
    return made if sound else INVALID


def _cross_problems(made: Any) -> Iterator[tuple[str, str]]:
    check = getattr(made, "problems", None)
    if callable(check):
        yield from check()
