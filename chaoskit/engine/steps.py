"""The method: each step is journaled, made, proven, held, proven again and undone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chaoskit.clock import backoff, now
from chaoskit.engine.casualties import Casualties
from chaoskit.engine.outcomes import Outcomes
from chaoskit.engine.standing import Standing
from chaoskit.engine.upkeep import Upkeep
from chaoskit.errors import ChaoskitError, Gone, Interrupted, Refused, StateError
from chaoskit.journal import Cell
from chaoskit.model.experiment import (
    FaultStep,
    HttpAction,
    Parallel,
    RunAction,
    Step,
    WaitAction,
)
from chaoskit.model.fault import Fault
from chaoskit.model.params import freeze, freeze_value
from chaoskit.model.target import Target
from chaoskit.model.verdict import Verdict
from chaoskit.undo import Live, side_by_side, undo

if TYPE_CHECKING:
    from chaoskit.engine.session import Session

UNDO_SECONDS = 20.0
"""What the guardian grants an undo, beyond the fault's own patience, before it takes over."""


class NotInjected(Exception):
    """A step could not be carried out as the file says; the method ends here."""


class Steps:
    """Carries out a method for one session, and knows every cell that may still hold ours."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._secrets = session.experiment.secrets()
        self.lives: list[Live] = []
        """Every cell of every step, oldest first."""
        self._numbers = itertools.count(1)
        self.standing = Standing(self)
        self._casualties = Casualties(session)
        self.injected = False
        self._guard = threading.Lock()

    def run(self, method: Sequence[Step]) -> None:
        """The steps in order, until one cannot be carried out or the run aborts."""
        cancel = self.session.abort.cancel
        for number, step in enumerate(method, 1):
            if cancel.is_set or not self._guarded_step(str(number), step):
                return
            if any(cell.why for cell in self.stuck()):
                return  # Something is left in: nothing more is hurt beside it.

    def stuck(self) -> list[Cell]:
        every = (*self.standing.lives, *self.lives)
        return [live.cell for live in every if not live.cell.over]

    def undo_rest(self) -> None:
        """What outlives its step: the undo of actions, newest first, one after the other."""
        for live in reversed(self.lives):
            if not live.cell.over and not live.cell.why:
                try:
                    self._undo_last(live)
                except Exception as error:  # The older ones must be undone all the same.
                    self.session.failed(error)

    def _undo_last(self, live: Live) -> None:
        began, number = now(), live.cell.step
        stuck = self.undo(f"undo {live.cell.number}", [live], live.fault)
        if not stuck and (way := live.fault.way_back()):
            took = now() - began
            told = f"step {number}: undone ({way}) in {took * 1000:.0f} ms"
            self.session.say("released", told, step=number, took=round(took, 4))

    def _guarded_step(self, number: str, step: Step) -> bool:
        """One step, whatever it does; whether the method may go on."""
        session = self.session
        try:
            self._step(number, step)
        except Interrupted:
            return False
        except NotInjected as error:
            session.say("problem", f"step {number}: {error}", step=number, told=str(error))
            session.findings.add(Verdict.INCONCLUSIVE, f"step {number}: {error}")
            return False
        except Refused as error:
            # Nothing was ever injected: then the whole run was refused.
            verdict = Verdict.INCONCLUSIVE if self.lives else Verdict.REFUSED
            session.say("problem", f"step {number}: {error}", step=number, told=str(error))
            session.findings.add(verdict, f"step {number}: {error}")
            return False
        except Exception as error:
            session.failed(error)
            return False
        return True

    def _step(self, number: str, step: Step) -> None:
        match step:
            case Parallel():
                self._parallel(number, step)
            case WaitAction():
                self._begin(number, step, "wait", step.seconds, ())
                if self.session.abort.cancel.wait(step.seconds):
                    raise Interrupted("the run is aborting")
                self.session.journal.note("acted", step=number)
            case RunAction() | HttpAction():
                self._action(number, step)
            case FaultStep():
                self._fault(number, step)

    def _parallel(self, number: str, step: Parallel) -> None:
        results: list[bool] = []

        def branch(index: int) -> None:
            results.append(self._guarded_step(f"{number}.{index}", step.steps[index - 1]))

        threads = [
            threading.Thread(target=branch, args=(index,), name=f"step {number}.{index}")
            for index in range(1, len(step.steps) + 1)
        ]
        started = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
        finally:
            for thread in started:
                thread.join()
        if not all(results):
            raise Interrupted("a branch could not go on")  # It has said why.

    def _action(self, number: str, step: RunAction | HttpAction) -> None:
        from chaoskit.faults.action import ActionFailed, action_for
        from chaoskit.targets.action import ActionTarget

        target = ActionTarget(self.session.binding(number))
        self._begin(
            number, step, "run" if isinstance(step, RunAction) else "http", step.timeout, ()
        )
        try:
            self.inject(number, action_for(step), target, self.lives)
        except ActionFailed as error:
            raise NotInjected(str(error)) from error
        self.session.say("acted", f"{step}: done", step=number)

    def _fault(self, number: str, step: FaultStep) -> None:
        session, fault = self.session, step.fault
        self.promise(number)
        done: list[Target] = []
        groups: dict[str, list[Live]] = {}
        held: list[str] = []
        outcomes = Outcomes(session, number, fault, groups)
        ended = None
        try:
            picks = step.stages or (step.pick,)
            for stage, pick in enumerate(picks, 1):
                new = self._casualties.choose(number, step, pick, done)
                if not done:
                    labels = tuple(target.label for target in new)
                    self._begin(number, step, "fault", step.hold, labels)
                self._inject(number, step, new, groups, outcomes)
                done += new
                self._prove(number, fault, groups, "injected", outcomes)
                since = now()
                session.say(
                    "injected",
                    f"{fault.name} is in and proven on {_listed(done)}",
                    step=number,
                    targets=[target.label for target in done],
                    until=since - session.journal.began + step.hold,
                )
                self._hold(number, step, groups, outcomes, since)
                held = list(groups)
                if stage == len(picks):
                    outcomes.close(held)
                self._let_gates_see(number, since, fault.way_back() is None)
            ended = now()
            self._prove(number, fault, groups, "held", outcomes)
        except (NotInjected, Refused):
            outcomes.close(held)  # A later stage's failure is no reason to forget an earlier's.
            raise
        finally:
            ended = ended or now()
            self._release(number, step, groups, ended)

    def _inject(
        self,
        number: str,
        step: FaultStep,
        targets: Sequence[Target],
        groups: dict[str, list[Live]],
        outcomes: Outcomes,
    ) -> None:
        """On all targets side by side, all or nothing."""
        errors: list[BaseException] = []
        for target in targets:
            groups[target.key] = []

        def one(target: Target) -> None:
            try:
                if errors:
                    return
                self.inject(number, step.fault, target, self.lives, groups[target.key])
                outcomes.hurt(target)
            except BaseException as error:
                errors.append(error)

        side_by_side(list(targets), one)
        for error in errors:
            if isinstance(error, Interrupted | Refused | StateError):
                raise error
            if isinstance(error, OSError | ChaoskitError):
                raise NotInjected(f"{step.fault.name} could not be injected: {error}") from error
            raise error
        missed = [target for target in targets if not groups[target.key]]
        if gone := [target for target in missed if not target.there()]:
            raise NotInjected(f"{_listed(gone)} ended before it could be hurt")
        if missed:
            raise Refused(f"{_listed(missed)} is already as {step.fault.name} would make it")
        self.injected = True

    def inject(self, number: str, fault: Fault[Any], target: Target, *lists: list[Live]) -> None:
        """Every change of one target: in the journal and on the disk first, then in the world.

        lists: what each cell is appended to before that.
        """
        journal, cancel = self.session.journal, self.session.abort.cancel
        params = freeze(fault, self._secrets)
        if fault.way_back() is not None:
            self.session.guard.wait_ready(cancel)
        ref = {
            "kind": target.kind,
            "ref": freeze_value(target.ref(), self._secrets),
            "label": self.session.redactor.text(target.label),
        }
        for change in fault.changes(target):
            cancel.check()
            if change.was == change.put:
                continue  # It is so already: not ours to make, and not ours to unmake.
            with self._guard:
                cell = Cell(next(self._numbers), number, fault.name, params, ref, change)
                live = Live(cell, fault, target)
                for lives in lists:
                    lives.append(live)
            try:
                journal.append(
                    "change",
                    cell=cell.number,
                    step=number,
                    fault=fault.name,
                    params=params,
                    target=ref,
                    key=freeze_value(change.key, self._secrets),
                    was=freeze_value(change.was, self._secrets),
                    put=freeze_value(change.put, self._secrets),
                )
            except BaseException:
                cell.over = "never made"
                raise
            try:
                fault.make(target, change)
            except Gone:
                continue
            cell.made = True
            journal.note("made", cell=cell.number)
            if journal.trouble:
                self.session.abort.pull("disk", journal.trouble)

    def _prove(
        self,
        number: str,
        fault: Fault[Any],
        groups: dict[str, list[Live]],
        when: str,
        outcomes: Outcomes,
    ) -> None:
        """Is the effect really there, on every target? If not, the step was not what it says."""
        missing: dict[str, Target] = {}
        unknown = ""
        patience = fault.patience if when == "injected" else 0.0
        for pause in backoff(patience):
            if self.session.abort.cancel.wait(pause):
                raise Interrupted("the run is aborting")
            try:
                missing = {
                    key: lives[0].target
                    for key, lives in groups.items()
                    if lives and not _took(fault, lives)
                }
                unknown = ""
                for target in missing.values():
                    outcomes.still_there(target)
            except (Interrupted, StateError):
                raise
            except (OSError, ChaoskitError) as error:
                unknown = str(error) or type(error).__name__
                continue
            if not missing:
                break
        self.session.journal.note("proof", step=number, when=when, ok=not (missing or unknown))
        if unknown:
            raise NotInjected(f"whether {fault.name} is in cannot be seen: {unknown}")
        if missing:
            whom = _listed(list(missing.values()))
            if when == "injected":
                raise NotInjected(f"{fault.name} did not take on {whom}: its effect is not there")
            raise NotInjected(f"{fault.name} on {whom} ended before its time")

    def _hold(
        self,
        number: str,
        step: FaultStep,
        groups: dict[str, list[Live]],
        outcomes: Outcomes,
        since: float,
    ) -> None:
        """Hold, and ask the faults that others answer."""
        session, fault = self.session, step.fault
        cancel = session.abort.cancel
        upkeep = Upkeep(self, number, step, groups)
        end = since + step.hold
        session.guard.expect(
            number, step.hold + fault.patience + 2 * session.slowest_reading + UNDO_SECONDS
        )
        while (left := end - now()) > 0:
            if cancel.wait(min(left, outcomes.every, upkeep.every)):
                raise Interrupted("the run is aborting")
            try:
                upkeep.turn()
            except (Interrupted, Refused, StateError):
                raise
            except (OSError, ChaoskitError) as error:
                raise NotInjected(f"{fault.name} could not be kept in: {error}") from error
            outcomes.ask()

    def _let_gates_see(self, number: str, since: float, lasting: bool) -> None:
        self.session.judged(f"step {number}: ", since, lasting)
        self.session.abort.cancel.check()
        self.promise(number)

    def _release(
        self, number: str, step: FaultStep, groups: dict[str, list[Live]], ended: float
    ) -> None:
        session, fault = self.session, step.fault
        lives = [live for group in groups.values() for live in group]
        stuck = self.undo(number, lives, fault)
        took = now() - ended
        left = {live.target.key for live in lives if not live.cell.over}
        self._casualties.release(step, list(groups), left)
        if lives:
            back = fault.way_back()
            told = (
                f"{len(stuck)} of {len(lives)} changes are stuck"
                if stuck
                else f"{fault.name} undone and verified gone in {took * 1000:.0f} ms"
                if back
                else f"{fault.name} is one way: nothing to undo"
            )
            session.say("released", f"step {number}: {told}", step=number, took=round(took, 4))

    def undo(self, what: str, lives: Sequence[Live], fault: Fault[Any]) -> list[Cell]:
        needs = fault.patience + fault.settle + fault.undo_takes * len(lives)
        self.session.guard.expect(what, needs + UNDO_SECONDS, undo=True)
        try:
            return undo(lives, self.session.journal)
        finally:
            self.session.guard.over(what)

    def promise(self, number: str) -> None:
        """An injection may take as long as the run may; an abort hastens it."""
        longest = self.session.experiment.blast_radius.max_duration
        self.session.guard.expect(number, longest + UNDO_SECONDS)
        if self.session.abort.by:
            self.session.guard.hasten(UNDO_SECONDS)

    def _begin(
        self, number: str, step: Step, what: str, hold: float, targets: Sequence[str]
    ) -> None:
        shown = f" on {', '.join(targets)}" if targets else ""
        one_way = isinstance(step, FaultStep) and step.fault.way_back() is None
        self.session.say(
            "step",
            f"step {number}: {step.fault.name + shown if isinstance(step, FaultStep) else step}",
            step=number,
            title=str(step),
            what=what,
            hold=hold,
            targets=list(targets),
            one_way=one_way,
        )


def _took(fault: Fault[Any], lives: Sequence[Live]) -> bool:
    target = lives[-1].target  # In its newest incarnation.
    if not (fault.ends_target or target.there()):
        return False  # Whatever its parts say: nothing is proven of what is gone.
    try:
        return fault.took(target, [live.cell.change for live in lives if live.target is target])
    except Gone:
        return False


def _listed(targets: Sequence[Target]) -> str:
    labels = [target.label for target in targets]
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
