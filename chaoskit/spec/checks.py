"""Checks: a probe, and what is expected of its reading."""

from __future__ import annotations

from typing import Any

from chaoskit import registry
from chaoskit.errors import ChaoskitError
from chaoskit.model.expect import MATCHERS, Condition, Expectation
from chaoskit.model.experiment import Check
from chaoskit.model.probe import Probe
from chaoskit.model.units import Duration, Json, Regex, Unit
from chaoskit.spec.tree import Entry, Node
from chaoskit.spec.values import (
    INVALID,
    Problems,
    decode,
    decode_mapping,
    keys_of,
    required,
    suggest,
)

_UNIT_OF = {Unit.DURATION, Unit.SIZE, Unit.PERCENT, Unit.RATE}


def read_checks(node: Node, problems: Problems) -> list[Check]:
    """The steady state: a list of at least one check, each with a name of its own."""
    if not isinstance(node.value, list):
        problems.add(node.where, f"expected a list of checks, found {node.kind}")
        return []
    if not node.value:
        problems.add(node.where, "at least one check is needed: without one nothing can be learnt")
    checks: list[Check] = []
    for item in node.value:
        check = _check(item, problems)
        if check is INVALID:
            continue
        if check.name in {other.name for other in checks} or check.name == "steady-state":
            where = item.value["name"].node.where
            problems.add(where, f"the name {check.name!r} is taken; each check has its own")
            continue
        checks.append(check)
    return checks


def _check(node: Node, problems: Problems) -> Any:
    if not isinstance(node.value, dict):
        return problems.add(node.where, f"expected a check, found {node.kind}")
    entries: dict[str, Entry] = node.value
    kinds = registry.names("probes")
    found = [key for key in entries if key in kinds]
    for key in entries:
        if key not in kinds and key not in ("name", "expect"):
            hint = suggest(key, [*kinds, "name", "expect"])
            tail = hint or f"; a check has a name, expect, and one of {', '.join(kinds)}"
            problems.add(entries[key].where, f"unknown key {key!r}{tail}")
    if len(found) > 1:
        problems.add(
            entries[found[1]].where, f"one check, one probe: it has {found[0]} and {found[1]}"
        )
    if "name" not in entries:
        problems.add(node.where, "missing key 'name': a text")
    if "expect" not in entries:
        problems.add(node.where, "missing key 'expect': what the reading must be")
    if not found:
        if all(key in ("name", "expect") for key in entries):
            problems.add(node.where, f"missing a probe: one of {', '.join(kinds)}")
        return INVALID
    name: Any = decode(entries["name"].node, str, problems) if "name" in entries else INVALID
    if name is not INVALID and not name.strip():
        name = problems.add(entries["name"].node.where, "the name is empty")
    try:
        kind = registry.probe(found[0])
    except ChaoskitError as error:
        return problems.add(entries[found[0]].where, str(error))
    expect: Any = INVALID
    if "expect" in entries:
        expect = _expect(entries["expect"].node, kind, problems)
    probe = _probe(entries[found[0]].node, kind, expect, problems)
    if INVALID in (name, probe, expect) or len(found) > 1:
        return INVALID
    return Check(name, probe, expect, node.where)


def _probe(node: Node, kind: type[Probe], expect: Any, problems: Problems) -> Any:
    value = node.value
    if isinstance(value, str | int) and not isinstance(value, bool):
        # The first key alone needs no mapping: `command: ./queue-length`.
        first = next((k for k, (f, _) in keys_of(kind).items() if required(f)), None)
        if first is not None:
            value = {first: Entry(node.where, node)}
    if not isinstance(value, dict):
        return problems.add(node.where, f"expected the keys of the probe, found {node.kind}")
    more = {}
    if expect is not INVALID and "wants" in getattr(kind, "__dataclass_fields__", {}):
        names = (condition.reading for condition in expect.conditions)
        more["wants"] = tuple(dict.fromkeys(n for n in names if n not in kind.readings))
    return decode_mapping(value, kind, node.where, problems, more=more)


