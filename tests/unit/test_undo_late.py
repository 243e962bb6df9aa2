"""A request of a dead runner that lands late: the undo waits for as long as one may be on its way.

Time is played: a look that takes a second takes none of the test's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoskit import clock, undo
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.journal import Cell, Journal
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json
from chaoskit.undo import Live


class Clock:
    """Runs when somebody sleeps, and when a server takes its time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [plan for plan in self.plans if plan[0] <= end]:
            plan = min(due, key=lambda one: one[0])
            self.plans.remove(plan)
            self.time = max(self.time, plan[0])
            plan[1]()
        self.time = end

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """In so many seconds from now."""
        self.plans.append((self.time + seconds, what))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(clock, "now", made.now)
    monkeypatch.setattr(undo, "now", made.now)
    monkeypatch.setattr(undo.time, "sleep", made.sleep)
    yield made


class Server:
    """Has one cell, and may be silent, slow, or busy with what others have sent."""

    key = "server"
    label = "the server"
    kind = "server"

    def __init__(self, time: Clock) -> None:
        self.time = time
        self.value = "was"
        self.answers = True
        self.slow = 0.0
        self.unmade: list[float] = []
        self.asked = 0

    def land(self) -> None:
        """The request of the dead runner is read at last."""
        self.value = "put"

    def reply(self) -> None:
        self.asked += 1
        self.time.sleep(self.slow)
        if not self.answers:
            raise ChaoskitError("it does not answer")


class Request(Fault[Any]):
    """Is made by a request. local: its cell is looked at without asking the server."""

    name = "request"
    settle = 2.0
    patience = 15.0
    local = False

    def changes(self, target: Any) -> Iterator[Change]:
        yield Change("cell", "was", "put")

    def look(self, target: Server, change: Change) -> Json:
        if not self.local:
            target.reply()
        return target.value

    def ask(self, target: Server) -> None:
        target.reply()

    def make(self, target: Any, change: Change) -> None: ...

    def unmake(self, target: Server, change: Change) -> None:
        target.unmade.append(target.time.now())
        target.value = "was"


class Local(Request):
    local = True


class Case:
    """A run has died before the change was noted as made, and its undo begins now."""

    def __init__(self, folder: Path, time: Clock, fault: Request, made: bool = False) -> None:
        self.time = time
        self.began = time.now()
        self.server = Server(time)
        cell = Cell(1, "1", "request", {}, {"label": "x"}, Change("cell", "was", "put"))
        cell.made = made
        self._journal = Journal(folder)
        self._live = Live(cell, fault, self.server)  # type: ignore[arg-type]

    def undo(self) -> str:
        """How the cell was found to be over, or why it is stuck; and then everything that was to
        come lands."""
        try:
            stuck = undo.undo([self._live], self._journal)
        finally:
            self._journal.close()
        self.took = self.time.now() - self.began
        self.time.sleep(1000.0)
        return stuck[0].why if stuck else self._live.cell.over


@pytest.fixture(params=[Request, Local])
def case(request: pytest.FixtureRequest, tmp_path: Path, played: Clock) -> Case:
    return Case(tmp_path, played, request.param())


def test_one_that_lands_while_we_wait_is_undone(case: Case) -> None:
    case.time.at(1.9, case.server.land)
    assert case.undo() == "undone"
    assert case.server.value == "was"
    # After that a second one, sent before the first was answered, has its time, too.
    assert case.took >= 1.9 + Request.settle


def test_one_that_never_landed_is_waited_for(case: Case) -> None:
    assert case.undo() == "was"
    assert Request.settle <= case.took < Request.settle + 1
    assert not case.server.unmade


def test_one_that_lands_twice_is_undone_twice(case: Case) -> None:
    case.server.land()
    case.time.at(1.5, case.server.land)
    assert case.undo() == "undone"
    assert case.server.value == "was" and len(case.server.unmade) == 2


def test_the_silence_of_the_server_is_no_time_to_land_in(case: Case) -> None:
    def thaw() -> None:
        case.server.answers = True
        case.time.at(1.0, case.server.land)

    case.server.answers = False
    case.time.at(6.0, thaw)
    assert case.undo() == "undone"
    assert case.server.value == "was"


def test_nor_is_the_time_that_it_takes_to_answer(case: Case) -> None:
    """Frozen for three seconds it answers late, and nothing was refused."""

    def thaw() -> None:
        case.server.slow = 0.0
        case.time.at(1.0, case.server.land)

    case.server.slow = 3.0
    case.time.at(2.9, thaw)
    assert case.undo() == "undone"
    assert case.server.value == "was"


def test_a_server_that_is_slow_all_the_time_is_believed_in_the_end(case: Case) -> None:
    case.server.slow = 0.4
    assert case.undo() == "was"
    assert case.took < Request.patience


def test_a_server_that_never_answers_is_stuck_and_says_so(case: Case) -> None:
    case.server.answers = False
    assert "it does not answer" in case.undo()


def test_an_answer_at_the_very_end_is_too_late_to_be_believed(case: Case) -> None:
    case.server.answers = False

    def thaw() -> None:
        case.server.answers = True

    case.time.at(Request.patience + 2 * Request.settle - 0.5, thaw)
    assert "a request may still be on its way" in case.undo()


@pytest.mark.parametrize("kind", [Request, Local])
def test_what_was_made_is_not_waited_for(kind: Any, tmp_path: Path, played: Clock) -> None:
    case = Case(tmp_path, played, kind(), made=True)
    case.server.land()
    assert case.undo() == "undone"
    assert case.took < 0.5
    # It has been answered: where a look asks nobody, the undo needs nobody to be asked.
    assert kind is Request or not case.server.asked


def test_a_target_that_is_gone_needs_no_wait(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise Gone("it was removed")

    monkeypatch.setattr(case.server, "reply", gone)
    assert case.undo() == "gone"
    assert case.took < 0.5
