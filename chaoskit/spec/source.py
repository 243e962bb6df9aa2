"""From a file's bytes to text that is safe to parse: size, encoding, characters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from chaoskit.errors import InputError, Problem
from chaoskit.spec.problems import START, At

MOST_BYTES = 1024 * 1024

# The first that fits: UTF-32's mark begins with UTF-16's.
_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Line breaks to YAML 1.1 parsers and not to YAML 1.2; and what Unicode says is no character. One by
# one, because a character class that reaches so far takes milliseconds to compile.
_ODD = ("\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff")


def read(path: Path) -> bytes:
    """The bytes of that file, no more than just above the limit. Raises InputError."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except IsADirectoryError:
        _refuse(str(path), START, "is a folder, not a file")
    except FileNotFoundError:
        _refuse(str(path), START, "there is no such file")
    except OSError as error:
        _refuse(str(path), START, f"cannot be read: {error.strerror}")
    except ValueError:
        _refuse(str(path), START, "is no name of a file")


def text_of(source: str | bytes, name: str) -> str:
    """The text, without a byte order mark. Raises InputError when it is too large, not UTF-8 or
    holds characters that YAML forbids."""
    if isinstance(source, str):
        source = source.encode("utf-8", "surrogatepass")
    if len(source) > MOST_BYTES:
        _refuse(name, START, "is larger than 1 MiB, which no experiment is")
    for mark, encoding in _MARKS:
        if source.startswith(mark):
            _refuse(name, START, f"is written in {encoding}; save it as UTF-8")
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Its positions are after the mark; the bytes before it are UTF-8.
        before = error.object[: error.start].decode()
        _refuse(
            name,
            position(before, len(before)),
            f"is not UTF-8: byte 0x{error.object[error.start]:02x} cannot stand here; "
            "save the file as UTF-8",
        )
    if text[1:2] == "\0" or (text.startswith("\0") and text[1:2] not in ("", "\0")):
        _refuse(name, START, "is written in UTF-16; save it as UTF-8")
    odd = [found.start()] if (found := _CONTROL.search(text)) else []
    if not text.isascii():
        odd += [index for c in _ODD if (index := text.find(c)) >= 0]
    if odd:
        index = min(odd)
        code = ord(text[index])
        hint = f'; in double quotes write "\\u{code:04x}"' if code else ""
        _refuse(
            name,
            position(text, index),
            f"the character U+{code:04X} cannot stand here{hint}",
        )
    return text


def position(text: str, index: int) -> At:
    """Line and column, from 1, of an index. CR, LF and CR LF each end a line."""
    before = text[:index]
    line = before.count("\n") + before.count("\r") - before.count("\r\n")
    return line + 1, index - max(before.rfind("\n"), before.rfind("\r"))


def _refuse(name: str, at: At, message: str) -> NoReturn:
    raise InputError([Problem(name, *at, message)])
