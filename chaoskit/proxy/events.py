"""What happens in the proxy, told as it happens to whoever listens (server-sent events).

A reader that is slow costs a bounded queue: what finds no room in it is counted, and the reader is
told how much it has lost as soon as it reads again.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from chaoskit.clock import stamp
from chaoskit.proxy import wire

if TYPE_CHECKING:
    from chaoskit.proxy.loop import Timer
    from chaoskit.proxy.server import Server

MOST_LISTENERS = 100
MOST_QUEUED = 1024 * 1024
"""Bytes of events that wait for one reader."""
HEARTBEAT = 15.0
"""Seconds between comments that keep a quiet stream open."""

CONTENT_TYPE = "text/event-stream"
_BEAT = b": still here\n\n"


class Listener:
    """One reader's queue."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """wake: called when there is something to take."""
        self._wake = wake
        self._queue: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._lost = 0
        self._lost_last = 0

    def put(self, number: int, frame: bytes) -> None:
        if self._lost or (self._queue and self._size + len(frame) > MOST_QUEUED):
            self._lost += 1
            self._lost_last = number
        else:
            self._queue.append(frame)
            self._size += len(frame)
        self._wake()

    def beat(self) -> None:
        """A sign of life, unless there is something better to send."""
        if not self._queue:
            self._queue.append(_BEAT)
            self._wake()

    def take(self) -> bytes:
        """All that waits, and how much was lost behind it; empty when there is nothing."""
        taken = b"".join(self._queue)
        self._queue.clear()
        self._size = 0
        if self._lost:
            taken += _frame(self._lost_last, "lost", {"events": self._lost})
            self._lost = 0
        return taken


class Events:
    """All listeners of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._listeners: set[Listener] = set()
        self._numbers = itertools.count(1)
        self._timer: Timer | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST_LISTENERS

    def listen(self, wake: Callable[[], None]) -> Listener:
        """A new listener; give it back with `leave`."""
        listener = Listener(wake)
        self._listeners.add(listener)
        if self._unsubscribe is None:
            # While nobody listens, nothing is told and no connection pays for it.
            self._unsubscribe = self._server.subscribe(self._happened)
            self._set()
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners:
            self.close()

    def close(self) -> None:
        """Listen to the server no more."""
        self._listeners.clear()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _happened(self, kind: str, told: dict[str, object]) -> None:
        number = next(self._numbers)
        frame = _frame(number, kind, {"at": stamp(), **told})
        for listener in tuple(self._listeners):
            listener.put(number, frame)

    def _set(self) -> None:
        self._timer = self._loop.at(self._loop.now() + HEARTBEAT, self._beat)

    def _beat(self) -> None:
        for listener in tuple(self._listeners):
            listener.beat()
        if self._listeners:
            self._set()


def _frame(number: int, kind: str, told: dict[str, object]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), wire.encode(told))
