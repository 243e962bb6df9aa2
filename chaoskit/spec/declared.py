"""What a frozen dataclass declares of the file: its keys, what they hold, and what is required.

The decoder and the JSON Schema both go by it. A field is the key of its name with `-` for `_`; its
metadata may say more:

    doc       what it is, for editors and `chaoskit faults`
    key       another key; None for a field that is no key of the file (so does `internal`)
    default   its value when the file says nothing, for a field without a default of its own
    seen      it names what it is part of, for other runs and in lists of processes, too: no
              secret may be in it
    min, max  the least and the most it may be, and `above` what it must be above
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from chaoskit.model.experiment import Position
from chaoskit.model.units import Share, Unit


class Declared:
    """One field. default: MISSING when the key is required."""

    __slots__ = ("default", "doc", "hint", "key", "limits", "name", "seen")

    def __init__(self, name: str, key: str, hint: Any, default: Any, meta: Mapping[str, Any]):
        self.name = name
        self.key = key
        self.hint = hint
        self.default = default
        self.doc = str(meta.get("doc", ""))
        self.seen = bool(meta.get("seen"))
        self.limits = {word: meta[word] for word in ("min", "max", "above") if word in meta}
        if key == "timeout":
            self.limits.setdefault("above", 0)

    @property
    def required(self) -> bool:
        return self.default is MISSING


def declared(kind: type[Any]) -> tuple[Declared, ...]:
    """The keys that a dataclass declares. Raises TypeError when it is none, or when an annotation
    cannot be read from a file."""
    return _read(kind)[0]


def position_fields(kind: type[Any]) -> tuple[str, ...]:
    """The fields that say where the thing stands; the loader fills them."""
    return _read(kind)[1]


_known: dict[type[Any], tuple[tuple[Declared, ...], tuple[str, ...]]] = {}


def _read(kind: type[Any]) -> tuple[tuple[Declared, ...], tuple[str, ...]]:
    if kind in _known:
        return _known[kind]
    name = kind.__name__
    if not is_dataclass(kind):
        raise TypeError(f"{name} is no dataclass")
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise TypeError(f"{name}: {error}") from error
    found, positions = [], []
    for item in fields(kind):
        meta = item.metadata
        key = meta.get("key", item.name.rstrip("_").replace("_", "-"))
        hint = hints[item.name]
        if Position in options(hint):
            positions.append(item.name)
            continue
        if not item.init or key is None or meta.get("internal") or item.name == "wants":
            continue
        default = item.default
        if item.default_factory is not MISSING:
            default = item.default_factory()
        if "default" in meta:
            default = meta["default"]
        _check(hint, f"{name}.{item.name}")
        found.append(Declared(item.name, key, hint, default, meta))
    _known[kind] = tuple(found), tuple(positions)
    return _known[kind]


_NUMBERS = (Unit.SIZE, Unit.RATE, Unit.NUMBER)


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one thing that it is.

    Beside another number a Percent is a Share: 50% and 0.5 are different things there.
    """
    if get_origin(hint) not in (Union, UnionType):
        return (hint,)
    found = get_args(hint)
    if any(o in (int, float) or unit_of(o) in _NUMBERS for o in found):
        found = tuple(dict.fromkeys(Share if unit_of(o) is Unit.PERCENT else o for o in found))
    return found


def unit_of(hint: Any) -> Unit | None:
    """The unit in an annotation."""
    if get_origin(hint) is not Annotated:
        return None
    return next((u for u in hint.__metadata__ if isinstance(u, Unit)), None)


def _check(hint: Any, where: str) -> None:
    from typing import Literal

    for option in options(hint):
        origin = get_origin(option)
        if unit_of(option) or option in (str, int, float, bool, type(None), Share, Any):
            continue
        if origin is Literal or (isinstance(option, type) and is_dataclass(option)):
            continue
        if origin is tuple and get_args(option)[1:] == (...,):
            _check(get_args(option)[0], where)
        elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            if get_args(option)[0] is not str:
                raise TypeError(f"{where}: keys are text")
            _check(get_args(option)[1], where)
        else:
            raise TypeError(f"{where}: {option} cannot be read from a file")