def _expect(node: Node, kind: type[Probe], problems: Problems) -> Any:
    if not isinstance(node.value, dict):
        # `expect: 200` is the main reading, equal to that.
        condition = _matcher("equals", node, kind.main, kind.readings[kind.main], problems)
        return INVALID if condition is INVALID else Expectation((condition,))
    if not node.value:
        return problems.add(node.where, "nothing is expected: a check that cannot fail is no check")
    conditions: list[Any] = []
    within = None
    opened = {name[:-2]: unit for name, unit in kind.readings.items() if name.endswith(" *")}
    for key, entry in node.value.items():
        if key == "within":
            within = decode(entry.node, Duration, problems)
        elif key in MATCHERS:
            unit = kind.readings[kind.main]
            conditions.append(_matcher(key, entry.node, kind.main, unit, problems))
        elif key in kind.readings and not key.endswith(" *"):
            conditions += _conditions(entry.node, key, kind.readings[key], problems)
        elif key in opened:
            conditions += _completed(entry.node, key, opened[key], problems)
        else:
            readings = [name.removesuffix(" *") for name in kind.readings]
            hint = suggest(key, [*readings, *MATCHERS, "within"])
            problems.add(
                entry.where,
                f"unknown expectation {key!r}{hint or '; this probe reads ' + ', '.join(readings)}",
            )
            conditions.append(INVALID)
    if within is not None and not conditions:
        return problems.add(node.where, "within alone expects nothing")
    if within is INVALID or any(condition is INVALID for condition in conditions):
        return INVALID
    return Expectation(tuple(conditions), within)


def _completed(node: Node, kind: str, unit: Unit, problems: Problems) -> list[Any]:
    if not isinstance(node.value, dict) or not node.value:
        return [
            problems.add(node.where, f"expected names with what each must be, found {node.kind}")
        ]
    conditions: list[Any] = []
    for name, entry in node.value.items():
        if kind == "json" and (wrong := _bad_path(name)):
            conditions.append(problems.add(entry.where, f"{name!r} is no JSON path: {wrong}"))
            continue
        full = f"{kind} {name.lower() if kind == 'headers' else name}"
        conditions += _conditions(entry.node, full, unit, problems)
    return conditions


def _bad_path(path: str) -> str:
    import jsonpath

    try:
        jsonpath.compile(path)
    except Exception as error:
        return str(error)
    return ""


def _conditions(node: Node, reading: str, unit: Unit, problems: Problems) -> list[Any]:
    if not isinstance(node.value, dict):
        return [_matcher("equals", node, reading, unit, problems)]
    if not node.value:
        return [problems.add(node.where, f"nothing is expected of {reading}")]
    conditions = []
    for key, entry in node.value.items():
        if key in MATCHERS:
            conditions.append(_matcher(key, entry.node, reading, unit, problems))
        else:
            conditions.append(
                problems.add(
                    entry.where,
                    f"unknown matcher {key!r}"
                    f"{suggest(key, MATCHERS) or '; one of ' + ', '.join(MATCHERS)}",
                )
            )
    return conditions


def _matcher(name: str, node: Node, reading: str, unit: Unit, problems: Problems) -> Any:
    value: Any = INVALID
    match name:
        case "matches":
            value = decode(node, Regex, problems)
        case "contains":
            value = _scalar(node, problems)
        case "equals":
            value = _quantity(node, unit, problems) if unit in _UNIT_OF else _scalar(node, problems)
        case "between":
            if not isinstance(node.value, list) or len(node.value) != 2:
                return problems.add(node.where, f"expected [lowest, highest], found {node.kind}")
            low, high = (_quantity(item, unit, problems) for item in node.value)
            if INVALID in (low, high):
                return INVALID
            if low > high:
                return problems.add(node.where, "the lowest is above the highest")
            value = [low, high]
        case _:
            value = _quantity(node, unit, problems)
    return INVALID if value is INVALID else Condition(reading, unit, name, value)


def _quantity(node: Node, unit: Unit, problems: Problems) -> Any:
    """A number in the reading's unit; where the reading has none, a plain number or one with a
    unit of its own (a command may print seconds or a ratio)."""
    if unit in _UNIT_OF:
        from typing import Annotated

        return decode(node, Annotated[float, unit], problems)
    if isinstance(node.value, str):
        for own in _UNIT_OF:
            from typing import Annotated

            value = decode(node, Annotated[float, own], Problems())
            if value is not INVALID:
                return value
    return decode(node, float, problems)


def _scalar(node: Node, problems: Problems) -> Any:
    value: Json = node.value
    if isinstance(value, dict | list):
        return problems.add(node.where, f"expected one value, found {node.kind}")
    return value
