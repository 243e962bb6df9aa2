"""JSON with positions: what YAML parsers reject of it (tabs, some escapes) is read too."""

from __future__ import annotations

import re
from bisect import bisect_right
from json import JSONDecodeError
from json import decoder as json_decoder

from chaoskit.spec.nodes import (
    MOST_DEPTH,
    Listing,
    Node,
    Scalar,
    Table,
    add_entry,
    grow,
    make_scalar,
)
from chaoskit.spec.problems import At, Problems

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null")


class NoJson(Exception):
    """The text is something else; YAML may tell what."""


class JsonReader:
    """Reads one text once."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._lines = [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", text))]
        self._index = 0

    def read(self) -> Node:
        """The whole text. Raises NoJson when it is none, InputError when it is too deep."""
        self._space()
        node = self._value(0)
        self._space()
        if self._index != len(self._text):
            raise NoJson
        return node

    def _at(self, index: int) -> At:
        line = bisect_right(self._lines, index)
        return line, index - self._lines[line - 1] + 1

    def _space(self) -> str:
        """Go over white space; the character there, or "" at the end."""
        found = _SPACE.match(self._text, self._index)
        assert found
        self._index = found.end()
        return self._text[self._index : self._index + 1]

    def _value(self, depth: int) -> Node:
        at, first = self._at(self._index), self._space()
        if first in ("{", "["):
            if depth == MOST_DEPTH:
                self._problems.stop(at, f"nested deeper than {MOST_DEPTH}")
            return self._table(at, depth + 1) if first == "{" else self._listing(at, depth + 1)
        if first == '"':
            return make_scalar(at, self._string(), False, self._problems)
        if not (found := _PLAIN.match(self._text, self._index)):
            raise NoJson
        self._index = found.end()
        return make_scalar(at, found[0], True, self._problems)

    def _string(self) -> str:
        try:
            # Not in the stubs; the decoder's own, in C where there is one.
            scan = json_decoder.scanstring  # type: ignore[attr-defined]
            text, self._index = scan(self._text, self._index + 1, True)
        except JSONDecodeError as error:
            raise NoJson from error
        return str(text)

    def _listing(self, at: At, depth: int) -> Listing:
        listing = Listing(at)
        self._index += 1
        if self._space() == "]":
            self._index += 1
            return listing
        while True:
            self._space()
            item = self._value(depth)
            listing.items.append(item)
            grow(listing, item, self._problems, item.at)
            if not self._more("]"):
                return listing

    def _table(self, at: At, depth: int) -> Table:
        table = Table(at)
        self._index += 1
        if self._space() == "}":
            self._index += 1
            return table
        while True:
            if self._space() != '"':
                raise NoJson
            key_at = self._at(self._index)
            key: Scalar = make_scalar(key_at, self._string(), False, self._problems)
            if self._space() != ":":
                raise NoJson
            self._index += 1
            self._space()
            node = self._value(depth)
            grow(table, node, self._problems, node.at)
            add_entry(table, key.text, key_at, node, self._problems)
            if not self._more("}"):
                return table

    def _more(self, end: str) -> bool:
        """Whether a comma follows rather than the end."""
        found = self._space()
        if found not in (",", end) or not found:
            raise NoJson
        self._index += 1
        return found == ","
