"""One thread that hears everything from outside: signals, the halt, the clock, the guardian.

A signal handler in Python may interrupt a thread that holds a lock and so may take none: here the
interpreter only writes the signal's number to a pipe, and this thread does the rest. It also
beats, so that the guardian knows that the runner is neither stopped nor hung.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from chaoskit.clock import now
from chaoskit.engine.abort import Abort
from chaoskit.engine.guard import Guard

TICK = 0.05
"""Seconds between looks at what gives no event of its own: the halt file, the deadline."""

_DEAD = "the guardian died: no run goes on without one"
_ABORTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ears:
    """Listens from `start` to `stop`. deadline: CLOCK_MONOTONIC seconds of the hard deadline."""

    def __init__(
        self,
        abort: Abort,
        guard: Guard,
        halt_file: Path,
        halt_text: Callable[[], str],
        deadline: float,
        trouble: Callable[[], str],
        told: Callable[[str], None],
    ) -> None:
        self._abort = abort
        self._guard = guard
        self._halt_file = halt_file
        self._halt_text = halt_text
        self._deadline = deadline
        self._trouble = trouble
        self._told = told
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._thread = threading.Thread(target=self._listen, name="ears", daemon=True)
        self._stopping = threading.Event()
        self._signals = 0
        self.minds_halt = False
        """Set once the plan is made: a halt that was there before refuses the run instead."""
        self.closing = False
        """Set when the verdict is in: the guardian is about to be let go."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"\0")
        self._thread.join(2.0)
        if not self._thread.is_alive():
            os.close(self._reading)
            os.close(self._writing)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While this is open, signals abort the run and Ctrl-Z does nothing.

        Only the main thread may say what a signal does; in another one this changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*_ABORTING, signal.SIGTSTP)}
        wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in before:
            # `nohup` means that the run shall outlive the terminal: what is ignored stays so.
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, _nothing)
        try:
            for came in next((h for h in before.values() if isinstance(h, Came)), ()):
                self._signal(came)
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        if self._guard.answers >= 0:
            poll.register(self._guard.answers, select.POLLIN)
        while not self._stopping.is_set():
            for file, _event in poll.poll(TICK * 1000):
                if file == self._reading:
                    for number in os.read(self._reading, 64):
                        self._signal(number)
                elif not self._guard.heard(os.read(file, 64)):
                    poll.unregister(file)
                    if not self.closing:
                        self._abort.pull("guardian", _DEAD)
            self._guard.beat()
            self._look()

    def _signal(self, number: int) -> None:
        if number == 0 or number not in (*_ABORTING, signal.SIGTSTP):
            return
        name = signal.Signals(number).name
        if number == signal.SIGTSTP:
            self._told("Ctrl-Z would leave the fault in, so it does nothing; Ctrl-C undoes")
            return
        self._signals += 1
        if self._signals > 1:
            self._told(f"{name} again: already undoing, nothing to hurry")
        self._abort.pull("signal", f"{name} received", hurry=True)

    def _look(self) -> None:
        if self._abort.hurry.is_set or self.closing:
            return
        if self._guard.deaf:
            self._abort.pull("guardian", "the guardian does not answer: no run goes on without one")
        if self.minds_halt and self._halt_file.exists():
            self._abort.pull("halt", self._halt_text(), hurry=True)
        elif now() > self._deadline:
            self._abort.pull("deadline", "the run's max-duration is over", hurry=True)
        elif trouble := self._trouble():
            self._abort.pull("disk", trouble)


class Came(list[int]):
    """The signals that came while no run was on; what handles them."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.append(number)


@contextlib.contextmanager
def late_signals() -> Iterator[Came]:
    """For a command that does nothing but run: a second Ctrl-C that comes when the run is over
    already changes neither its report nor its exit code, up to the very end of the process.

    Gives the signals that came while no run was on: the next run is aborted by them before it has
    hurt anybody. Only for the main thread.
    """
    came = Came()
    for number in _ABORTING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, came)
    try:
        yield came
    finally:
        # The interpreter puts the default back when it ends, so a handler is not enough.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ABORTING)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Only so that the signal is not fatal; the pipe tells the thread."""
