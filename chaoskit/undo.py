"""The one undo: the same code in the runner, in the guardian and in `chaoskit recover`.

Newest change first, by what the cell holds now: ours is unmade, and looked at until it is as it
was; what is as it was already is done; what is gone has nothing to undo; what is somebody else's
is left alone, told, and stuck for that cell only. Undoing twice is looking twice.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaoskit import registry
from chaoskit.clock import backoff, now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.journal import Cell, Journal, RunFolder
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault, Found
from chaoskit.model.params import shown, thaw
from chaoskit.model.redact import NOTHING_SECRET, Redactor
from chaoskit.model.target import Target

STANDING = "0"
"""The step under which is journaled what targets stand on: before the first."""
AGAIN = 1.0
"""Seconds between two tries to unmake what raised an error."""

PROMPT = 0.25
"""Seconds that a look may take before the rest of it counts as silence."""

POOL = 16
"""How many targets are worked on at once."""


@dataclass(slots=True)
class Live:
    """A cell together with the fault and the target that it takes to look at it."""

    cell: Cell
    fault: Fault[Any]
    target: Target

    def found(self) -> tuple[Found, object]:
        """Whose value the cell holds, and the value. Raises what looking raises, but Gone."""
        try:
            value = self.fault.look(self.target, self.cell.change)
        except Gone:
            return Found.GONE, None
        return self.fault.found(value, self.cell.change), value


def revive(
    cell: Cell,
    folder: RunFolder,
    environment: Mapping[str, str],
    redactor: Redactor = NOTHING_SECRET,
) -> Live:
    """The cell's fault and target, made again from the journal alone.

    environment: the run's variables; a secret that the journal names and this lacks raises
    ChaoskitError saying which.
    """
    binding = Binding(
        run=folder.id,
        step=cell.step,
        folder=folder.path,
        environment=environment,
        redactor=redactor,
    )
    on = cell.target["kind"]
    fault = thaw(registry.fault(cell.fault, on), _with_secrets(cell.params, environment))
    target = registry.selector(on).target.restore(
        _with_secrets(cell.target["ref"], environment), binding
    )
    change = cell.change
    cell.change = Change(
        *(_with_secrets(value, environment) for value in (change.key, change.was, change.put))
    )
    return Live(cell, fault, target)


def _with_secrets(value: Any, environment: Mapping[str, str]) -> Any:
    """The journal keeps `{"secret": "text with ${NAME}"}` for a text that holds a secret."""
    if isinstance(value, Mapping):
        if set(value) == {"secret", "names"}:
            for name in value["names"]:
                if name not in environment:
                    raise ChaoskitError(
                        f"undoing this needs the variable {name} again: --var {name}=..."
                    )
            names = "|".join(map(re.escape, value["names"]))
            return re.sub(rf"\$\{{({names})\}}", lambda m: environment[m[1]], value["secret"])
        return {key: _with_secrets(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_secrets(item, environment) for item in value]
    return value


def undo_run(lives: Sequence[Live], journal: Journal) -> None:
    """A whole run, in the order in which its runner would: what its faults have in, then its
    actions one after the other, newest first, for one may build on another, and last what targets
    stand on. lives: oldest first."""
    faults, actions, standing = list[Live](), list[Live](), list[Live]()
    for live in lives:
        action = live.target.kind == "action"
        (standing if live.cell.step == STANDING else actions if action else faults).append(live)
    undo(faults, journal)
    for live in reversed(actions):
        undo([live], journal)
    undo(standing, journal)


def undo(lives: Sequence[Live], journal: Journal) -> list[Cell]:
    """Undo these cells, newest first within each target, targets side by side.

    Returns the cells that are stuck. Never raises for what a cell or the disk does.
    """
    by_target: dict[str, list[Live]] = {}
    for live in reversed(lives):
        if not live.cell.over:
            by_target.setdefault(live.target.key, []).append(live)
    side_by_side(list(by_target.values()), lambda group: _undo_group(group, journal))
    journal.sync()
    return [live.cell for live in lives if not live.cell.over]


def _undo_group(group: Sequence[Live], journal: Journal) -> None:
    """One target's cells: all are unmade, newest first, and then watched until they are back."""
    waiting = {live.cell.number: _Return(live, journal) for live in group}
    patience = max(live.fault.patience + 2 * live.fault.settle for live in group)
    for pause in backoff(patience):
        if pause:
            time.sleep(pause)
        for number in list(waiting):
            if waiting[number].step():
                del waiting[number]
        if not waiting:
            return
    for last in waiting.values():
        last.give_up()


