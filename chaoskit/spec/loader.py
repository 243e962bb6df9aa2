"""From the text of a file to an experiment: all that is wrong with it is found in one go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from chaoskit.errors import InputError, Problem
from chaoskit.model.experiment import (
    BlastRadius,
    Check,
    Experiment,
    GateSpec,
    Step,
    Verify,
    method_seconds,
)
from chaoskit.model.units import show_duration
from chaoskit.spec.decode import BAD, Decoder
from chaoskit.spec.expectations import Expectations
from chaoskit.spec.given import Variables, read_file
from chaoskit.spec.known import look_up
from chaoskit.spec.method import Method, unknown_name
from chaoskit.spec.nodes import Listing, Node, Scalar, Table, describe, plain
from chaoskit.spec.problems import Problems, quoted
from chaoskit.spec.source import read, text_of
from chaoskit.spec.yaml_reader import read_tree

VERSION = 1
STEADY_STATE = "steady-state"
REQUIRED = ("chaoskit", "title", STEADY_STATE, "method")
KEYS = (*REQUIRED, "hypothesis", "tags", "variables", "gates", "blast-radius", "verify")


def load_source(
    source: str | bytes,
    name: str,
    given: Mapping[str, str],
    var_files: Sequence[Path],
    environ: Mapping[str, str],
) -> Experiment:
    """See `chaoskit.spec.load_text`."""
    problems = Problems(name)
    text = text_of(source, name)
    root = read_tree(text, problems)
    if not isinstance(root, Table):
        problems.stop(root.at, f"expected an experiment, found {describe(root)}")
    variables = Variables(root, problems)
    others: list[Problem | str] = list(variables.unknown(given))
    layers = [given]
    for file in reversed(var_files):
        try:
            layers.append(read_file(text_of(read(file), str(file)), str(file)))
        except InputError as error:
            others += error.problems
    variables.give([*layers, environ])
    if secrets := variables.secrets():
        from chaoskit.model.redact import Redactor

        problems.redact = Redactor(secrets).text
    variables.put_in(root)
    experiment = _Loader(root, problems, variables).experiment(Path(name), text)
    if problems or others:
        raise InputError([*problems.listed(), *others])
    assert isinstance(experiment, Experiment)
    return experiment


class _Loader:
    """Reads the parts of one file, each whether or not the others are right."""

    def __init__(self, root: Table, problems: Problems, variables: Variables) -> None:
        self._root = root
        self._problems = problems
        self._variables = variables
        self._decoder = Decoder(problems)

    def experiment(self, file: Path, text: str) -> Experiment | Any:
        """The experiment, or BAD."""
        self._decoder.unknown(self._root, KEYS)
        for key in REQUIRED:
            if key not in self._root.entries:
                self._decoder.bad(self._root, f"the key {key!r} is missing")
        self._version()
        names = self._check_names()
        method = self._part("method", Method(self._decoder).read)
        limits = self._part(
            "blast-radius", lambda node: self._decoder.fields(BlastRadius, node), BlastRadius()
        )
        parts = {
            "title": self._part("title", self._decoder.text),
            "hypothesis": self._part("hypothesis", self._decoder.text, ""),
            "tags": self._part("tags", self._tags, ()),
            "steady_state": self._part(STEADY_STATE, self._checks),
            "method": method,
            "gates": self._part("gates", lambda node: self._gates(node, names), None),
            "blast_radius": limits,
            "verify": self._part("verify", lambda node: self._verify(node, names), (Verify(),)),
        }
        if method is not BAD and limits is not BAD:
            self._fits(method, limits)
        if self._problems or any(part is BAD for part in parts.values()):
            return BAD
        document = plain(self._root)
        if "variables" in document:
            document["variables"] = self._variables.document()
        resolved = self._variables.resolved()
        return Experiment(file=file, text=text, document=document, variables=resolved, **parts)

    def _part(self, key: str, read: Any, default: Any = BAD) -> Any:
        entry = self._root.entries.get(key)
        return default if entry is None else read(entry.node)

    def _version(self) -> None:
        entry = self._root.entries.get("chaoskit")
        if entry is None:
            return
        value = self._decoder.value(int, entry.node)
        if value is not BAD and value != VERSION:
            self._decoder.bad(entry.node, f"this chaoskit reads version {VERSION} of the format")

    def _tags(self, node: Node) -> Any:
        if not isinstance(node, Listing):
            return self._decoder.wrong(node, "a list of tags, as [checkout, nightly]")
        tags = tuple(self._decoder.text(item) for item in node.items)
        return BAD if BAD in tags else tags

    def _check_names(self) -> list[str]:
        """The names of all checks, of those too with which something else is wrong."""
        entry = self._root.entries.get(STEADY_STATE)
        if entry is None or not isinstance(entry.node, Listing):
            return []
        found: dict[str, Node] = {}
        for item in entry.node.items:
            named = item.entries.get("name") if isinstance(item, Table) else None
            if named is None or not isinstance(named.node, Scalar) or named.node.broken:
                continue
            name = named.node.text
            if name in found:
                line, column = found[name].at
                told = f"a check is called {quoted(name)} already, at {line}:{column}"
                self._decoder.bad(named.node, told)
            elif name == STEADY_STATE:
                self._decoder.bad(named.node, f"{STEADY_STATE} means all checks together")
            found.setdefault(name, named.node)
        return list(found)

    def _checks(self, node: Node) -> Any:
        return self._listed(node, "check", self._check, least=1)

    def _check(self, node: Node) -> Check | Any:
        decoder = self._decoder
        if not isinstance(node, Table):
            return decoder.wrong(node, "a check, as {name: ..., http: {...}, expect: {...}}")
        entries = node.entries
        for key in ("name", "expect"):
            if key not in entries:
                decoder.bad(node, f"the key {key!r} is missing")
        name = decoder.text(entries["name"].node) if "name" in entries else BAD
        named = [key for key in entries if key not in ("name", "expect")]
        kinds = {
            key: kind
            for key in named
            if (kind := look_up("probes", key, entries[key].at, self._problems, ("name", "expect")))
            is not BAD
        }
        if len(kinds) > 1:
            first, second = list(kinds)[:2]
            self._problems.add(entries[second].at, f"a check has one probe: {first} or {second}")
        elif not named:
            decoder.bad(node, "the check has no probe")
        if len(kinds) != 1 or len(named) != 1:
            return BAD
        ((key, kind),) = kinds.items()
        expect: Any = BAD
        given: dict[str, Any] = {}
        if "expect" in entries:
            expect = Expectations(decoder, kind).read(entries["expect"].node)
        if expect is not BAD and "wants" in {field.name for field in fields(kind)}:
            wants = (condition.reading for condition in expect.conditions)
            given = {"wants": tuple(dict.fromkeys(wants))}
        probe = decoder.fields(kind, entries[key].node, **given)
        if BAD in (name, probe, expect):
            return BAD
        return Check(name, probe, expect, decoder.where(node))

    def _gates(self, node: Node, names: Sequence[str]) -> Any:
        return self._listed(node, "gate", lambda item: self._named(GateSpec, item, names))

    def _verify(self, node: Node, names: Sequence[str]) -> Any:
        known = [*names, STEADY_STATE]
        return self._listed(node, "check", lambda item: self._named(Verify, item, known), least=1)

    def _named(self, kind: type[Any], node: Node, names: Sequence[str]) -> Any:
        """A gate or a verification, of a check that is there."""
        made = self._decoder.fields(kind, node)
        # Without any name something else is wrong, and has been told.
        if made is not BAD and names and made.check not in names:
            assert isinstance(node, Table)
            return self._decoder.bad(node.entries["check"].node, unknown_name(made.check, names))
        return made

    def _listed(self, node: Node, what: str, read: Any, least: int = 0) -> Any:
        if isinstance(node, Scalar) and node.broken:
            return BAD
        if not isinstance(node, Listing):
            return self._decoder.wrong(node, f"a list of {what}s")
        if len(node.items) < least:
            return self._decoder.bad(node, f"expected at least one {what}, found none")
        found = tuple(read(item) for item in node.items)
        return BAD if any(item is BAD for item in found) else found

    def _fits(self, method: Collection[Step], limits: BlastRadius) -> None:
        """The deadline of the run must leave room for the method."""
        if (needed := method_seconds(method)) <= limits.max_duration:
            return
        entry = self._root.entries.get("blast-radius")
        at = self._root.entries["method"].at
        if entry and isinstance(entry.node, Table) and "max-duration" in entry.node.entries:
            at = entry.node.entries["max-duration"].node.at
        self._problems.add(
            at,
            f"the method holds and waits {show_duration(needed)} in all, longer than max-duration "
            f"({show_duration(limits.max_duration)})",
        )
