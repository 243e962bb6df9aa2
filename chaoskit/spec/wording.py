"""What an annotation asks for, in words, and what a bare number lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from chaoskit.model.units import ENDING, WANTED, Share, Unit
from chaoskit.spec.declared import options, unit_of
from chaoskit.spec.nodes import Listing, Node, Scalar, Table

LARGE = 60
"""A bare number from which on nobody means seconds."""


def wanted(hint: Any) -> str:
    """What an annotation asks for, in words."""
    if unit := unit_of(hint):
        return WANTED[unit]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(word) for word in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {wanted(get_args(hint)[0])}"
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if hint is Share:
        return WANTED[Unit.PERCENT]
    if len(choices := options(hint)) > 1:
        return " or ".join(wanted(choice) for choice in choices if choice is not type(None))
    return words.get(hint, "a value" if hint is Any else "a mapping")


def shape(hint: Any) -> type:
    """The kind of node that can be read as that."""
    hint = get_args(hint)[0] if unit_of(hint) not in (None, Unit.COMMAND) else hint
    origin = get_origin(hint)
    if origin is tuple:
        return Listing
    if hint is not Share and is_dataclass(hint):
        return Table
    return Table if isinstance(origin, type) and issubclass(origin, Mapping) else Scalar


def ending(node: Node, units: list[Unit | None]) -> str:
    """How to write a bare number with its unit."""
    endings = [ENDING[unit] for unit in units if unit and unit in ENDING]
    if not isinstance(node, Scalar) or isinstance(node.value, bool | str | None) or not endings:
        return ""
    if Unit.DURATION in units and isinstance(node.value, int | float) and node.value >= LARGE:
        endings.insert(0, "ms")  # Who writes 200 has most likely meant milliseconds.
    return "; write " + " or ".join(f"{node.shown}{ending}" for ending in endings)
