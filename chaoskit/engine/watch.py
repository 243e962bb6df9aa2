"""Reads the checks: before, while faults are in (each in its own time), and afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chaoskit.clock import Cancel, now
from chaoskit.engine.abort import Abort
from chaoskit.errors import ProbeError
from chaoskit.gates.consecutive import Consecutive
from chaoskit.model.experiment import Check, GateSpec, Verify
from chaoskit.model.gate import Decision, Gate, Sample, Sight
from chaoskit.model.probe import Context
from chaoskit.model.redact import NOTHING_SECRET, Redactor
from chaoskit.model.units import Json, Unit, show
from chaoskit.undo import side_by_side

AGAIN = 0.25
"""Seconds between readings of a check that may still become true."""

Recorder = Callable[[Sample, str, str], None]
"""Is given each sample, the phase (`before`, `during`, `verify`) and what the gate thinks."""


def judge(check: Check, context: Context, redactor: Redactor = NOTHING_SECRET) -> Sample:
    """Read once and compare. Whatever goes wrong with the reading is UNREAD, never OK."""
    began = now()
    try:
        reading = check.probe.read(context)
        failures = check.expect.failures(reading, redactor)
    except ProbeError as error:
        return Sample(check.name, now(), Sight.UNREAD, now() - began, None, str(error))
    except Exception as error:  # A plug-in's bug is no data, and no data is not good news.
        told = f"the probe failed: {type(error).__name__}: {error}"
        return Sample(check.name, now(), Sight.UNREAD, now() - began, None, told)
    found: dict[str, Json] = {
        condition.reading: _short(redactor.json(reading.get(condition.reading)), condition.unit)
        for condition in check.expect.conditions
    }
    sight = Sight.FAILED if failures else Sight.OK
    return Sample(check.name, now(), sight, now() - began, found, "; ".join(failures))


def _short(value: Json, unit: Unit) -> Json:
    """Numbers as they are, for machines; text as it is shown, cut."""
    return value if isinstance(value, int | float) else show(value, unit)


@dataclass(slots=True)
class _Item:
    """One check that is read in its own time, and the gate on it, if it is one."""

    check: Check
    every: float
    gate: Gate | None
    readings: int = 0
    read_from: float = 0.0
    """When the last finished reading was begun."""
    seen_from: float = 0.0
    """When the last reading was begun that gave something to judge."""
    held_from: float = 0.0
    """When the last reading was begun that was as expected."""


class Watch:
    """All readings of one run. `record` is told each of them, from several threads."""

    def __init__(
        self,
        checks: Sequence[Check],
        gates: Sequence[GateSpec],
        environment: Mapping[str, str],
        abort: Abort,
        record: Recorder,
        redactor: Redactor = NOTHING_SECRET,
    ) -> None:
        self._checks = {check.name: check for check in checks}
        self._environment = environment
        self._abort = abort
        self._record = record
        self._redactor = redactor
        self._stopping = Cancel()
        self._changed = threading.Condition()
        self._nudges = 0
        gated = {gate.check for gate in gates}
        self._items = [
            _Item(self._checks[gate.check], gate.every, Consecutive(gate.consecutive))
            for gate in gates
        ] + [_Item(check, 1.0, None) for check in checks if check.name not in gated]
        self.bad = 0
        self.total = 0
        self.failed: dict[str, str] = {}
        """Checks without a gate that failed while watched, with what was first wrong."""
        self.unread: dict[str, str] = {}
        """Checks without a gate that could not be read at some time, with what was wrong."""

    def all_hold(
        self, phase: str, within: Mapping[str, float], stop: Cancel
    ) -> tuple[list[Sample], bool]:
        """Read these checks side by side until each holds or its time (seconds) is over.

        Returns the last sample of each, and whether it was cut short.
        """
        last: dict[str, Sample] = {}

        def read(name: str) -> None:
            context = self._context(stop)
            end = now() + within[name]
            try:
                while True:
                    sample = last[name] = judge(self._checks[name], context, self._redactor)
                    self._record(sample, phase, "")
                    if sample.sight is Sight.OK or now() >= end or stop.wait(AGAIN):
                        return
            finally:
                context.close()

        side_by_side(list(within), read)
        return [last[name] for name in within], stop.is_set

    def before(self) -> list[Sample]:
        """Whether the steady state holds: each check is read, again where it says `within`."""
        within = {check.name: check.expect.within or 0.0 for check in self._checks.values()}
        return self.all_hold("before", within, self._abort.cancel)[0]

    def verify(self, wanted: Sequence[Verify], stop: Cancel) -> tuple[list[Sample], bool]:
        """Whether all that must hold afterwards does, each within its time."""
        within: dict[str, float] = {}
        for item in wanted:
            names = list(self._checks) if item.check == "steady-state" else [item.check]
            for name in names:
                within[name] = max(within.get(name, 0.0), item.within)
        return self.all_hold("verify", within, stop)

    def start(self) -> None:
        for item in self._items:
            threading.Thread(
                target=self._watch, args=(item,), name=f"watch {item.check.name}", daemon=True
            ).start()

    def stop(self) -> None:
        """No further reading counts. A probe that is still waiting is not waited for."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def seen_since(self, began: float, stop: Cancel) -> None:
        """Wait until every check has been read since then, or cannot be.

        A hold shorter than a gate's interval is judged all the same: its check is read right now.
        """
        late = [item for item in self._items if item.read_from < began]
        if not late:
            return
        with self._changed:
            end = now() + 2 * max(item.check.probe.timeout for item in late) + 1.0
            self._nudges += 1
            self._changed.notify_all()
            while any(i.read_from < began for i in late) and not stop.is_set and now() < end:
                self._changed.wait(0.05)

    def unseen(self, began: float) -> list[str]:
        """The checks of which nothing was read since then."""
        with self._changed:
            return [item.check.name for item in self._items if item.seen_from < began]

    def never_held(self, began: float) -> list[str]:
        """The checks with a gate that were read since then and held in no reading: so few that the
        gate has not judged them."""
        with self._changed:
            return [
                item.check.name
                for item in self._items
                if item.gate is not None and item.held_from < began <= item.seen_from
            ]

    def _watch(self, item: _Item) -> None:
        context = self._context(self._stopping)
        due = now()
        try:
            while not self._stopping.is_set:
                began = now()
                with self._changed:
                    nudges = self._nudges
                sample = judge(item.check, context, self._redactor)
                if self._stopping.is_set:
                    return
                self._take(item, sample)
                with self._changed:
                    item.readings += 1
                    item.read_from = began
                    if sample.sight is not Sight.UNREAD:
                        item.seen_from = began
                    if sample.sight is Sight.OK:
                        item.held_from = began
                    self._changed.notify_all()
                    if began >= due:  # A reading in between does not put off the next.
                        due = max(due + item.every, now())
                    while now() < due and self._nudges == nudges and not self._stopping.is_set:
                        self._changed.wait(due - now())
        finally:
            context.close()

    def _take(self, item: _Item, sample: Sample) -> None:
        with self._changed:
            self.total += 1
            self.bad += sample.sight is not Sight.OK
        if item.gate is not None:
            decision = item.gate.feed(sample)
            if decision.abort:
                self._abort.pull("gate", decision.text)
        else:
            decision = Decision(False, "watched only")
            if sample.sight is Sight.FAILED:
                self.failed.setdefault(sample.check, sample.detail)
            elif sample.sight is Sight.UNREAD:
                self.unread.setdefault(sample.check, sample.detail)
        self._record(sample, "during", decision.text)

    def _context(self, cancel: Cancel) -> Context:
        return Context(environment=self._environment, cancel=cancel)
