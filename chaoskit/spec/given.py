"""Variables: declared in the file, given from outside, put in where `${NAME}` stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from chaoskit.errors import InputError, Problem
from chaoskit.model.experiment import Variable
from chaoskit.spec.nodes import Listing, Node, Scalar, Table, describe, resolve, unusable
from chaoskit.spec.problems import At, Problems, meant, quoted

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_USE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_KEYS = ("default", "secret", "description")


class Declaration:
    """One variable as the file declares it; default: None when it has none."""

    __slots__ = ("at", "default", "secret", "used", "value")

    def __init__(self, at: At) -> None:
        self.at = at
        self.default: str | None = None
        self.secret = False
        self.value: str | None = None
        self.used = False


class Variables:
    """The variables of one file, with their values for this run."""

    def __init__(self, root: Table, problems: Problems) -> None:
        self._problems = problems
        self._declared: dict[str, Declaration] = {}
        entry = root.entries.get("variables")
        if entry is None:
            return
        if not isinstance(entry.node, Table):
            told = f"expected a mapping of names, found {describe(entry.node)}"
            problems.add(entry.node.at, told)
            return
        for name, (at, node) in entry.node.entries.items():
            if not re.fullmatch(NAME, name):
                problems.add(at, f"{quoted(name)} is no name of a variable: letters, digits and _")
            # Declared all the same, so that its uses are no second complaint.
            self._declared[name] = self._declaration(at, node)

    def give(self, layers: list[Mapping[str, str]]) -> None:
        """Set the values from outside; the first layer that has a variable wins."""
        for name, declared in self._declared.items():
            declared.value = next((layer[name] for layer in layers if name in layer), None)
            if declared.value is None:
                declared.value = declared.default
            elif bad := unusable(declared.value):
                told = f"the value given for {name} holds the character {bad}"
                self._problems.add(declared.at, told)
                declared.value = ""

    def unknown(self, given: Mapping[str, str]) -> list[Problem | str]:
        """A complaint about each that is given by hand and that the file does not declare."""
        return [
            f"--var {name}: {self._problems.file} declares no such variable"
            + meant(name, self._declared)
            for name in given
            if name not in self._declared
        ]

    def put_in(self, root: Table) -> None:
        """Put the values in wherever they are used, and tell all that are missing."""
        seen: set[int] = set()
        for key, entry in root.entries.items():
            if key != "variables":
                for scalar in _scalars(entry.node, seen):
                    if isinstance(scalar.value, str) and "${" in scalar.value:
                        self._put_in(scalar)
        for name, declared in self._declared.items():
            if declared.value is None and not declared.used:
                self._problems.add(declared.at, _missing(name))

    def secrets(self) -> dict[str, str]:
        """The values that must never be shown, by name."""
        return {n: d.value for n, d in self._declared.items() if d.secret and d.value}

    def resolved(self) -> tuple[Variable, ...]:
        return tuple(
            Variable(name, declared.value, declared.secret)
            for name, declared in self._declared.items()
            if declared.value is not None
        )

    def document(self) -> dict[str, Any]:
        """As a file would declare them to get the same values; secrets without theirs."""
        return {
            name: {"secret": True} if d.secret else {"default": _literal(d.value or "")}
            for name, d in self._declared.items()
        }

    def _declaration(self, at: At, node: Node) -> Declaration:
        declared = Declaration(at)
        if isinstance(node, Scalar):
            self._default(declared, node)
            return declared
        if isinstance(node, Listing):
            self._problems.add(node.at, f"expected a default, or {', '.join(_KEYS)}, found a list")
            return declared
        for key, entry in node.entries.items():
            inner = entry.node
            if key == "default" and isinstance(inner, Scalar):
                self._default(declared, inner)
            elif key == "default":
                self._problems.add(inner.at, f"expected text or a number, found {describe(inner)}")
            elif key == "secret" and isinstance(inner, Scalar) and isinstance(inner.value, bool):
                declared.secret = inner.value
            elif key == "secret":
                self._problems.add(inner.at, "expected true or false")
            elif key == "description":
                if not isinstance(inner, Scalar) or not isinstance(inner.value, str):
                    self._problems.add(inner.at, f"expected text, found {describe(inner)}")
            else:
                self._problems.add(entry.at, f"unknown key {quoted(key)}{meant(key, _KEYS)}")
        if "secret" in node.entries and declared.secret and declared.default is not None:
            told = "a secret has no default in the file: give it by the environment or --var-file"
            self._problems.add(node.entries["default"].node.at, told)
        return declared

    def _default(self, declared: Declaration, node: Scalar) -> None:
        if node.value is None:
            return
        for found in _USE.finditer(node.text):
            if found[0] != "$${":
                self._problems.add(node.at, "a default cannot use variables; write $${ for ${")
                break
        declared.default = node.text.replace("$${", "${")

    def _put_in(self, scalar: Scalar) -> None:
        text = scalar.text
        whole = re.fullmatch(r"\$\{(" + NAME + r")\}", text)
        uses = [use for use in _USE.finditer(text) if use[0] != "$${"]
        if [use for use in uses if not self._known(scalar, use)]:  # All of them are told.
            scalar.broken = True
            return
        scalar.secrets = tuple(dict.fromkeys(u[1] for u in uses if self._declared[u[1]].secret))
        scalar.text = _USE.sub(lambda use: self._value(use[1]) if use[1] else "${", text)
        scalar.shown = _USE.sub(self._shown, text)
        scalar.loose = whole is not None
        reread = whole is not None and not scalar.secrets
        scalar.value = resolve(scalar.text) if reread else scalar.text

    def _known(self, scalar: Scalar, use: re.Match[str]) -> bool:
        """Whether that use has a value; what is wrong with it is told otherwise."""
        name = use[1]
        if not re.fullmatch(NAME, name) or not use[0].endswith("}"):
            told = f"{quoted(use[0])} is no use of a variable; for a literal ${{ write $${{"
        elif name not in self._declared:
            told = f"no variable {name} is declared under `variables`"
            told += meant(name, self._declared)
        else:
            self._declared[name].used = True
            if self._declared[name].value is not None:
                return True
            told = _missing(name)
        self._problems.add(scalar.at, told)
        return False

    def _value(self, name: str) -> str:
        return self._declared[name].value or ""

    def _shown(self, use: re.Match[str]) -> str:
        if not use[1]:
            return "$${"
        return use[0] if self._declared[use[1]].secret else _literal(self._value(use[1]))


def _literal(text: str) -> str:
    return text.replace("${", "$${")


def _missing(name: str) -> str:
    return f"the variable {name} has no value: give it by --var, --var-file or the environment"


def _scalars(node: Node, seen: set[int]) -> Iterator[Scalar]:
    """Every scalar below, once: an alias is the same one again."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Listing):
        for item in node.items:
            yield from _scalars(item, seen)
    else:
        for entry in node.entries.values():
            yield from _scalars(entry.node, seen)


def read_file(text: str, name: str) -> dict[str, str]:
    """A file of variables: YAML or JSON by its ending, else lines of NAME=value. Raises InputError,
    which never repeats what may be a secret."""
    if name.endswith((".yaml", ".yml", ".json")):
        return _tree_file(text, name)
    problems = Problems(name)
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip().removeprefix("export ").lstrip()
        if not bare or bare.startswith("#"):
            continue
        key, equals, value = bare.partition("=")
        if not equals or not re.fullmatch(NAME, key.strip()):
            problems.add((number, 1), "expected NAME=value")
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[key.strip()] = value
    if problems:
        raise InputError(problems.listed())
    return found


def _tree_file(text: str, name: str) -> dict[str, str]:
    from chaoskit.spec.yaml_reader import read_tree

    problems = Problems(name)
    root = read_tree(text, problems)
    found: dict[str, str] = {}
    if not isinstance(root, Table):
        problems.stop(root.at, "expected a mapping of names to values")
    for key, (_, node) in root.entries.items():
        if isinstance(node, Scalar) and node.value is not None:
            found[key] = node.text
        else:
            problems.add(node.at, f"the value of {quoted(key)} is neither text nor a number")
    if problems:
        raise InputError(problems.listed())
    return found
