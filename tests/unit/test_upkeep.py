"""What is done while a fault holds: a target that restarts is told, and hurt anew where asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from chaoskit.engine import upkeep
from chaoskit.engine.upkeep import Upkeep
from chaoskit.errors import ChaoskitError, Gone, Interrupted, Refused
from chaoskit.journal import Cell
from chaoskit.model.fault import Change, Fault
from chaoskit.model.target import Target
from chaoskit.model.units import Json
from chaoskit.undo import Live


class Box:
    """A target that has lives, the next of which begins when the test says so."""

    key = "box"

    def __init__(self, life: int = 1) -> None:
        self.life = life
        self.next: Box | None = None
        self.trouble: ChaoskitError | None = None

    @property
    def label(self) -> str:
        return f"box in life {self.life}"

    def ref(self) -> Json:
        return {"life": self.life}

    def reborn(self) -> Box | None:
        if self.trouble:
            raise self.trouble
        return self.next


class Hurt(Fault[Any]):
    name = "hurt"

    def __init__(self) -> None:
        self.outlasts = False
        self.aborting = False
        self.refusal: str | None = None

    def changes(self, target: Any) -> Iterator[Change]:
        yield Change(f"cell of {target.life}", "was", "put")

    def look(self, target: Any, change: Change) -> Json: ...

    def make(self, target: Any, change: Change) -> None: ...

    def unmake(self, target: Any, change: Change) -> None: ...

    def refuse(self, target: Any) -> str | None:
        return self.refusal

    def took(self, target: Any, changes: Any) -> bool:
        if self.aborting:
            raise Interrupted("the run is aborting")
        if not self.outlasts:
            raise Gone("the old life")
        return True


class Kept(Hurt):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[int, list[str]]] = []

    def keep(self, target: Any, changes: Any) -> None:
        self.kept.append((target.life, [change.key for change in changes]))


class Ending(Hurt):
    ends_target = True


class Play:
    """A step that holds, with one target; time is the test's."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fault: Hurt, again: bool, kind: type = Box
    ) -> None:
        self.time = 0.0
        monkeypatch.setattr(upkeep, "now", lambda: self.time)
        self.fault, self.box = fault, kind()
        self.said: list[str] = []
        self.lives: list[Live] = []
        self.makes = True
        self.inject("1", fault, self.box, self.lives)
        session = SimpleNamespace(say=lambda kind, text, **_: self.said.append(text))
        steps = SimpleNamespace(session=session, inject=self.inject, lives=[])
        step = SimpleNamespace(
            fault=fault,
            on_restart="reapply" if again else "end",
            selector=SimpleNamespace(target=kind),
        )
        everything: Any = (steps, "1", step, {"box": self.lives})
        self.upkeep = Upkeep(*everything)

    def inject(self, number: str, fault: Any, target: Any, *lists: list[Live]) -> None:
        for change in fault.changes(target) if self.makes else ():
            for lives in lists:
                lives.append(Live(Cell(1, number, "hurt", {}, {}, change), fault, target))

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.time += 1.0
            self.upkeep.turn()

    def restart(self) -> Box:
        at = self.lives[-1].target
        assert isinstance(at, Box)
        at.next = Box(at.life + 1)
        return at.next

    @property
    def cells(self) -> list[str]:
        return [live.cell.change.key for live in self.lives]


def test_a_restart_ends_the_fault_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Hurt(), again=False)
    play.turn()
    assert play.said == []
    play.restart()
    play.turn(2)
    play.box.next = Box(3)
    play.turn(2)
    assert play.said == ["box in life 2 was restarted: hurt has ended with it"]
    assert play.cells == ["cell of 1"]


def test_each_life_is_hurt_where_the_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Hurt(), again=True)
    for _ in range(3):
        play.restart()
        play.turn(2)
    assert play.cells == [f"cell of {life}" for life in (1, 2, 3, 4)]
    assert play.said[0] == "box in life 2 was restarted: hurt is made again" and len(play.said) == 3


def test_what_outlasts_a_restart_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Hurt()
    play = Play(monkeypatch, fault, again=True)
    fault.outlasts = True
    new = play.restart()
    play.turn(3)
    assert play.said == ["box in life 2 was restarted: hurt is still in"]
    assert play.cells == ["cell of 1"]
    assert play.lives[0].target is new  # It is undone in the life that it has now.


def test_one_that_needs_no_hurting_any_more_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came back as the fault would make it, or has gone again already."""
    play = Play(monkeypatch, Hurt(), again=True)
    play.makes = False
    play.restart()
    play.turn(5)
    assert len(play.said) == 1
    play.makes = True
    assert isinstance(play.lives[-1].target, Box)
    play.lives[-1].target.next = Box(7)
    play.turn()
    assert play.cells == ["cell of 1", "cell of 7"]


def test_it_is_asked_anew_whether_it_may_be_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Hurt()
    play = Play(monkeypatch, fault, again=True)
    fault.refusal = "there is no room for that"
    play.restart()
    with pytest.raises(Refused, match="box in life 2, which was restarted: there is no room"):
        play.turn()
    assert play.cells == ["cell of 1"]


def test_a_fault_that_ends_its_target_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Ending(), again=True)
    play.restart()
    play.turn(3)
    assert play.said == [] and play.cells == ["cell of 1"]


def test_what_cannot_be_told_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Hurt(), again=True)
    play.restart()
    play.box.trouble = ChaoskitError("the daemon does not answer")
    play.turn(3)
    assert play.said == [] and play.cells == ["cell of 1"]
    play.box.trouble = None
    play.turn()
    assert play.cells == ["cell of 1", "cell of 2"]


def test_a_fault_is_kept_in_where_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Kept()
    play = Play(monkeypatch, fault, again=True)
    play.turn(2)
    assert fault.kept == [(1, ["cell of 1"])] * 2
    play.restart()
    play.turn()
    assert fault.kept[-1] == (2, ["cell of 2"])


def test_it_is_called_as_often_as_something_is_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lasting(Box):
        reborn = Target.reborn  # type: ignore[assignment]

    assert Play(monkeypatch, Hurt(), False, Lasting).upkeep.every == math.inf
    assert Play(monkeypatch, Kept(), False, Lasting).upkeep.every == upkeep.KEEP_EVERY
    assert Play(monkeypatch, Kept(), False).upkeep.every == upkeep.LOOK_EVERY
    play = Play(monkeypatch, Kept(), False)
    for _ in range(100):
        play.time += 0.01
        play.upkeep.turn()
    assert isinstance(play.fault, Kept) and len(play.fault.kept) == 1


@pytest.mark.parametrize("again", [True, False])
def test_an_abort_while_it_is_looked_at_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    play = Play(monkeypatch, Hurt(), again)
    play.restart()
    play.fault.aborting = True
    with pytest.raises(Interrupted):
        play.turn()
    assert not play.said and len(play.lives) == 1
