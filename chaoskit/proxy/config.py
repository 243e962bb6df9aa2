"""The proxies that a configuration file lists: Toxiproxy's format, where each may have its toxics.

A person wrote the file, so nothing unknown is passed over and every error says where it is; reading
the text is the caller's, who knows at which line each value stands.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chaoskit.errors import ChaoskitError
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.populate import PROXY, check, create

if TYPE_CHECKING:
    from chaoskit.proxy.server import Server

Place = tuple[str | int, ...]
"""The keys and numbers that lead to a value, as they are written."""


class WrongEntry(ChaoskitError):
    """taken: nothing is wrong with the entry, but its address cannot be had."""

    def __init__(self, place: Place, message: str, taken: bool = False) -> None:
        super().__init__(message)
        self.place = place
        self.taken = taken


_PROXY: Mapping[str, type] = {**PROXY, "toxics": list, "logger": object}
"""A list that was saved from Toxiproxy 2.12 has `Logger`, which means nothing."""
_TOXIC: Mapping[str, type] = {
    "name": str,
    "type": str,
    "stream": str,
    "toxicity": float,
    "attributes": dict,
    "ttl": float,
    "seed": int,
}
_WANTED = {
    str: "a text",
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    dict: "a mapping",
    list: "a list",
}


def load(server: Server, document: Any) -> None:
    """Make all that the document lists. Raises WrongEntry at the first that cannot be."""
    if not isinstance(document, list):
        raise WrongEntry((), "expected a list of proxies")
    for number, entry in enumerate(document):
        _proxy(server, entry, (number,))


def _proxy(server: Server, entry: Any, place: Place) -> None:
    given = _read(entry, _PROXY, place, "a proxy")
    try:
        check(given)
        link = create(server, given)
    except ProxyError as error:
        raise _wrong(error, place, entry) from error
    for number, toxic in enumerate(given.get("toxics", ())):
        here = (*place, _key(entry, "toxics"), number)
        described = _read(toxic, _TOXIC, here, "a toxic")
        try:
            added = link.add(described)
        except ProxyError as error:
            raise _wrong(error, here, toxic) from error
        known = {field.name for field in dataclasses.fields(added)}  # type: ignore[arg-type]
        for name in described.get("attributes", {}):
            if name.casefold() not in known:
                inside = (*here, _key(toxic, "attributes"), name)
                raise WrongEntry(
                    inside, f"{added.type} has no attribute {name!r}{_meant(name, known)}"
                )


def _read(entry: Any, known: Mapping[str, type], place: Place, what: str) -> dict[str, Any]:
    """The entry by its keys in lower case, each of the type that it must be of."""
    if not isinstance(entry, dict):
        raise WrongEntry(place, f"expected {what}, which is a mapping")
    given = {}
    for key, value in entry.items():
        wanted = known.get(key.casefold())
        if wanted is None:
            raise WrongEntry((*place, key), f"{what} has no {key!r}{_meant(key, known)}")
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if value is not None and not (fits and (wanted is bool or not isinstance(value, bool))):
            raise WrongEntry((*place, key), f"{key} must be {_WANTED[wanted]}")
        if value is not None:
            given[key.casefold()] = value
    return given


def _wrong(error: ProxyError, place: Place, entry: Mapping[str, Any]) -> WrongEntry:
    """The error at the value that it speaks of, if it names one."""
    message = str(error).removeprefix("bad request body: ")
    taken = ": bind: " in message
    if found := re.match(r"attributes\.(\w+)", message):
        place = (*place, _key(entry, "attributes"))
        entry, word = entry[str(place[-1])], found[1]
    else:
        said = {"proxy already": "name", "toxic already": "name", "invalid toxic": "type"}
        first, second = f"{message} ".split(" ")[:2]
        word = said.get(f"{first} {second}", first.rstrip(":"))
    key = _key(entry, word)
    return WrongEntry((*place, key) if key in entry else place, message, taken)


def _key(entry: Mapping[str, Any], name: str) -> str:
    """The name as it is written in the entry."""
    return next((key for key in entry if key.casefold() == name), name)


def _meant(word: str, known: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word.casefold(), list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
