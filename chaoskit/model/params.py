"""A fault's parameters as the journal keeps them, and back."""

from __future__ import annotations

import re
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
        return _without_secrets(value, secrets)
    assert value is None or isinstance(value, bool | int | float), value
    return value


def _without_secrets(text: str, secrets: Mapping[str, str]) -> Json:
    """In one pass, longer values first: a secret in another one, or in a name, spoils nothing."""
    names = {secret: name for name, secret in secrets.items() if secret and secret in text}
    if not names:
        return text
    found: dict[str, None] = {}

    def reference(match: re.Match[str]) -> str:
        name = names[match[0]]
        found[name] = None
        return f"${{{name}}}"

    longest_first = sorted(names, key=len, reverse=True)
    text = re.sub("|".join(map(re.escape, longest_first)), reference, text)
    return {"secret": text, "names": list[Json](found)}


def shown(value: Json) -> Json:
    """What `freeze_value` gave, for people: a text with `${NAME}` where a secret is, and of a
    mapping that says in `told` what it is only that."""
    if isinstance(value, Mapping):
        if set(value) == {"secret", "names"}:
            return value["secret"]
        if "told" in value:
            return shown(value["told"])
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_thaw(item) for item in value)
    if isinstance(value, dict):
        return Share(value["share"]) if set(value) == {"share"} else value
    return value
