"""Where the messages of an HTTP/1.1 connection begin and end (RFC 9112).

A scanner looks at the bytes of one direction in order, cut in any way, and says where heads and
messages end. It changes nothing and keeps nothing but the head that is not complete yet. What is
not HTTP/1.x, and what two receivers could read in two ways (request smuggling, section 11.2),
loses the scanner for good: nothing is guessed.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

MOST_HEAD = 64 * 1024 - 1
"""Bytes of a head, or of the trailers behind a chunked body; what any stage may hold."""
MOST_FIELDS = 1000
MOST_LINE = 16 * 1024
"""Bytes of the line before a chunk, with its extensions."""
PIECES = 256
"""Chunks of a body that are looked at in one call."""

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_NAME = re.compile(_TCHAR + rb"+")
_REQUEST_LINE = re.compile(
    rb"(" + _TCHAR + rb"{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])\r?\n"
)
_VERSION_BEGINS = rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?"
_REQUEST_BEGINS = re.compile(
    _TCHAR + rb"{1,64}(?: (?:[\x21-\x7e\x80-\xff]+(?: " + _VERSION_BEGINS + rb")?)?)?|\r"
)
_LOOKED_AT = 100
"""Bytes of an incomplete first line that must look like one; behind them no byte may be binary."""
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [^\x00\r\n]*)?\r?\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CODING = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")


@dataclass(frozen=True, slots=True)
class Head:
    """raw: as it came, with the empty lines before it. minor: the version is 1.minor.
    headers: in order, the names in lower case."""

    raw: bytes
    minor: int
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def words(self, name: str) -> list[str]:
        """The elements of a list, in lower case."""
        words = [word for value in self.values(name) for word in value.split(",")]
        return [word.strip(" \t").lower() for word in words]

    @property
    def persists(self) -> bool:
        """Whether its sender keeps the connection for another message (section 9.3)."""
        words = self.words("connection")
        return "close" not in words and (self.minor > 0 or "keep-alive" in words)


@dataclass(frozen=True, slots=True)
class Request(Head):
    method: str
    target: str

    @property
    def path(self) -> str:
        """Of the target in any of its forms (section 3.2), without the query."""
        target = self.target
        if found := _ORIGIN.match(target):
            target = target[found.end() :]
            if not target.startswith("/"):
                target = "/" + target
        return target.partition("?")[0]

    @property
    def may_switch(self) -> bool:
        """Whether what follows may be another protocol, if the answer says so."""
        return self.method == "CONNECT" or any(self.values("upgrade"))

    @property
    def waits(self) -> bool:
        """Whether the client may wait for a word before it sends the body (RFC 9110, 10.1.1)."""
        return "100-continue" in self.words("expect")


@dataclass(frozen=True, slots=True)
class Response(Head):
    status: int


def begins_request(data: bytes) -> bool:
    """Whether it begins with the whole first line of a request."""
    return _REQUEST_LINE.match(data) is not None


def is_token(text: str) -> bool:
    """A method, or the name of a field (RFC 9110, 5.6.2)."""
    return text.isascii() and _NAME.fullmatch(text.encode()) is not None


H = TypeVar("H", bound=Head)


class _Part(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    CHUNK_LINE = enum.auto()
    CHUNK = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    UNTIL_CLOSE = enum.auto()


_CHUNKED, _UNTIL_CLOSE = -1, -2


class _Unclear(Exception):
    """This is not HTTP/1.x, or it could be read in two ways."""


class Scanner(ABC, Generic[H]):
    """See the module. lost: from here on the bytes have no meaning to it."""

    def __init__(self) -> None:
        self.lost = False
        self._part = _Part.HEAD
        self._kept = bytearray()
        self._line = 0  # Where the line begins in `_kept` that is not complete.
        self._fields = 0  # Where the header fields begin in it; 0: the first line is incomplete.
        self._count = 0
        self._left = 0

    def take_kept(self) -> bytes:
        """What was scanned of a head that is not complete; now it is the caller's."""
        kept = bytes(self._kept) if self.in_head else b""
        if kept:
            self._begin(_Part.HEAD)
        return kept

    @property
    def in_head(self) -> bool:
        """Whether the next byte belongs to a head."""
        return self._part is _Part.HEAD

    @property
    def idle(self) -> bool:
        """Whether no message is in progress: one has ended, or none has begun."""
        return self._part is _Part.HEAD and not self._kept and not self.lost

    def lose(self) -> None:
        """Another protocol begins."""
        self.lost = True

    def scan(self, data: bytes, at: int = 0) -> tuple[int, H | None]:
        """Go on from `at` to what is worth knowing first: behind a head (it is returned), behind
        a message (`idle`), where it is lost (what it kept of a head is unread too), behind many
        small chunks of a body, or behind the data."""
        size = len(data)
        pieces = 0
        try:
            while at < size and not self.lost and pieces < PIECES:
                match self._part:
                    case _Part.HEAD:
                        return self._scan_head(data, at)
                    case _Part.BODY | _Part.CHUNK:
                        step = min(self._left, size - at)
                        at += step
                        self._left -= step
                        if self._left:
                            break
                        if self._part is _Part.BODY:
                            self._begin(_Part.HEAD)
                            break
                        self._begin(_Part.CHUNK_END)
                    case _Part.CHUNK_LINE:
                        whole = 0 if self._kept else _whole_chunk(data, at)
                        at = whole or self._scan_chunk_line(data, at)
                        pieces += 1
                    case _Part.CHUNK_END:
                        at = self._scan_chunk_end(data, at)
                    case _Part.TRAILERS:
                        at = self._scan_trailers(data, at)
                        if self.in_head:
                            break
                    case _Part.UNTIL_CLOSE:
                        at = size
        except _Unclear:
            self.lost = True
        return (size if self.lost else at), None

    @abstractmethod
    def _first_line(self, line: bytes) -> bool:
        """Whether the first line of a head is one."""

    @abstractmethod
    def _may_begin(self, line: bytes) -> bool:
        """Whether it could become the first line of a head."""

    @abstractmethod
    def _head(self, raw: bytes, headers: tuple[tuple[str, str], ...]) -> tuple[H, int]:
        """The head, and the size of its body (or _CHUNKED, _UNTIL_CLOSE). Raises _Unclear."""

    def _begin(self, part: _Part, left: int = 0) -> None:
        self._part = part
        self._left = left
        self._kept.clear()
        self._line = self._fields = self._count = 0

    # --- section 2.2: lines; section 5: fields ---------------------------------------------------

    def _take_line(self, data: bytes, at: int, most: int) -> tuple[int, bool]:
        """Keep what belongs to the line: where it ends in the data, and whether it is complete.
        Nothing is kept of what would be too much."""
        found = data.find(b"\n", at)
        end = found + 1 if found >= 0 else len(data)
        if len(self._kept) + end - at > most:
            raise _Unclear
        self._kept += data[at:end]
        return end, found >= 0

    def _scan_head(self, data: bytes, at: int) -> tuple[int, H | None]:
        try:
            while at < len(data):
                begun = at
                at, complete = self._take_line(data, at, MOST_HEAD)
                line = bytes(self._kept[self._line :]) if complete else b""
                if not complete:
                    if not self._fields:
                        self._check_begun(data[begun:at])
                    break
                self._line = len(self._kept)
                if self._fields:
                    self._count += 1
                    if self._count > MOST_FIELDS:
                        raise _Unclear
                    if line in (b"\n", b"\r\n"):
                        return at, self._complete()
                elif line not in (b"\n", b"\r\n"):
                    if not self._first_line(line):
                        raise _Unclear
                    self._fields = len(self._kept)
        except _Unclear:
            self.lost = True
        return at, None

    def _check_begun(self, new: bytes) -> None:
        line = self._kept[self._line : self._line + _LOOKED_AT]
        if not self._may_begin(bytes(line)) or _CONTROL.search(new):
            raise _Unclear

    def _complete(self) -> H:
        raw = bytes(self._kept)
        head, size = self._head(raw, _fields(raw[self._fields : self._line]))
        if size == _CHUNKED:
            self._begin(_Part.CHUNK_LINE)
        elif size == _UNTIL_CLOSE:
            self._begin(_Part.UNTIL_CLOSE)
        else:
            self._begin(_Part.BODY if size else _Part.HEAD, size)
        return head

    # --- section 7.1: chunks ---------------------------------------------------------------------

    def _scan_chunk_line(self, data: bytes, at: int) -> int:
        at, complete = self._take_line(data, at, MOST_LINE)
        if complete:
            found = _CHUNK_LINE.fullmatch(self._kept)
            if not found:
                raise _Unclear
            size = int(found[1], 16)
            self._begin(_Part.CHUNK if size else _Part.TRAILERS, size)
        return at

    def _scan_chunk_end(self, data: bytes, at: int) -> int:
        new = data[at : at + 2 - len(self._kept)]
        self._kept += new
        if not b"\r\n".startswith(bytes(self._kept)):
            raise _Unclear
        if len(self._kept) == 2:
            self._begin(_Part.CHUNK_LINE)
        return at + len(new)

    def _scan_trailers(self, data: bytes, at: int) -> int:
        at, complete = self._take_line(data, at, MOST_HEAD)
        if complete:
            line = bytes(self._kept[self._line :])
            self._line = len(self._kept)
            self._count += 1
            if line in (b"\n", b"\r\n"):
                self._begin(_Part.HEAD)
            elif self._count > MOST_FIELDS:
                raise _Unclear
            else:
                _fields(line)
        return at


