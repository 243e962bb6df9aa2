"""Variables: declared in the file, given by --var, --var-file, the environment or a default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaoskit.errors import InputError
from chaoskit.model.experiment import Variable
from chaoskit.spec.tree import Entry, Node, parse, scalar
from chaoskit.spec.values import INVALID, Problems, decode_mapping, suggest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USE = re.compile(r"\$\$\{|\$\{([^}]*)\}")


@dataclass(frozen=True)
class Declaration:
    """What a file says of one of its variables."""

    default: str | int | float | bool | None = field(
        default=None, metadata={"doc": "its value when nobody gives one"}
    )
    secret: bool = field(
        default=False, metadata={"doc": "never printed, journaled or reported; has no default"}
    )
    description: str = ""


def read_var_file(path: Path) -> dict[str, str]:
    """Names and values from a YAML or JSON mapping, or from lines of NAME=VALUE (`.env`).

    Raises InputError.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {(error.strerror or '').lower()}"]) from error
    if path.suffix not in (".yaml", ".yml", ".json"):
        return _env_lines(path, data)
    problems = Problems()
    node = parse(data, str(path))
    values = {}
    if not isinstance(node.value, dict):
        problems.add(node.where, f"expected a mapping of names to values, found {node.kind}")
    else:
        for name, entry in node.value.items():
            if isinstance(entry.node.value, dict | list) or entry.node.value is None:
                problems.add(entry.node.where, f"expected a value for {name}")
            else:
                values[name] = entry.node.raw
    if problems.found:
        raise InputError(problems.found)
    return values


def _env_lines(path: Path, data: bytes) -> dict[str, str]:
    values = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise InputError([f"{path}:{number}:1: expected NAME=VALUE"])
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values


def resolve(
    declared: Node | None,
    given: Mapping[str, str],
    files: Sequence[Mapping[str, str]],
    environ: Mapping[str, str],
    problems: Problems,
) -> tuple[dict[str, Variable], set[str]]:
    """Every variable that has a value, and the names of those that have none."""
    known: dict[str, Variable] = {}
    missing: set[str] = set()
    entries: Mapping[str, Entry] = {}
    if declared is not None:
        if isinstance(declared.value, dict):
            entries = declared.value
        else:
            problems.add(declared.where, f"expected a mapping of names, found {declared.kind}")
    for name, entry in entries.items():
        if not _NAME.fullmatch(name):
            problems.add(entry.where, f"{name!r} is no name for a variable: letters, digits and _")
            continue
        node = entry.node
        if isinstance(node.value, dict):
            declaration = decode_mapping(node.value, Declaration, node.where, problems)
            default = node.value.get("default")
            text = default.node.raw if default and default.node.value is not None else None
        elif isinstance(node.value, list):
            problems.add(node.where, f"expected a default or a mapping, found {node.kind}")
            declaration, text = INVALID, None
        else:
            declaration, text = Declaration(), node.raw if node.value is not None else None
        if declaration is INVALID:
            missing.add(name)
            continue
        if declaration.secret and text is not None:
            problems.add(
                node.where, f"{name} is secret, so the file may not hold a default for it"
            )
            text = None
        for source in (given, *reversed(files), environ):
            if name in source:
                text = source[name]
                break
        if text is None:
            missing.add(name)
        else:
            known[name] = Variable(name, text, declaration.secret)
    return known, missing


def unknown_given(given: Mapping[str, str], declared: Node | None) -> list[str]:
    """What is wrong with --var names that the file does not declare."""
    names = list(declared.value) if declared and isinstance(declared.value, dict) else []
    return [
        f"--var {name}: the file declares no variable {name}{suggest(name, names)}"
        for name in given
        if name not in names
    ]


def substitute(
    node: Node, known: Mapping[str, Variable], missing: set[str], problems: Problems
) -> None:
    """Put the values in wherever `${NAME}` stands in a text, in place. `$${` is a literal `${`."""
    seen: set[int] = set()

    def visit(at: Node) -> None:
        if isinstance(at.value, dict | list):
            if id(at.value) in seen:
                return
            seen.add(id(at.value))
            inner = at.value.values() if isinstance(at.value, dict) else at.value
            for item in inner:
                visit(item.node if isinstance(item, Entry) else item)
        elif isinstance(at.value, str) and "${" in at.value:
            _substitute_text(at, known, missing, problems)

    visit(node)


def _substitute_text(
    node: Node, known: Mapping[str, Variable], missing: set[str], problems: Problems
) -> None:
    secrets: list[str] = []

    def value(use: re.Match[str]) -> str:
        name = use[1]
        if name is None:
            return "${"
        if name in known:
            if known[name].secret:
                secrets.append(name)
            return known[name].value
        if name in missing:
            problems.add(
                node.where,
                f"the variable {name} has no value: --var {name}=..., a --var-file, the "
                f"environment, or a default",
            )
        else:
            problems.add(
                node.where,
                f"no variable {name!r} is declared{suggest(name, [*known, *missing])}",
            )
        return use[0]

    whole = _USE.fullmatch(node.value)
    text = _USE.sub(value, node.value)
    node.raw = text
    node.secrets = tuple(secrets)
    # A value that is nothing but a variable is read as if it stood there itself; a secret is text.
    plain = whole is not None and whole[1] is not None and not node.quoted and not secrets
    node.value = scalar(text) if plain else text
