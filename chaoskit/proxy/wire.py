"""JSON as Go reads and writes it, because that is what clients of Toxiproxy were written against.

Keys are matched whatever their case, what follows the first value is ignored, and what is wrong is
told in Go's words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from chaoskit.proxy.errors import bad_request

_EXPLAINED = 32 * 1024
"""Bytes of broken JSON that are looked through for its first fault: the loop waits meanwhile."""


def decode(body: bytes) -> Any:
    """The first value in the body. Raises ProxyError."""
    text = body.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, _ = _DECODER.raw_decode(text, start)
        return _whole(value) if "\\u" in text else value
    except RecursionError:
        raise bad_request("exceeded max depth") from None
    except ValueError:
        raise bad_request(_fault(body)) from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _whole(value: Any) -> Any:
    """Half characters, as escapes may say them, replaced as Go replaces them."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def fields(
    document: Any,
    known: Mapping[str, type],
    whole: str,
    part: str | Mapping[str, str],
    attributes: str = "",
) -> dict[str, Any]:
    """What a document says of the known fields, which are in lower case; null says nothing.

    known: the type of each. whole: what Go calls the document; part: what a field is part of, by
    its name where they differ ("" for the others); attributes: the type of the field of that name.
    Raises ProxyError.
    """
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise bad_request(f"json: cannot unmarshal {kind(document)} into Go value of type {whole}")
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = key.casefold()
        wanted = known.get(name)
        if wanted is None or value is None:
            continue
        if not _fits(value, wanted):
            owner = part if isinstance(part, str) else part.get(name, part[""])
            raise bad_request(
                f"json: cannot unmarshal {kind(value)} into Go struct field {owner}.{name} "
                f"of type {attributes if wanted is dict else _GO[wanted]}"
            )
        found[name] = value
    return found


_GO = {str: "string", bool: "bool", float: "float32", int: "int64"}


def _fits(value: Any, wanted: type) -> bool:
    if wanted in (int, float):
        return isinstance(value, wanted | int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def kind(value: Any) -> str:
    """What Go calls a value of that kind."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def encode(value: Any) -> bytes:
    """The value as Go writes it: no spaces, `<`, `>` and `&` escaped, 1 for 1.0."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "replace")


_ODD = re.compile("[<>&\u2028\u2029]")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(r"[0-9]*")
_VALUE = "looking for beginning of value"


class _Broken(Exception):
    """Reading cannot go on; the message is Go's."""


def _fault(body: bytes) -> str:
    """Go's words for the first fault in a body that is no JSON."""
    # Go goes by bytes: each is shown as if it were a character.
    text = body[:_EXPLAINED].decode("latin-1")
    if not text.strip(" \t\r\n"):
        return "EOF"
    try:
        _Scan(text).all()
    except _Broken as broken:
        return str(broken)
    return "invalid JSON"


class _Scan:
    """Goes through a text as Go's scanner does, up to its first fault."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def all(self) -> None:
        """Read one value. Raises _Broken."""
        opened: list[str] = []
        while True:
            if self._space() in ("{", "["):
                opened.append(self._text[self._at])
                self._at += 1
                if self._space() in ("}", "]") and self._closes(opened):
                    self._at += 1
                    opened.pop()
                else:
                    self._key(opened)
                    continue
            else:
                self._scalar()
            while opened and self._space() != ",":
                if not self._closes(opened):
                    inside = "object key:value pair" if opened[-1] == "{" else "array element"
                    self._broken(f"after {inside}")
                opened.pop()
                self._at += 1
            if not opened:
                return
            self._at += 1
            self._key(opened)

    def _closes(self, opened: list[str]) -> bool:
        return self._text[self._at] == ("}" if opened[-1] == "{" else "]")

    def _key(self, opened: list[str]) -> None:
        if opened[-1] == "[":
            return
        if self._space() != '"':
            self._broken("looking for beginning of object key string")
        self._string()
        if self._space() != ":":
            self._broken("after object key")
        self._at += 1

    def _space(self) -> str:
        found = _SPACE.match(self._text, self._at)
        assert found
        self._at = found.end()
        return self._next()

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Broken("unexpected EOF")
        return self._text[self._at]

    def _broken(self, where: str) -> None:
        c = self._next()
        shown = {"'": "\\'", '"': '"'}.get(c) or repr(c)[1:-1]
        raise _Broken(f"invalid character '{shown}' {where}")

    def _scalar(self) -> None:
        first = self._next()
        if first == '"':
            self._string()
        elif first == "-" or first.isdigit():
            self._number()
        elif word := {"t": "true", "f": "false", "n": "null"}.get(first):
            for c in word:
                if self._next() != c:
                    self._broken(f"in literal {word} (expecting '{c}')")
                self._at += 1
        else:
            self._broken(_VALUE)

    def _string(self) -> None:
        self._at += 1
        while True:
            found = _PLAIN.match(self._text, self._at)
            assert found
            self._at = found.end()
            c = self._next()
            if c not in '"\\':
                self._broken("in string literal")
            self._at += 1
            if c == '"':
                return
            if self._next() not in 'bfnrt\\/"u':
                self._broken("in string escape code")
            self._at += 1
            if self._text[self._at - 1] == "u":
                for _ in range(4):
                    if self._next() not in "0123456789abcdefABCDEF":
                        self._broken("in \\u hexadecimal character escape")
                    self._at += 1

    def _number(self) -> None:
        if self._next() == "-":
            self._at += 1
        if self._next() == "0":
            self._at += 1
        else:
            self._digits("in numeric literal")
        if self._text[self._at : self._at + 1] == ".":
            self._at += 1
            self._digits("after decimal point in numeric literal")
        if self._text[self._at : self._at + 1] in ("e", "E"):
            self._at += 1
            if self._next() in "+-":
                self._at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, where: str) -> None:
        if self._next() not in "0123456789":
            self._broken(where)
        found = _DIGITS.match(self._text, self._at)
        assert found
        self._at = found.end()