class RequestScanner(Scanner[Request]):
    """The direction from the client (sections 3 and 6)."""

    def _first_line(self, line: bytes) -> bool:
        return _REQUEST_LINE.fullmatch(line) is not None

    def _may_begin(self, line: bytes) -> bool:
        return _REQUEST_BEGINS.fullmatch(line) is not None

    def _head(self, raw: bytes, headers: tuple[tuple[str, str], ...]) -> tuple[Request, int]:
        found = _REQUEST_LINE.search(raw)
        assert found
        method, target = found[1].decode(), found[2].decode("utf-8", "surrogateescape")
        request = Request(raw, int(found[3]), headers, method, target)
        size = _size(request, none=0)
        if size == _UNTIL_CLOSE:
            raise _Unclear  # A request has no such body (section 6.3, item 4).
        return request, size


class ResponseScanner(Scanner[Response]):
    """The direction to the client. asked: the method of the request that the next answer is for,
    None when nobody has asked."""

    def __init__(self, asked: Callable[[], str | None]) -> None:
        super().__init__()
        self._asked = asked

    def _first_line(self, line: bytes) -> bool:
        return _STATUS_LINE.fullmatch(line) is not None and self._asked() is not None

    def _may_begin(self, line: bytes) -> bool:
        return line == b"\r" or (b"HTTP/1."[: len(line)] == line[:7] and self._asked() is not None)

    def _head(self, raw: bytes, headers: tuple[tuple[str, str], ...]) -> tuple[Response, int]:
        found = _STATUS_LINE.search(raw)
        assert found
        response = Response(raw, int(found[1]), headers, int(found[2]))
        status, method = response.status, self._asked()
        if status == 101 or (method == "CONNECT" and 200 <= status < 300):
            self.lose()  # Section 6.3, item 2, and RFC 9110, 7.8: another protocol begins.
            return response, 0
        if method == "HEAD" or status < 200 or status in (204, 304):
            return response, 0
        return response, _size(response, none=_UNTIL_CLOSE)


