"""Asks PostgreSQL, in its own protocol and no more of it than is needed: text in, text out.

Each connection has one deadline for silence. One that has met with it is closed: nobody knows what
its server has done, and what it would answer next belongs to the question before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from names import connect

Row = tuple[str | None, ...]


class Refused(Exception):
    """The server answered, and said no. `code`: its five letters, such as 53100 for a full disk."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", "no reason given"))
        self.code = fields.get("C", "")


class Connection:
    """One conversation; also a `with` block. Raises OSError for all that is the network's."""

    def __init__(self, host: str, timeout: float, user: str = "market") -> None:
        self._socket = connect(host, 5432, timeout)
        self._file = self._socket.makefile("rb")
        words = f"user\0{user}\0database\0postgres\0application_name\0market\0\0".encode()
        self._socket.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
        for _ in self._until_ready():
            pass

    def query(self, sql: str, *values: str | int | None) -> list[Row]:
        """One statement or several; each %s in it becomes a value. The rows of all of them."""
        text = sql % tuple(map(literal, values)) if values else sql
        words = text.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!i", len(words) + 4) + words)
        return [_row(body) for kind, body in self._until_ready() if kind == b"D"]

    def _until_ready(self) -> Iterator[tuple[bytes, bytes]]:
        refused = None
        while True:
            kind, body = self._message()
            if kind == b"E":
                refused = Refused(_fields(body))
                if not body or refused.code.startswith(("57P", "28", "53300")):
                    raise refused  # It hangs up after this one.
            elif kind == b"R" and body != b"\0\0\0\0":
                raise ConnectionError("it asks for a password")
            elif kind == b"Z":
                break
            yield kind, body
        if refused:
            raise refused

    def _message(self) -> tuple[bytes, bytes]:
        kind, size = struct.unpack("!ci", self._exactly(5))
        return kind, self._exactly(size - 4)

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the database hung up")
        return data

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self._socket.close()


def literal(value: str | int | None) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _row(body: bytes) -> Row:
    (count,) = struct.unpack_from("!h", body)
    values: list[str | None] = []
    at = 2
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return tuple(values)


def _fields(body: bytes) -> dict[str, str]:
    parts = body.decode(errors="replace").split("\0")
    return {part[0]: part[1:] for part in parts if part}
