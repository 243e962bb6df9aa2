"""Finds the others by name, and does not wait for a name for ever.

The time-out of a connection begins when the address is known: to ask for that has none, and a
service that is stopped has no name any more. So a lookup goes on behind, one for each name, and who
needs the address waits for it only so long.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late

FRESH = 0.5
"""Seconds in which an address is not asked for again."""

_lookups: dict[str, tuple[float, Future[str]]] = {}
_guard = threading.Lock()


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A connection, each step of which may take that long. Raises OSError."""
    return socket.create_connection((address(host, timeout), port), timeout)


def address(host: str, timeout: float) -> str:
    with _guard:
        began, lookup = _lookups.get(host, (0.0, None))
        if lookup is None or (lookup.done() and time.monotonic() - began > FRESH):
            lookup = Future()
            _lookups[host] = time.monotonic(), lookup
            threading.Thread(target=_look_up, args=(host, lookup), daemon=True).start()
    try:
        return lookup.result(timeout)
    except Late as error:
        raise TimeoutError(f"nobody says where {host} is") from error


def _look_up(host: str, lookup: Future[str]) -> None:
    try:
        lookup.set_result(str(socket.getaddrinfo(host, None)[0][4][0]))
    except OSError as error:
        lookup.set_exception(OSError(f"{host}: {error.strerror}"))
