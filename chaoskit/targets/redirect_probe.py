"""Connections of our own through a redirect, to see a delay with our own eyes.

They go over the loopback of the namespace, to a listener of ours, and carry a socket mark by which
the rules let them in: nobody else's port is asked, whatever the rules are meant for.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaoskit.clock import Cancel, now

BEYOND = 5.0
"""Seconds after its delay in which a byte has come, on a busy machine too."""
EARLY = 0.002
"""Seconds before the delay that still count as it: clocks are read at different moments."""
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Probe:
    """A connection with that socket mark, on which a byte takes at least `up` seconds there and
    `down` seconds back."""

    socket_mark: int
    up: float
    down: float


def delayed(probes: Sequence[Probe], cancel: Cancel) -> bool:
    """Whether all these are redirected and so late; tried at the same time. In the namespace of
    the calling thread. Raises Interrupted."""
    try:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(_LOOK)
            least: dict[socket.socket, float] = {}
            for probe in probes:
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, probe.socket_mark)
                client.settimeout(BEYOND)
                client.connect(listener.getsockname())
                server, there = _accept(listener, cancel)
                stack.enter_context(server)
                if there == client.getsockname():
                    return False  # Nobody stands between.
                least |= {server: probe.up, client: probe.down}
            began = now()
            for side in least:
                side.sendall(b"?")
            return all(now() - began >= late - EARLY for late in _arriving(least, cancel))
    except OSError:
        return False


def _accept(listener: socket.socket, cancel: Cancel) -> tuple[socket.socket, object]:
    end = now() + BEYOND
    while True:
        cancel.check()
        try:
            return listener.accept()
        except TimeoutError:
            if now() > end:
                raise


def _arriving(least: dict[socket.socket, float], cancel: Cancel) -> Iterator[float]:
    """What each must have taken, when its byte has come. Raises OSError when it does not."""
    numbers = {side.fileno(): side for side in least}
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    end = now() + max(least.values()) + BEYOND
    while numbers:
        cancel.check()
        for number, _ in poll.poll(_LOOK * 1000):
            if numbers[number].recv(1) != b"?":
                raise ConnectionError("it was closed")
            poll.unregister(number)
            yield least[numbers.pop(number)]
        if now() > end:
            raise TimeoutError