def _whole_chunk(data: bytes, at: int) -> int:
    """Where the chunk ends that begins there; 0 when it is the last, or not all of it is there."""
    found = _CHUNK_LINE.match(data, at)
    if found is None or found.end() - at > MOST_LINE:
        return 0
    size = int(found[1], 16)
    end = found.end() + size
    return end + 2 if size and data[end : end + 2] == b"\r\n" else 0


def _fields(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Section 5. Folded lines, spaces before the colon and lone CRs are read in several ways."""
    found: list[tuple[str, str]] = []
    for line in raw.removesuffix(b"\n").split(b"\n"):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\r" in value or b"\0" in value:
            raise _Unclear
        found.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))
    return tuple(found)


def _size(head: Head, *, none: int) -> int:
    """Of the body by its fields (sections 6.1 to 6.3), `none` when they say nothing."""
    lengths = head.values("content-length")
    if head.values("transfer-encoding"):
        codings = head.words("transfer-encoding")
        # 6.1: neither with a length nor in HTTP/1.0; and "chunked" has no parameters (7.1).
        if lengths or not head.minor or not all(map(_CODING.fullmatch, codings)):
            raise _Unclear
        if "chunked" in codings[:-1]:
            raise _Unclear
        return _CHUNKED if codings[-1] == "chunked" else _UNTIL_CLOSE
    if not lengths:
        return none
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise _Unclear
    return int(lengths[0])
