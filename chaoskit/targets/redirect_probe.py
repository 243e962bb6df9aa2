"""Connections of our own through a redirect, to see a delay with our own eyes.

They go over the loopback of the namespace, to a listener of ours, and carry a socket mark by which
the rules let them in: nobody else's port is asked, whatever the rules are meant for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

from chaoskit.clock import Cancel, now

R = TypeVar("R")

BEYOND = 5.0
"""Seconds after its delay in which a byte has come, on a busy machine too."""
EARLY = 0.002
"""Seconds before the delay that still count as it: clocks are read at different moments."""
_LOOK = 0.05


def delayed(socket_mark: int, up: float, down: float, cancel: Cancel) -> bool:
    """Whether a connection with that mark is redirected, and a byte takes at least `up` seconds
    there and `down` seconds back. In the namespace of the calling thread. Raises Interrupted."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, socket_mark)
            client.settimeout(BEYOND)
            client.connect(listener.getsockname())
            here = client.getsockname()
            server, there = _wait(listener, listener.accept, BEYOND, cancel)
            with server:
                if there == here:
                    return False  # Nobody stands between.
                return _takes(client, server, up, cancel) and _takes(server, client, down, cancel)
    except OSError:
        return False


def _takes(sender: socket.socket, receiver: socket.socket, least: float, cancel: Cancel) -> bool:
    began = now()
    sender.sendall(b"?")
    data = _wait(receiver, lambda: receiver.recv(1), least + BEYOND, cancel)
    return data == b"?" and now() - began >= least - EARLY


def _wait(side: socket.socket, work: Callable[[], R], most: float, cancel: Cancel) -> R:
    end = now() + most
    while True:
        cancel.check()
        side.settimeout(_LOOK)
        try:
            return work()
        except TimeoutError:
            if now() > end:
                raise
