"""Time, in one place: monotonic for every decision, the wall clock only for what people read.

A wall clock that is set back or forward changes no hold, deadline or gate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from chaoskit.errors import Interrupted

R = TypeVar("R")

now = time.monotonic
"""Seconds on CLOCK_MONOTONIC: the same for all processes of one boot, blind to clock changes."""


def stamp() -> str:
    """The wall clock as RFC 3339 in UTC with milliseconds, for records that people read."""
    wall = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall)) + f".{int(wall % 1 * 1000):03d}Z"


class Cancel:
    """One flag that an abort raises and every wait looks at. It is never lowered."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise Interrupted when the run is aborting: call it between the parts of long work."""
        if self._event.is_set():
            raise Interrupted("the run is aborting")

    def wait(self, seconds: float) -> bool:
        """Wait that long or until the abort, whichever is first; True when aborting."""
        return self._event.wait(max(0.0, seconds))


def backoff(patience: float, first: float = 0.001, most: float = 0.05) -> Iterator[float]:
    """Yield the seconds to sleep between looks, growing, until `patience` seconds are over.

    The first look is free (0.0), and there is always one last look at the end of the patience.
    """
    end = now() + patience
    yield 0.0
    pause = first
    while (left := end - now()) > 0:
        yield min(pause, left)
        pause = min(pause * 1.5, most)


def until(condition: Callable[[], bool], patience: float) -> bool:
    """Look until the condition holds or the patience (seconds) is over; whether it held."""
    for pause in backoff(patience):
        if pause:
            time.sleep(pause)
        if condition():
            return True
    return False


def within(patience: float, ask: Callable[[], R]) -> R:
    """What `ask` returns or raises, or TimeoutError: names that are looked up, and answers that
    come a byte at a time, have no time-out of their own."""
    done: list[R] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(ask())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="asked", daemon=True)
    thread.start()
    thread.join(patience + 0.1)  # Its own time-outs say more.
    for error in failed:
        raise error
    if not done:
        raise TimeoutError
    return done[0]
