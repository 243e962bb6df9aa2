"""The method: faults, actions and waits, in order or in parallel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from chaoskit import registry
from chaoskit.errors import ChaoskitError
from chaoskit.model.experiment import (
    FaultStep,
    HttpAction,
    Parallel,
    Pick,
    RunAction,
    Step,
    WaitAction,
)
from chaoskit.model.fault import Fault
from chaoskit.model.target import Selector
from chaoskit.model.units import parse_percent
from chaoskit.spec.shapes import FaultKeys, HttpKeys, RequestKeys, RunKeys, WaitKeys
from chaoskit.spec.tree import Entry, Node
from chaoskit.spec.values import INVALID, Problems, decode_mapping, keys_of, suggest

_KINDS = ("fault", "run", "http", "wait", "parallel")
_COMMON = ("fault", "target", "for", "stages")


def read_method(node: Node, problems: Problems) -> list[Step]:
    """A list of at least one step."""
    if not isinstance(node.value, list):
        problems.add(node.where, f"expected a list of steps, found {node.kind}")
        return []
    if not node.value:
        problems.add(node.where, "at least one step is needed")
    return [step for item in node.value if (step := _step(item, problems)) is not INVALID]


def method_seconds(steps: Sequence[Step]) -> float:
    """How long holds and waits are together, in seconds."""
    return sum(_seconds(step) for step in steps)


def _seconds(step: Step) -> float:
    match step:
        case FaultStep():
            return step.hold * max(1, len(step.stages))
        case WaitAction():
            return step.seconds
        case Parallel():
            return max((_seconds(part) for part in step.steps), default=0.0)
    return 0.0


def _step(node: Node, problems: Problems, inside: bool = False) -> Any:
    if not isinstance(node.value, dict):
        return problems.add(node.where, f"expected a step, found {node.kind}")
    entries: dict[str, Entry] = node.value
    found = [kind for kind in _KINDS if kind in entries]
    if not found:
        near = next((h for key in entries if (h := suggest(key, _KINDS))), "")
        return problems.add(node.where, f"a step has one of {', '.join(_KINDS)}{near}")
    match found[0]:
        case "fault":
            return _fault(node, entries, problems)
        case "run":
            keys = decode_mapping(entries, RunKeys, node.where, problems)
            if keys is INVALID:
                return INVALID
            return RunAction(keys.run, keys.timeout, node.where, keys.env, keys.undo)
        case "http":
            keys = decode_mapping(entries, HttpKeys, node.where, problems)
            if keys is INVALID:
                return INVALID
            undo = _request(keys.undo.http, node) if keys.undo else None
            return _request(keys.http, node, undo)
        case "wait":
            keys = decode_mapping(entries, WaitKeys, node.where, problems)
            return INVALID if keys is INVALID else WaitAction(keys.wait, node.where)
    for key, entry in entries.items():
        if key != "parallel":
            problems.add(entry.where, f"unknown key {key!r}; parallel stands alone")
    inner = entries["parallel"]
    if inside:
        return problems.add(inner.where, "parallel inside parallel; one list is enough")
    if not isinstance(inner.node.value, list) or not inner.node.value:
        return problems.add(inner.node.where, f"expected a list of steps, found {inner.node.kind}")
    steps = [_step(item, problems, inside=True) for item in inner.node.value]
    return INVALID if any(s is INVALID for s in steps) else Parallel(tuple(steps), node.where)


def _request(keys: RequestKeys, node: Node, undo: HttpAction | None = None) -> HttpAction:
    return HttpAction(
        keys.url, keys.method, keys.timeout, node.where, keys.headers, keys.body, undo
    )


def _fault(node: Node, entries: dict[str, Entry], problems: Problems) -> Any:
    kind = _fault_kind(entries["fault"], problems)
    selector, pick = INVALID, Pick(count=1)
    if "target" in entries:
        selector, pick = _target(entries["target"].node, problems)
    else:
        problems.add(node.where, "missing key 'target': what to hurt, such as "
                                 "{process: {cmdline: worker}}")  # fmt: skip
    hold = decode_mapping(
        {k: e for k, e in entries.items() if k == "for"}, FaultKeys, node.where, problems
    )
    stages = _stages(entries.get("stages"), problems)
    if kind is INVALID:
        return INVALID
    fault = decode_mapping(entries, kind, node.where, problems, also=_COMMON)
    if selector is not INVALID:
        selector_kind: type[Selector] = type(selector)
        if not _has(selector_kind.target, kind.needs):
            problems.add(
                entries["fault"].node.where,
                f"{kind.name} is not possible on {selector_kind.kind}: it needs a target that is "
                f"{kind.needs.__name__}",
            )
            selector = INVALID
    if INVALID in (fault, selector, pick, hold, stages):
        return INVALID
    return FaultStep(fault, selector, pick, hold.for_, node.where, stages)


def _has(target: type, capability: type) -> bool:
    """Whether the class has everything that the protocol names; fields count where annotated."""
    wanted = {
        name
        for base in capability.__mro__
        if getattr(base, "_is_protocol", False)
        for name in (*vars(base), *getattr(base, "__annotations__", {}))
        if not name.startswith("_")
    }
    owned = {name for base in target.__mro__ for name in getattr(base, "__annotations__", {})}
    return all(hasattr(target, name) or name in owned for name in wanted)


def _fault_kind(entry: Entry, problems: Problems) -> Any:
    name = entry.node.value
    names = registry.names("faults")
    if not isinstance(name, str):
        return problems.add(
            entry.node.where, f"expected the name of a fault, found {entry.node.kind}"
        )
    if name not in names:
        hint = suggest(name, names) or f"; there are {', '.join(names)}"
        return problems.add(entry.node.where, f"no fault is named {name!r}{hint}")
    try:
        kind: type[Fault[Any]] = registry.fault(name)
    except ChaoskitError as error:
        return problems.add(entry.node.where, str(error))
    return kind


def _target(node: Node, problems: Problems) -> tuple[Any, Any]:
    kinds = registry.names("targets")
    if not isinstance(node.value, dict):
        return problems.add(node.where, f"expected a target such as {{process: {{name: x}}}}, "
                                        f"found {node.kind}"), Pick(count=1)  # fmt: skip
    entries: dict[str, Entry] = node.value
    pick: Any = Pick(count=1)
    if "pick" in entries:
        pick = _pick(entries["pick"].node, problems)
    named = [key for key in entries if key != "pick"]
    known = [key for key in named if key in kinds]
    for key in named:
        if key not in kinds:
            hint = suggest(key, [*kinds, "pick"]) or f"; there are {', '.join(kinds)}"
            problems.add(entries[key].where, f"no kind of target is named {key!r}{hint}")
    if len(known) > 1:
        problems.add(entries[known[1]].where, "one step, one kind of target")
    if len(known) != 1 or len(named) != 1:
        if not named:
            problems.add(node.where, f"missing a kind of target: one of {', '.join(kinds)}")
        return INVALID, pick
    try:
        kind = registry.selector(known[0])
    except ChaoskitError as error:
        return problems.add(entries[known[0]].where, str(error)), pick
    inner = entries[known[0]].node
    if not isinstance(inner.value, dict):
        expected = ", ".join(keys_of(kind)) if fields(kind) else ""  # type: ignore[arg-type]
        return problems.add(
            inner.where, f"expected keys such as {expected}, found {inner.kind}"
        ), pick
    return decode_mapping(inner.value, kind, inner.where, problems), pick


def _stages(entry: Entry | None, problems: Problems) -> Any:
    if entry is None:
        return ()
    if not isinstance(entry.node.value, list) or not entry.node.value:
        return problems.add(entry.node.where, f"expected a list such as [1, 25%, 50%], found "
                                              f"{entry.node.kind}")  # fmt: skip
    picks = [_pick(item, problems) for item in entry.node.value]
    return INVALID if any(pick is INVALID for pick in picks) else tuple(picks)


def _pick(node: Node, problems: Problems) -> Any:
    value = node.value
    if value == "all":
        return Pick(every=True)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return Pick(count=value)
    if isinstance(value, str) and re.fullmatch(r"[\d.]+ ?%", value):
        try:
            fraction = parse_percent(value)
        except ValueError as error:
            return problems.add(node.where, str(error))
        if 0 < fraction <= 1:
            return Pick(fraction=fraction)
    return problems.add(
        node.where, f"expected a number from 1, a percentage or all, found {node.kind}"
    )
