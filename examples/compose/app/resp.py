"""Asks Redis: a command is a list of words, an answer is text, a number, a list or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from names import connect

Answer = str | int | None | list[Any]


class Refused(Exception):
    """It answered, and said no: out of memory, still loading, not a command."""


def ask(host: str, timeout: float, *words: str | int) -> Answer:
    """One command on a connection of its own. Raises OSError for all that is the network's."""
    with Connection(host, timeout) as cache:
        return cache.ask(*words)


class Connection:
    """One conversation; also a `with` block."""

    def __init__(self, host: str, timeout: float) -> None:
        self._socket = connect(host, 6379, timeout)
        self._file = self._socket.makefile("rb")

    def ask(self, *words: str | int) -> Answer:
        return self.ask_all([words])[0]

    def ask_all(self, commands: Sequence[Sequence[str | int]]) -> list[Answer]:
        """All of them on one way there and back; the cache syncs its disk once for all."""
        self._socket.sendall(b"".join(map(_command, commands)))
        return [self._answer() for _ in commands]

    def _answer(self) -> Answer:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the cache hung up")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise Refused(rest)
        if kind == b"+":
            return rest
        size = int(rest)
        if kind == b":":
            return size
        if size < 0:
            return None
        if kind == b"*":
            return [self._answer() for _ in range(size)]
        data = self._file.read(size + 2)
        if len(data) < size + 2:
            raise ConnectionError("the cache hung up")
        return data[:-2].decode()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self._socket.close()


def _command(words: Sequence[str | int]) -> bytes:
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)
