"""A fault's parameters as the journal keeps them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from chaoskit.model.units import Json, Share

P = TypeVar("P")


def freeze(params: Any, secrets: Mapping[str, str] | None = None) -> dict[str, Json]:
    """The fields of a dataclass as JSON; what is None is left out.

    secrets: values by name. A text that holds one becomes `{"secret": "...${NAME}...", "names":
    [NAME]}`: a reference, for the journal never holds the value.
    """
    return {
        field.name: freeze_value(value, secrets or {})
        for field in fields(params)
        if (value := getattr(params, field.name)) is not None
    }


def thaw(kind: type[P], params: Mapping[str, Any]) -> P:
    """A dataclass of that kind from what `freeze` gave. Raises TypeError when fields differ."""
    return kind(**{name: _thaw(value) for name, value in params.items()})


def freeze_value(value: Any, secrets: Mapping[str, str]) -> Json:
    """Any value as `freeze` writes it."""
    if isinstance(value, Share):
        return {"share": value.fraction}
    if isinstance(value, tuple | list):
        return [freeze_value(item, secrets) for item in value]
    if isinstance(value, Mapping):
        return {str(key): freeze_value(item, secrets) for key, item in value.items()}
    if isinstance(value, str):
        names = [name for name, secret in secrets.items() if secret in value]
        for name in sorted(names, key=lambda name: -len(secrets[name])):
            value = value.replace(secrets[name], f"${{{name}}}")
        return {"secret": value, "names": list[Json](names)} if names else value
    assert value is None or isinstance(value, bool | int | float), value
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_thaw(item) for item in value)
    if isinstance(value, dict):
        return Share(value["share"]) if set(value) == {"share"} else value
    return value
