"""From a file to an experiment: everything that is wrong is found and told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaoskit.errors import InputError, Problem
from chaoskit.model.experiment import (
    BlastRadius,
    Check,
    Experiment,
    GateSpec,
    Variable,
    Verify,
)
from chaoskit.model.redact import Redactor
from chaoskit.spec.checks import read_checks
from chaoskit.spec.shapes import BlastKeys, GateKeys, Header, VerifyKeys
from chaoskit.spec.steps import method_seconds, read_method
from chaoskit.spec.tree import Entry, Node, parse
from chaoskit.spec.values import INVALID, Problems, decode_mapping, suggest
from chaoskit.spec.variables import read_var_file, resolve, substitute, unknown_given

_SECTIONS = ("variables", "steady-state", "method", "gates", "blast-radius", "verify")
_SUFFIXES = (".yaml", ".yml", ".json")


def load(
    path: Path,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
) -> Experiment:
    """The experiment in a file. variables: by name, over the files' and the environment's.

    environ: the environment; this process's when None. Raises InputError with every problem.
    """
    try:
        data = path.read_bytes() if not path.is_dir() else None
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {(error.strerror or '').lower()}"]) from error
    if data is None:
        raise InputError([f"{path}: is a folder, not an experiment"])
    return load_text(data, str(path), variables, var_files, environ)


def load_text(
    text: str | bytes,
    name: str,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
) -> Experiment:
    """The experiment in a text; `name` is the file's name in messages. Else as `load`."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    root = parse(data, name)
    problems = Problems()
    if not isinstance(root.value, dict):
        problems.add(root.where, f"an experiment is a mapping, found {root.kind}")
        raise InputError(problems.found)
    entries: dict[str, Entry] = root.value
    declared = entries["variables"].node if "variables" in entries else None
    known, missing = resolve(
        declared,
        variables or {},
        [read_var_file(file) for file in var_files],
        os.environ if environ is None else environ,
        problems,
    )
    for key, entry in entries.items():
        if key != "variables":
            substitute(entry.node, known, missing, problems)
    try:
        experiment = _experiment(root, entries, known, problems, Path(name))
    except RecursionError:  # A regular expression or a JSON path can be hostile too.
        experiment = INVALID
        problems.add(root.where, "something in this file is nested too deeply")
    wrong: list[Problem | str] = [
        *sorted(set(problems.found)),
        *unknown_given(variables or {}, declared),
    ]
    if wrong:
        raise InputError(_without_secrets(wrong, known))
    assert isinstance(experiment, Experiment)
    return experiment


def experiment_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and for a folder every .yaml, .yml and .json below it, sorted.

    Raises InputError when a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            if not found:
                raise InputError([f"{path}: no experiment in this folder"])
            files += found
        else:
            files.append(path)
    return files


def _experiment(
    root: Node,
    entries: Mapping[str, Entry],
    known: Mapping[str, Variable],
    problems: Problems,
    file: Path,
) -> Any:
    header = decode_mapping(entries, Header, root.where, problems, also=_SECTIONS)
    for key in ("steady-state", "method"):
        if key not in entries:
            problems.add(root.where, f"missing key {key!r}: a list of at least one "
                                     f"{'check' if key == 'steady-state' else 'step'}")  # fmt: skip
    checks = (
        read_checks(entries["steady-state"].node, problems) if "steady-state" in entries else []
    )
    steps = read_method(entries["method"].node, problems) if "method" in entries else []
    gates = _gates(entries.get("gates"), checks, problems)
    limits = _limits(entries.get("blast-radius"), problems)
    verify = _verify(entries.get("verify"), checks, problems)
    if limits is not INVALID and not problems.found:
        needed = method_seconds(steps)
        if needed > limits.max_duration:
            where = entries.get("blast-radius", entries["method"]).where
            problems.add(where, f"the method alone takes {needed:g}s, max-duration is "
                                f"{limits.max_duration:g}s")  # fmt: skip
    if problems.found:
        return INVALID
    document = root.plain()
    assert isinstance(document, dict)
    document.pop("variables", None)
    secrets = {v.name: v.value for v in known.values() if v.secret}
    return Experiment(
        title=header.title,
        hypothesis=header.hypothesis,
        tags=header.tags,
        steady_state=tuple(checks),
        method=tuple(steps),
        file=file,
        document=Redactor(secrets).json(document),
        variables=tuple(known.values()),
        gates=gates,
        blast_radius=limits,
        verify=verify,
    )


def _items(entry: Entry, what: str, problems: Problems) -> list[Node]:
    if not isinstance(entry.node.value, list):
        problems.add(entry.node.where, f"expected a list of {what}, found {entry.node.kind}")
        return []
    return list(entry.node.value)


def _one(node: Node, kind: type, problems: Problems) -> Any:
    if not isinstance(node.value, dict):
        return problems.add(node.where, f"expected a mapping, found {node.kind}")
    return decode_mapping(node.value, kind, node.where, problems)


def _gates(
    entry: Entry | None, checks: Sequence[Check], problems: Problems
) -> tuple[GateSpec, ...] | None:
    if entry is None:
        return None
    gates = []
    for node in _items(entry, "gates", problems):
        keys = _one(node, GateKeys, problems)
        if keys is not INVALID and _check_known(node, keys.check, checks, problems):
            gates.append(GateSpec(keys.check, keys.every, keys.consecutive, node.where))
    return tuple(gates)


def _verify(entry: Entry | None, checks: Sequence[Check], problems: Problems) -> tuple[Verify, ...]:
    if entry is None:
        return (Verify(),)
    wanted = []
    for node in _items(entry, "checks", problems):
        keys = _one(node, VerifyKeys, problems)
        if keys is INVALID:
            continue
        if keys.check == "steady-state" or _check_known(
            node, keys.check, checks, problems, ["steady-state"]
        ):
            wanted.append(Verify(keys.check, keys.within))
    if not wanted and not problems.found:
        problems.add(entry.node.where, "nothing is verified; leave `verify` out to verify all")
    return tuple(wanted)


def _check_known(
    node: Node,
    name: str,
    checks: Sequence[Check],
    problems: Problems,
    also: Sequence[str] = (),
) -> bool:
    names = [check.name for check in checks]
    if name in names or not names:
        return True
    where = node.value["check"].node.where
    problems.add(where, f"no check is named {name!r}{suggest(name, [*names, *also])}")
    return False


def _limits(entry: Entry | None, problems: Problems) -> Any:
    if entry is None:
        return BlastRadius()
    keys = _one(entry.node, BlastKeys, problems)
    if keys is INVALID:
        return INVALID
    return BlastRadius(
        max_targets=keys.max_targets,
        max_percent=keys.max_percent,
        min_healthy=keys.min_healthy,
        max_duration=keys.max_duration,
        allow_users=keys.allow_users,
    )


def _without_secrets(
    wrong: Sequence[Problem | str], known: Mapping[str, Variable]
) -> list[Problem | str]:
    redactor = Redactor({v.name: v.value for v in known.values() if v.secret})
    return [
        redactor.text(item)
        if isinstance(item, str)
        else Problem(item.file, item.line, item.column, redactor.text(item.message))
        for item in wrong
    ]