class _Return:
    """One cell's way back, looked at again and again."""

    def __init__(self, live: Live, journal: Journal) -> None:
        self.live = live
        self.journal = journal
        self.began = now()
        self.unmade = False
        self.settled_from = self.began
        """Since when a request of a dead runner would have had time to land: whoever it was sent to
        has answered us since then, and soon."""
        self.trouble = ""
        self.refused = ""
        """What the last try to unmake it raised: so between two tries, too."""
        self.again = 0.0
        self.value: object = None

    def step(self) -> bool:
        """One look, and what follows from it; whether the cell is over."""
        live = self.live
        late = not live.cell.made
        if live.fault.way_back() is None:
            return self._over("one way")
        try:
            found, self.value = self._look(late)
            if found is Found.OURS and (not self.unmade or late) and now() >= self.again:
                self.again = now() + AGAIN
                self.journal.note("unmake", cell=live.cell.number)
                self._unmake()
                self.unmade = True
                self.settled_from = now()
                found, self.value = live.found()
            self.trouble = self.refused if found is Found.OURS else ""
        except Gone:
            return self._over("gone")
        except Exception as error:  # Whatever a fault raises, the other cells must come back.
            self.trouble = _told(error)
            self.settled_from = now()
            return False
        if found is Found.GONE:
            return self._over("gone")
        if found is not Found.WAS:
            return False
        if late and now() - self.settled_from < live.fault.settle:
            # A request that its dead sender left in flight may still land, also after we have
            # unmade what an earlier one did, or one that waits in front of a server which did not
            # answer until now.
            self.trouble = "it answers again since just now: a request may still be on its way"
            return False
        return self._over("undone" if self.unmade else "was")

    def _look(self, late: bool) -> tuple[Found, object]:
        """Whose value the cell holds. A request that nobody has read yet waits for as long as we
        do: that time is none in which it could have landed."""
        began = now()
        if late:
            self.live.fault.ask(self.live.target)
        found = self.live.found()
        self.settled_from += max(0.0, now() - began - PROMPT)
        return found

    def _unmake(self) -> None:
        try:
            self.live.fault.unmake(self.live.target, self.live.cell.change)
        except Exception as error:
            self.refused = _told(error)
            raise
        self.refused = ""

    def _over(self, how: str) -> bool:
        self.live.cell.over = how
        self.journal.note("undone", cell=self.live.cell.number, how=how)
        return True

    def give_up(self) -> None:
        cell = self.live.cell
        cell.found = shown(self.value)  # type: ignore[arg-type]
        cell.why = self.trouble or (
            f"it was {shown(cell.change.was)!r}, chaoskit put {shown(cell.change.put)!r}, "
            f"and now it is {cell.found!r}"
            + ("" if self.unmade else ": somebody else changed it, so it was left alone")
        )
        self.journal.note("stuck", cell=cell.number, found=cell.found, why=cell.why)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removeprefix("ChaoskitError: ")


def side_by_side(items: Sequence[Any], work: Callable[[Any], None]) -> None:
    """Do the work for every item, several at once; an only item is done right here."""
    if len(items) <= 1:
        for item in items:
            work(item)
        return
    queue = iter(items)
    guard = threading.Lock()

    def worker() -> None:
        while True:
            with guard:
                item = next(queue, _NOTHING)
            if item is _NOTHING:
                return
            work(item)

    threads = [
        threading.Thread(target=worker, name=f"pool-{n}") for n in range(min(POOL, len(items)))
    ]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError:
        worker()  # No thread can be had any more: then one after the other, right here.
    for thread in started:
        thread.join()


_NOTHING = object()


def revive_all(
    cells: Iterable[Cell], folder: RunFolder, environment: Mapping[str, str], journal: Journal
) -> list[Live]:
    """Every cell that is not over, made again; one that cannot be is stuck and says why."""
    lives = []
    for cell in cells:
        if cell.over:
            continue
        try:
            lives.append(revive(cell, folder, environment, journal.redactor))
        except Exception as error:  # A plug-in that is gone must not keep the others in.
            cell.why = str(error) or type(error).__name__
            journal.note("stuck", cell=cell.number, found=None, why=cell.why)
    return lives
