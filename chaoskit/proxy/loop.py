"""One thread, one epoll: sockets, timers and the control interface take turns; nothing is locked.

Written here rather than taken from asyncio because the proxy's speed and the exactness of its
delays hang on it: sockets are watched edge-triggered and once for all, and timers come from a
timerfd, where epoll's own timeout is rounded up to whole milliseconds.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import heapq
import itertools
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

from chaoskit.clock import now

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
URGENT = select.EPOLLPRI
READS = IN | URGENT | select.EPOLLRDHUP | select.EPOLLET
STREAM = READS | OUT
"""How a connection's sockets are watched: every change is told once."""

BATCH = 64
"""Events that are taken at once."""
MANY = 1000
"""Timers that are kept before those that were cancelled are looked for."""
BREATH = 0.005
"""Seconds of serving others after which the urgent ones are looked at again."""
SPELL = 50e-6
"""Seconds for which an event is waited for awake."""


class Timer:
    """One callback at one moment; `cancel` forgets it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """See the module. Everything but `from_thread` is for the loop's own thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._first = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._soon: collections.deque[Callable[[], None]] = collections.deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._alarm = _timerfd()
        self._armed = float("inf")
        self._many = MANY
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._posted: collections.deque[Callable[[], None]] = collections.deque()
        self._guard = threading.Lock()
        self._closing: list[socket.SocketType] = []
        self._running = False
        self._urgent: set[int] = set()
        self._next_breath = 0.0
        self.busy = False  # There was much to do lately: the processor is for those who take it.
        self._brisk = False  # The last event was not waited for for long.
        # Who has one processor for himself and those he waits for lets them have it.
        self._spare = len(os.sched_getaffinity(0)) > 1
        self.watch(self._alarm, self._ring, IN)
        self.watch(self._first.fileno(), self._serve_first, IN)
        self.watch(self._wake, self._woken, IN, urgent=True)

    now = staticmethod(now)

    def watch(
        self,
        fd: int,
        handler: Callable[[int], None],
        events: int = STREAM,
        *,
        urgent: bool = False,
    ) -> None:
        """Call `handler(events)` whenever something happens to the descriptor.

        urgent: served before others, however many of them are ready (the control interface).
        """
        self._handlers[fd] = handler
        if urgent:
            self._urgent.add(fd)
        (self._first if urgent else self._epoll).register(fd, events)

    def hand_over(self, fd: int, handler: Callable[[int], None]) -> None:
        """Have another handler called for a descriptor that is watched."""
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        (self._first if fd in self._urgent else self._epoll).modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget it. Must come before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                (self._first if fd in self._urgent else self._epoll).unregister(fd)
            self._urgent.discard(fd)

    def close_later(self, side: socket.SocketType) -> None:
        """Serve it no more, and close it when this turn's events are served, so that its number
        is not given to a new socket which would then get the old one's events. Closing takes it
        out of the epoll: nobody else has it open."""
        number = side.fileno()
        if self._handlers.pop(number, None) is not None:
            self._urgent.discard(number)
        self._closing.append(side)

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at a moment of CLOCK_MONOTONIC, in seconds; never before it."""
        timer = Timer(when, callback)
        if len(self._timers) >= self._many:
            self._forget_cancelled()
        heapq.heappush(self._timers, (when, next(self._order), timer))
        if when < self._armed:
            self._arm(when)
        return timer

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn, after others had theirs."""
        self._soon.append(callback)

    def from_thread(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's thread; may be called from any thread."""
        with self._guard:
            if self._wake < 0:
                return  # It is over: nobody waits for this any more.
            self._posted.append(callback)
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`. What a callback raises is told on standard error, and costs nobody
        else anything."""
        self._running = True
        while self._running:
            self.turn(-1)

    def turn(self, timeout: float) -> None:
        """Wait at most so many seconds (-1: as long as it takes) and serve what is ready."""
        events = self._wait(0 if self._soon else timeout)
        many = len(events) > 1
        if many:
            self.busy = True
            self._next_breath = now() + BREATH
            if len(events) == BATCH:
                self._serve_first()
        handlers = self._handlers
        for fd, what in events:
            if (handler := handlers.get(fd)) is not None:
                try:
                    handler(what)
                except Exception:
                    traceback.print_exc(file=sys.stderr)
                # Asked here, for each of them: a call would cost as much as some of the work.
                if many and now() >= self._next_breath:
                    self._breathe()
        if self._soon:
            for _ in range(len(self._soon)):
                self._guarded(self._soon.popleft())
                if now() >= self._next_breath:
                    self._breathe()
            if self._armed <= now():
                self._ring()
        if self._closing:
            self._close_them()

    def _wait(self, timeout: float) -> list[tuple[int, int]]:
        """As epoll's own, but for a short while it asks again and again instead of sleeping, if
        the last event has come that soon: to fall asleep and be woken takes longer than to pass a
        small message on."""
        poll, began = self._epoll.poll, now()
        if self._brisk and timeout and not self.busy:
            until = began + SPELL
            while now() < until:
                if events := poll(0, BATCH):
                    return events
        self.busy = False
        events = poll(timeout, BATCH)
        self._brisk = bool(events) and now() - began < SPELL and self._spare
        return events

    def close(self) -> None:
        """Give back its own descriptors; those that are watched belong to others."""
        with self._guard:
            os.close(self._wake)
            self._wake = -1
        self._close_them()
        self._epoll.close()
        self._first.close()
        os.close(self._alarm)

    def _serve_first(self, _: int = IN) -> None:
        for _ in range(2):  # Who has just been let in may have asked already.
            events = self._first.poll(0)
            for fd, what in events:
                if handler := self._handlers.get(fd):
                    try:
                        handler(what)
                    except Exception:
                        traceback.print_exc(file=sys.stderr)
            if not events:
                return

    def _close_them(self) -> None:
        closing, self._closing = self._closing, []
        for side in closing:
            try:
                side.close()
            except OSError:  # It is closed all the same: what is told is of the connection.
                continue

    def _breathe(self) -> None:
        """Others may be many, and each of them may take long."""
        self._serve_first()
        self._next_breath = now() + BREATH

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _woken(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._posted:
            self._guarded(self._posted.popleft())

    def _ring(self, _: int = IN) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._alarm, 8)
        self._armed = float("inf")
        timers = self._timers
        end = now()
        while timers and timers[0][0] <= end:
            callback = heapq.heappop(timers)[2].callback
            if callback is not None:
                self._guarded(callback)
                if now() >= self._next_breath:
                    self._breathe()
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if timers and timers[0][0] < self._armed:
            self._arm(timers[0][0])

    def _forget_cancelled(self) -> None:
        """Their moment may be a day away, and each connection may leave one behind."""
        self._timers[:] = [one for one in self._timers if one[2].callback is not None]
        heapq.heapify(self._timers)
        self._many = max(MANY, 2 * len(self._timers))

    def _arm(self, when: float) -> None:
        self._armed = when
        # A moment of 0 would disarm it.
        nanoseconds = max(1, int(when * 1e9) + 1)
        _LIBC.timerfd_settime(
            self._alarm, _ABSOLUTE, ctypes.byref(_Setting(0, 0, *divmod(nanoseconds, 10**9))), None
        )


class _Setting(ctypes.Structure):
    """struct itimerspec; see timerfd_settime(2). Python has these calls from 3.13 on."""

    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE = 1


def _timerfd() -> int:
    descriptor: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor
