"""Talking to the control interface by the byte, from outside and from inside its process."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

import peers

from chaoskit.proxy.control import Control
from chaoskit.proxy.server import Server

HOST = b"Host: localhost\r\n"
VERSION = b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n"


def assert_well(server: peers.Running) -> None:
    answer = peers.ask(server, "GET", "/version")
    assert (answer.status, json.loads(answer.body)["version"]) == (200, "2.12.0")


def connected(server: peers.Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 20)


def sent(server: peers.Running, data: bytes, *, shut: bool = True) -> bytes:
    """All that comes back on a connection on which this is sent."""
    with connected(server) as side:
        with contextlib.suppress(OSError):
            side.sendall(data)
            if shut:
                side.shutdown(socket.SHUT_WR)
        return drained(side)


def drained(side: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := side.recv(65536):
            answer += data
    return answer


def until(side: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        data = side.recv(65536)
        assert data, f"it ended after {answer!r}"
        answer += data
    return answer


@contextlib.contextmanager
def inside() -> Iterator[tuple[Server, int, Callable[[Callable[[], object]], None]]]:
    """A server in a thread of this process, its port, and a way to do something in its loop."""
    server = Server()
    control = Control(server)

    def do(callback: Callable[[], object]) -> None:
        done = threading.Event()
        server.loop.from_thread(lambda: (callback(), done.set()))
        assert done.wait(20)

    port = int(control.listen("127.0.0.1:0").rpartition(":")[2])
    thread = threading.Thread(target=server.loop.run)
    thread.start()
    try:
        yield server, port, do
    finally:
        server.loop.from_thread(server.loop.stop)
        thread.join(20)
        control.close()
        server.close()
