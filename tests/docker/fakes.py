"""What may listen where a daemon is expected, and is none, or a bad one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Answer = bytes | None
"""What is sent before the connection is closed; None: nothing, and it stays open."""


def http(document: object, status: str = "200 OK") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body


VERSION = http({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10"})


class Fake:
    """Listens on a socket file. answer: what to send to a request for that path."""

    def __init__(self, path: Path, answer: Callable[[str], Answer]) -> None:
        self.url = f"unix://{path}"
        self.asked: list[str] = []
        self._answer = answer
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._open.append(self._listening.accept()[0])
                threading.Thread(target=self._talk, args=self._open[-1:], daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            line = client.recv(65536).split(b"\r\n")[0].decode(errors="replace")
            self.asked.append(line)
            answer = self._answer(line.split(" ")[1] if " " in line else "")
            if answer is not None:
                client.sendall(answer)
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def fake(path: Path, answer: Callable[[str], Answer]) -> Iterator[Fake]:
    made = Fake(path, answer)
    try:
        yield made
    finally:
        made.close()


class Counter:
    """Stands before a daemon's socket, passes everything on, and keeps each request's line.
    before: is called with that line before the request goes on."""

    def __init__(
        self, path: Path, real: Path, before: Callable[[str], None] = lambda _: None
    ) -> None:
        self.url = f"unix://{path}"
        self.asked: list[str] = []
        self._before = before
        self._real = real
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._real))
                for one, other, count in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass, args=(one, other, count), daemon=True
                    ).start()

    def _pass(self, one: socket.socket, other: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                # A request of the SDK's is one segment, and comes after the answer to the last.
                if count and data.split(b" ", 1)[0] in (b"GET", b"POST", b"PUT", b"DELETE"):
                    self.asked.append(data.split(b"\r\n")[0].decode())
                    self._before(self.asked[-1])
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if not count:
            one.close()
            other.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def posted(self, what: str) -> int:
        """How many requests to do that there have been."""
        return sum(line.startswith("POST ") and f"/{what}" in line for line in self.asked)
