"""From a tree to values, by the annotations of frozen dataclasses; tells all that does not fit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from chaoskit.model.experiment import Position
from chaoskit.model.units import PARSERS, WANTED, Share, Unit, show
from chaoskit.spec.declared import Declared, declared, options, position_fields, unit_of
from chaoskit.spec.nodes import Entry, Listing, Node, Scalar, Table, describe
from chaoskit.spec.patterns import json_path_problem, regex_problem
from chaoskit.spec.problems import Problems, meant, quoted
from chaoskit.spec.wording import ending, shape, wanted

T = TypeVar("T")


class _Bad:
    """What stands for a value that could not be had; why has been told."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Any = _Bad()


class Decoder:
    """Decodes the parts of one file."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def where(self, node: Node) -> Position:
        return Position(self.problems.file, *node.at)

    def value(self, hint: Any, node: Node) -> Any:
        """The node as what the annotation says, or BAD."""
        if isinstance(node, Scalar) and node.broken:
            return BAD
        choices = options(hint)
        if len(choices) > 1:
            return self._union(choices, node)
        hint = choices[0]
        unit = unit_of(hint)
        if hint is Share:
            return self._quantity(Unit.PERCENT, node, Share)
        if unit is not None and unit in PARSERS:
            return self._quantity(unit, node)
        if unit is Unit.COMMAND:
            return self._command(node)
        if unit in (Unit.REGEX, Unit.JSONPATH):
            return self._pattern(unit, node)
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        if get_origin(hint) is Literal:
            return self._literal(get_args(hint), node)
        if get_origin(hint) is tuple:
            return self._tuple(get_args(hint)[0], node)
        if is_dataclass(hint) and isinstance(hint, type):
            return self.fields(hint, node)
        if isinstance(origin := get_origin(hint), type) and issubclass(origin, Mapping):
            return self._mapping(get_args(hint)[1], node)
        return self._simple(hint, node)

    def fields(
        self, kind: type[T], node: Node, beside: Collection[str] = (), **given: Any
    ) -> T | Any:
        """A dataclass of that kind from a mapping, or BAD.

        beside: keys in the mapping that are somebody else's. given: fields that the file has not.
        """
        if isinstance(node, Scalar) and node.broken:
            return BAD
        if not isinstance(node, Table):
            return self.wrong(node, "a mapping of keys to values")
        keys = {item.key: item for item in declared(kind)}
        sound = self.unknown(node, [*keys, *beside])
        values: dict[str, Any] = dict(given)
        for item in keys.values():
            if item.name in given:
                continue
            if entry := node.entries.get(item.key):
                values[item.name] = self._field(item, entry)
            elif item.required:
                self.problems.add(node.at, f"the key {item.key!r} is missing")
                values[item.name] = BAD
            else:
                values[item.name] = item.default
        for name in position_fields(kind):
            values.setdefault(name, self.where(node))
        if not sound:
            return BAD
        if any(value is BAD for value in values.values()):
            self._also(kind, values, node)
            return BAD
        return self._made(kind, values, node)

    def unknown(self, node: Table, known: Collection[str]) -> bool:
        """Tell each key that is none of the known ones; whether there was none."""
        before = len(self.problems)
        for key, entry in node.entries.items():
            if key not in known:
                like = meant(key, known)
                told = "" if like else f"; there are: {', '.join(known) or 'none'}"
                self.problems.add(entry.at, f"unknown key {quoted(key)}{told}{like}")
        return len(self.problems) == before

    def text(self, node: Node) -> Any:
        """Text that is shown everywhere, so not empty and without secrets; or BAD."""
        value = self._simple(str, node)
        if value is not BAD and isinstance(node, Scalar):
            if node.secrets:
                return self._seen(node)
            if not value.strip():
                return self.bad(node, "is empty")
        return value

    def _seen(self, node: Scalar) -> Any:
        return self.bad(node, f"the secret {node.secrets[0]} would be shown here")

    def wrong(self, node: Node, wanted: str, more: str = "") -> Any:
        return self.bad(node, f"expected {wanted}, found {describe(node)}{more}")

    def bad(self, node: Node, message: str) -> Any:
        self.problems.add(node.at, message)
        return BAD

    def _field(self, item: Declared, entry: Entry) -> Any:
        value = self.value(item.hint, entry.node)
        if item.seen and value is not BAD and isinstance(entry.node, Scalar) and entry.node.secrets:
            return self._seen(entry.node)
        if value is BAD or not item.limits:
            return value
        number = value.fraction if isinstance(value, Share) else value
        if not isinstance(number, int | float):
            return value
        unit = next((unit for o in options(item.hint) if (unit := unit_of(o))), Unit.NUMBER)
        low, high = item.limits.get("min"), item.limits.get("max")
        above = item.limits.get("above")
        shown = describe(entry.node)
        if above is not None and number <= above:
            return self.bad(entry.node, f"must be above {_limit(above, unit)}, found {shown}")
        if low is not None and number < low:
            return self.bad(entry.node, f"must be {_limit(low, unit)} or more, found {shown}")
        if high is not None and number > high:
            return self.bad(entry.node, f"must be {_limit(high, unit)} or less, found {shown}")
        return value

    def _made(self, kind: type[T], values: Mapping[str, Any], node: Table) -> T | Any:
        try:
            made = kind(**values)
        except (TypeError, ValueError) as error:
            return self.bad(node, str(error))
        found: list[tuple[str, str]] = getattr(made, "problems", list)()
        self._tell(kind, found, node)
        return BAD if found else made

    def _also(self, kind: type[Any], values: Mapping[str, Any], node: Table) -> None:
        """What else is wrong beside the fields that could not be had, as far as it can be told
        without them; so that mending those brings no new complaint."""
        with contextlib.suppress(Exception):  # It stumbled over what is missing.
            found: list[tuple[str, str]] = getattr(kind(**values), "problems", list)()
            self._tell(kind, [p for p in found if values.get(p[0]) is not BAD], node)

    def _tell(self, kind: type[Any], found: Iterable[tuple[str, str]], node: Table) -> None:
        for name, message in found:
            key = name.rstrip("_").replace("_", "-")
            key = next((d.key for d in declared(kind) if d.name == name), key)
            at = node.entries[key].node.at if key in node.entries else node.at
            self.problems.add(at, message)

    def _union(self, choices: tuple[Any, ...], node: Node) -> Any:
        if type(None) in choices and isinstance(node, Scalar) and node.value is None:
            return None
        choices = tuple(choice for choice in choices if choice is not type(None))
        if len(choices) == 1:
            return self.value(choices[0], node)
        # Plain text fits nearly everything: it is tried last.
        for choice in sorted(choices, key=lambda choice: choice is str):
            tried = Problems(self.problems.file)
            value = Decoder(tried).value(choice, node)
            if value is not BAD:
                return value
        fitting = [choice for choice in choices if shape(choice) is type(node)]
        if len(fitting) == 1:
            return self.value(fitting[0], node)
        units = [
            unit_of(choice) or (Unit.PERCENT if choice is Share else None) for choice in choices
        ]
        return self.wrong(node, " or ".join(map(wanted, choices)), ending(node, units))

    def _quantity(self, unit: Unit, node: Node, made: Any = lambda value: value) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            try:
                return made(PARSERS[unit](node.value))
            except ValueError:
                pass  # Its message repeats the value, which may be a secret.
        return self.wrong(node, WANTED[unit], ending(node, [unit]))

    def _command(self, node: Node) -> Any:
        words = node.items if isinstance(node, Listing) else [node]
        texts = [self._simple(str, word, WANTED[Unit.COMMAND]) for word in words]
        for word in words:
            if isinstance(word, Scalar) and word.secrets and not word.broken:
                self.bad(
                    word,
                    f"the secret {word.secrets[0]} may not stand in a command, where others can "
                    f"see it: the command finds it in its environment, as ${word.secrets[0]}",
                )
                return BAD
        if BAD in texts:
            return BAD
        if not texts or not texts[0].strip():
            return self.bad(node, f"expected {WANTED[Unit.COMMAND]}, found none")
        return tuple(texts) if isinstance(node, Listing) else texts[0]

    def _pattern(self, unit: Unit, node: Node) -> Any:
        text = self._simple(str, node, WANTED[unit])
        if text is BAD or not isinstance(node, Scalar):
            return BAD
        told = regex_problem(text) if unit is Unit.REGEX else json_path_problem(text)
        if not told:
            return text
        why = "" if node.secrets else f": {told}"
        return self.bad(node, f"{quoted(node.shown)} is no {unit.value}{why}")

    def _literal(self, words: tuple[Any, ...], node: Node) -> Any:
        if isinstance(node, Scalar):
            for word in words:
                if (type(word) is type(node.value) and word == node.value) or word == node.text:
                    return word
        like = ""
        if isinstance(node, Scalar) and not node.secrets:
            like = meant(node.text, [word for word in words if isinstance(word, str)])
        return self.wrong(node, wanted(Literal[words]), like)

    def _tuple(self, hint: Any, node: Node) -> Any:
        if not isinstance(node, Listing):
            return self.wrong(node, f"a list of {wanted(hint)}", "; write [...]")
        found = tuple(self.value(hint, item) for item in node.items)
        return BAD if any(item is BAD for item in found) else found

    def _mapping(self, hint: Any, node: Node) -> Any:
        if not isinstance(node, Table):
            return self.wrong(node, f"a mapping of names to {wanted(hint)}")
        found = {key: self.value(hint, entry.node) for key, entry in node.entries.items()}
        return BAD if any(item is BAD for item in found.values()) else found

    def _simple(self, kind: Any, node: Node, what: str = "") -> Any:
        if isinstance(node, Scalar) and node.broken:
            return BAD
        value = node.value if isinstance(node, Scalar) else node
        if kind is Any and isinstance(node, Scalar):
            return value if _finite(value) else self.wrong(node, "a finite number")
        if kind is str and isinstance(node, Scalar):
            if isinstance(value, str) or node.loose:
                node.value = node.text  # In the resolved document too it is text.
                return node.text
            if value is not None:
                return self.wrong(node, what or "text", f'; write "{node.shown}"')
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return value if _finite(value) else self.wrong(node, "a finite number")
        return self.wrong(node, what or wanted(kind))


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _limit(value: float, unit: Unit) -> str:
    return show(value, unit)
