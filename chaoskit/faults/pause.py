"""Freeze a process and all below it, as a hung machine or a long garbage collection does."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaoskit.capabilities import HasProcesses, Proc
from chaoskit.clock import now
from chaoskit.errors import Gone
from chaoskit.model.fault import Change, Fault, Found
from chaoskit.model.units import Json


@dataclass(frozen=True)
class Pause(Fault[HasProcesses]):
    """Stop every process of the tree, and let it go on afterwards."""

    name = "pause"
    needs = HasProcesses

    def changes(self, target: HasProcesses) -> Iterator[Change]:
        # A process that has not stopped yet may fork, and a signal needs a moment: it is over when
        # all were seen stopped, and a listing after that shows nobody new.
        seen: set[str] = set()
        frozen: set[str] = set()
        """Who was stopped already, and tells nothing of whether the others are being stopped."""
        sure = False
        end = now() + self.patience
        while now() < end:
            tree = target.tree()
            new = [process for process in tree if process.key not in seen]
            for process in new:
                seen.add(process.key)
                with contextlib.suppress(Gone):
                    if (was := _state(process)) == "stopped":
                        frozen.add(process.key)
                    yield Change(process.key, was, "stopped")
            if new:
                sure = False
                continue
            stopped = [_stopped(process) for process in tree if process.key not in frozen]
            if (sure and all(stopped)) or not any(stopped):
                return  # Nobody stops: this is a plan, which makes nothing.
            sure = all(stopped)
            if not sure:
                time.sleep(0.001)

    def look(self, target: HasProcesses, change: Change) -> Json:
        return _state(target.process(change.key))

    def make(self, target: HasProcesses, change: Change) -> None:
        _woken.discard(change.key)
        target.process(change.key).signal(signal.SIGSTOP)

    def unmake(self, target: HasProcesses, change: Change) -> None:
        target.process(change.key).signal(signal.SIGCONT)
        _woken.add(change.key)

    def found(self, now: Json, change: Change) -> Found:
        """A debugger may have come to see what is the matter, or was there before. It hides the
        stop, which SIGCONT takes away all the same."""
        if now == "traced":
            return Found.WAS if change.key in _woken else Found.OURS
        if now == "running" and change.was == "traced":
            return Found.WAS
        return super().found(now, change)

    def took(self, target: HasProcesses, changes: Sequence[Change]) -> bool:
        """Also that nobody of the tree escaped: one thread of a process may still fork while
        another one has been told to stop."""
        for process in target.tree():
            with contextlib.suppress(Gone):
                if process.state() != "stopped":
                    return False
        return super().took(target, changes)

    def way_back(self) -> str:
        return "SIGCONT to each process"


_woken: set[str] = set()
"""Whom this process has sent SIGCONT: whether one that is traced has had it cannot be seen."""


def _state(process: Proc) -> str:
    """As the undo must see it: one that will stop as soon as it gets to run is ours to wake."""
    return "stopped" if process.stopping() else process.state()


def _stopped(process: Proc) -> bool:
    try:
        return process.state() == "stopped"
    except Gone:
        return True
