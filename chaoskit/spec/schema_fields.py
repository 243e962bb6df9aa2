"""JSON Schema of the parts of a file that a dataclass declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any, Literal, TypeAlias, get_args, get_origin

from chaoskit.model.units import PARSERS, PATTERNS, WANTED, Share, Unit
from chaoskit.spec.declared import Declared, declared, options, unit_of
from chaoskit.spec.given import NAME

Schema: TypeAlias = dict[str, Any]

TEXT: Schema = {"type": "string"}
VARIABLE: Schema = {"type": "string", "pattern": rf"\$\{{{NAME}\}}"}
"""Of what a variable, or several, will be part: what comes of it is for the loader to judge."""
_SIMPLE: Mapping[Any, Schema] = {
    str: TEXT,
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def fields_schema(kind: type[Any]) -> Schema:
    """The mapping that a dataclass is read from."""
    items = declared(kind)
    return table(
        {item.key: _field(item) for item in items},
        [item.key for item in items if item.required],
        summary(kind),
    )


def _field(item: Declared) -> Schema:
    found = dict(hint_schema(item.hint))
    if item.doc:
        found["description"] = item.doc
    # Quantities are kept in their inner unit, which is not how a file writes them.
    if item.default is not MISSING and isinstance(item.default, bool | str):
        found["default"] = item.default
    words = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum"}
    if int in options(item.hint) or float in options(item.hint):
        found |= {words[word]: value for word, value in item.limits.items()}
    return found


def hint_schema(hint: Any) -> Schema:
    """What a value of that annotation looks like in a file, a variable in its place included."""
    found = [_one(option) for option in options(hint)]
    if not any(schema.get("type") == "string" and len(schema) == 1 for schema in found):
        found.append(VARIABLE)
    return found[0] if len(found) == 1 else {"anyOf": found}


def _one(hint: Any) -> Schema:
    unit = Unit.PERCENT if hint is Share else unit_of(hint)
    if unit is not None and unit in PARSERS:
        return quantity(unit)
    if unit is Unit.COMMAND:
        words = {"type": "array", "minItems": 1, "items": TEXT}
        return {"anyOf": [TEXT | {"minLength": 1}, words]}
    if unit is Unit.REGEX:
        return TEXT | {"format": "regex"}
    if unit in (Unit.TEXT, Unit.JSONPATH):
        return TEXT
    if unit is not None:
        hint = get_args(hint)[0]
    origin = get_origin(hint)
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin is tuple:
        return {"type": "array", "items": hint_schema(get_args(hint)[0])}
    if is_dataclass(hint) and isinstance(hint, type):
        return fields_schema(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": hint_schema(get_args(hint)[1])}
    return _SIMPLE[hint]


def quantity(unit: Unit) -> Schema:
    return {"type": "string", "pattern": f"^(?:{PATTERNS[unit]})$", "description": WANTED[unit]}


def table(properties: Schema, required: list[str], about: str = "") -> Schema:
    found: Schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return found | {"description": about} if about else found


def summary(kind: type[Any]) -> str:
    """The first sentence of its docstring."""
    text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""
