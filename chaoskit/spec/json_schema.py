"""The JSON Schema of experiment files, made from what the loader itself goes by.

It is for editors: it completes, explains, and tells most of what is wrong while one types. What it
accepts the loader may still refuse (a check that is not there, a bad regular expression).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chaoskit import registry
from chaoskit.errors import ChaoskitError
from chaoskit.model.expect import MATCHERS
from chaoskit.model.experiment import (
    DEFAULT_HOLD,
    BlastRadius,
    GateSpec,
    HttpAction,
    OnRestart,
    RunAction,
    Verify,
    WaitAction,
)
from chaoskit.model.probe import Probe
from chaoskit.model.target import Target
from chaoskit.model.units import PARSERS, Duration, Unit, show_duration
from chaoskit.spec.declared import declared
from chaoskit.spec.given import NAME
from chaoskit.spec.schema_fields import (
    TEXT,
    VARIABLE,
    Schema,
    fields_schema,
    hint_schema,
    quantity,
    summary,
    table,
)

_PICK: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"const": "all"},
        quantity(Unit.PERCENT),
        VARIABLE,
    ],
    "default": 1,
    "description": "How many of the targets: a number, a percentage, or all.",
}


def experiment_schema() -> Schema:
    """See `chaoskit.spec.schema`. A plug-in that does not load is left out."""
    probes = _loaded("probes", registry.probe)
    faults = _loaded("faults", registry.fault)
    targets = _loaded("targets", registry.selector)
    steps = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}}
    parallel = table({"parallel": steps}, ["parallel"], "Several steps at once.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chaoskit experiment",
        "$defs": {
            "step": {
                "oneOf": [
                    *(
                        _fault(name, kind, [one for one in fitting if one in targets])
                        for name in faults
                        for kind, fitting in registry.kinds_of(name).items()
                    ),
                    *_actions(),
                ]
            },
            "pick": _PICK,
            **{f"target-{name}": fields_schema(kind) for name, kind in targets.items()},
            **{f"reading-{unit.name.lower()}": _reading(unit) for unit in Unit},
        },
        **table(
            {
                "chaoskit": {"const": 1, "description": "The version of the file format."},
                "title": TEXT | {"minLength": 1, "description": "What is tried, in a line."},
                "hypothesis": TEXT | {"description": "What is believed to happen, and why."},
                "tags": {"type": "array", "items": TEXT, "description": "Words to find it by."},
                "variables": _variables(),
                "steady-state": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"oneOf": [_check(name, kind) for name, kind in probes.items()]},
                    "description": "What healthy means: holds before, during and after.",
                },
                "method": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"anyOf": [{"$ref": "#/$defs/step"}, parallel]},
                    "description": "What is done, in this order.",
                },
                "gates": {
                    "type": "array",
                    "items": fields_schema(GateSpec),
                    "description": "What may abort; every check when absent, none when empty.",
                },
                "blast-radius": fields_schema(BlastRadius),
                "verify": {
                    "type": "array",
                    "minItems": 1,
                    "items": fields_schema(Verify),
                    "description": "What must hold again after the undo.",
                },
            },
            ["chaoskit", "title", "steady-state", "method"],
        ),
    }


def _variables() -> Schema:
    plain = {"type": ["string", "number", "boolean", "null"]}
    full = table(
        {
            "default": plain | {"description": "Its value when nothing else gives one."},
            "secret": {"type": "boolean", "description": "Never printed, journaled or reported."},
            "description": TEXT,
        },
        [],
    )
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {"anyOf": [plain, full]},
        "description": "What ${NAME} stands for: --var, --var-file, the environment, a default.",
    }


def _check(name: str, kind: type[Probe]) -> Schema:
    return table(
        {
            "name": TEXT | {"minLength": 1, "description": "What gates and reports call it."},
            name: fields_schema(kind),
            "expect": _expect(kind),
        },
        ["name", name, "expect"],
        summary(kind),
    )


def _expect(kind: type[Probe]) -> Schema:
    properties: Schema = {"within": hint_schema(Duration)}
    for reading, unit in kind.readings.items():
        base, wild, _ = reading.partition(" *")
        found: Schema = {"$ref": f"#/$defs/reading-{unit.name.lower()}"}
        if wild:
            found = {"type": "object", "minProperties": 1, "additionalProperties": found}
        before = properties.get(base)
        properties[base] = {"anyOf": [before, found]} if before else found
    for matcher, schema in _matchers(kind.readings[kind.main]).items():
        properties.setdefault(matcher, schema)
    return table(properties, []) | {"minProperties": 1}


def _reading(unit: Unit) -> Schema:
    """A bare value, which must be equal, or matchers."""
    matchers = _matchers(unit)
    return {"anyOf": [matchers["equals"], table(matchers, []) | {"minProperties": 1}]}


def _matchers(unit: Unit) -> Schema:
    quantities: list[Schema] = [quantity(unit)] if unit in PARSERS else [{"type": "number"}]
    if unit not in PARSERS:
        quantities += [quantity(other) for other in PARSERS]
    number: Schema = {"anyOf": [*quantities, VARIABLE]}
    equals = number if unit in PARSERS or unit is Unit.NUMBER else {"not": {"type": "object"}}
    found: Schema = {"equals": equals, "below": number, "above": number}
    found["between"] = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    if unit not in PARSERS:
        found["matches"] = TEXT | {"format": "regex"}
        found["contains"] = {"type": ["string", "number", "boolean"]}
    return {matcher: found[matcher] for matcher in MATCHERS if matcher in found}


def _fault(name: str, kind: type[Any], fitting: Sequence[str]) -> Schema:
    own = fields_schema(kind)
    pick = {"$ref": "#/$defs/pick"}
    kinds = [table({n: {"$ref": f"#/$defs/target-{n}"}, "pick": pick}, [n]) for n in fitting]
    hold = hint_schema(Duration) | {
        "description": f"How long it is held, in each stage; {show_duration(DEFAULT_HOLD)} unless "
        "said."
    }
    common: Schema = {
        "fault": {"const": name},
        "target": {"anyOf": kinds},
        "for": hold,
        "stages": {
            "type": "array",
            "minItems": 1,
            "items": pick,
            "description": "How many, wider and wider, while every gate holds.",
        },
    }
    if any(registry.selector(one).target.reborn is not Target.reborn for one in fitting):
        common["on-restart"] = hint_schema(OnRestart) | {
            "default": "end",
            "description": "A target that restarts meanwhile: the fault has ended early, or it is "
            "made again.",
        }
    required = ["fault", "target", *own["required"]]
    return table(common | own["properties"], required, summary(kind))


def _actions() -> list[Schema]:
    request = fields_schema(HttpAction)
    undo = table({"http": request}, ["http"], "The request that takes it back.")
    return [
        fields_schema(RunAction),
        table({"http": request, "undo": undo}, ["http"], summary(HttpAction)),
        fields_schema(WaitAction),
    ]


def _loaded(group: str, find: Callable[[str], type[Any]]) -> dict[str, type[Any]]:
    found = {}
    for name in registry.names(group):
        try:
            kind = find(name)
            declared(kind)
        except (ChaoskitError, TypeError):
            continue
        found[name] = kind
    return found
