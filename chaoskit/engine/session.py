"""One run from its start to its verdict: the loop, short enough to read in one sitting."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chaoskit import planning
from chaoskit.clock import now
from chaoskit.engine.abort import Abort
from chaoskit.engine.ears import Ears
from chaoskit.engine.findings import Findings, learnt
from chaoskit.engine.guard import Guard
from chaoskit.engine.steps import UNDO_SECONDS, Steps
from chaoskit.engine.watch import Watch
from chaoskit.errors import ChaoskitError, Refused, StateError
from chaoskit.forks import forget, keep_from_children
from chaoskit.journal import Journal, State
from chaoskit.model.binding import Binding
from chaoskit.model.experiment import Experiment
from chaoskit.model.gate import Sample, Sight
from chaoskit.model.redact import Redactor
from chaoskit.model.result import Event, Observer, Result
from chaoskit.model.target import Target
from chaoskit.model.verdict import Verdict
from chaoskit.namespaces import pid_namespace
from chaoskit.procfs import boot_id, machine_id
from chaoskit.recovery import COMMAND_VARIABLE, bring_back
from chaoskit.safety import halt
from chaoskit.safety.claims import mark_of
from chaoskit.version import __version__

ACTIONS = frozenset({"run", "http-request"})
"""The names under which the registry keeps the actions: they are undone as faults are."""


class Session:
    """Runs one experiment once."""

    def __init__(
        self,
        experiment: Experiment,
        state: State,
        *,
        seed: int | None = None,
        reason: str = "",
        observer: Observer | None = None,
    ) -> None:
        self.experiment = experiment
        self.state = state
        self.seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
        self.why = reason
        self.redactor = Redactor(experiment.secrets())
        self.abort = Abort(self._aborting)
        self.findings = Findings()
        self.guard = Guard()
        self._observer = observer
        self._telling = threading.Lock()
        self._ran = False
        self._ears: Ears | None = None
        self._ruling: tuple[Verdict, str] | None = None

    def run(self) -> Result:
        """The whole run. Raises Refused when it cannot even be recorded."""
        try:
            self.folder, lock = self.state.new_run()
            mode = self.state.file_mode
            self.journal = Journal(self.folder.path, self.redactor, mode)
            self.journal.hold_reserve()
        except StateError as error:
            raise Refused(f"{error}; without a journal nothing is injected") from error
        self._lifeline, self._lifeline_end = os.pipe()
        keep_from_children(self._lifeline_end)
        clean = False
        try:
            clean = self._guarded()
        finally:
            # Helpers end when this closes, whatever else went wrong before.
            forget(self._lifeline_end)
            os.close(self._lifeline_end)
            os.close(self._lifeline)
            self.journal.sync()
            if self.journal.lost():
                with contextlib.suppress(OSError, StateError):
                    self.folder = bring_back(self.state.path, self.folder.id, self.journal.file)
            self.journal.close()
            if clean:
                with contextlib.suppress(OSError):
                    self.folder.settled()
            lock.drop()
            # The ears go on beating up to here: a slow disk is no hung runner.
            if clean or self.findings.known_stuck:
                self.guard.let_go()
                self._stop_listening()
                self.guard.close()
            else:
                self._stop_listening()
                self.guard.abandon()
        with contextlib.suppress(StateError):
            self.state.prune(spare=self.folder.id)
        return self._result(clean)

    def _result(self, clean: bool) -> Result:
        """As the journal tells it; what was lost of that does not take the verdict with it."""
        told = self.folder.result()
        if told.verdict is not None or self._ruling is None:
            return told
        verdict, reason = self._ruling
        return replace(
            told,
            title=self.experiment.title,
            file=str(self.experiment.file),
            state="done" if clean else "left",
            verdict=verdict,
            reason=self.redactor.text(reason),
        )

    def _guarded(self) -> bool:
        """Everything between the journal's first record and its last; whether all is undone."""
        experiment = self.experiment
        self._head()
        environment = experiment.environment()
        self.watch = Watch(
            experiment.steady_state,
            experiment.gate_specs(),
            environment | {COMMAND_VARIABLE: f"chaoskit-{self.folder.id}-probe"},
            self.abort,
            self._sample,
            self.redactor,
        )
        self.steps = Steps(self)
        ears = Ears(
            self.abort,
            self.guard,
            halt.halt_file(self.state),
            lambda: str(halt.current(self.state) or "halted"),
            self.journal.began + experiment.blast_radius.max_duration,
            self.journal.lost,
            lambda text: self.say("note", text),
        )
        with ears.signals():
            try:
                self._steady_and_method(ears)
            except Refused as error:
                self.findings.add(Verdict.REFUSED, str(error))
            except Exception as error:
                self.failed(error)
            for last in (self._undo_and_verify, self.steps.standing.take_down):
                try:
                    last()
                except Exception as error:
                    self.failed(error)
            return self._rule(ears)

    def _steady_and_method(self, ears: Ears) -> None:
        experiment = self.experiment
        # Started first, so that it wakes up while the steady state is read.
        stands = self.steps.standing.wanted
        faults = {(step.fault.name, step.selector.kind) for step in experiment.fault_steps()}
        faults |= {(fault.name, target.kind) for fault, target in stands}
        faults |= {(name, "action") for name in ACTIONS}
        self.guard.start(
            self.folder.path,
            self.folder.id,
            experiment.environment(),
            faults=sorted(faults),
            targets=sorted({kind for _, kind in faults}),
        )
        ears.start()
        self._ears = ears
        self._plan()
        ears.minds_halt = True
        self.steps.standing.put_up()
        self.phase("before", "reading the steady state")
        ill = [s for s in self.watch.before() if s.sight is not Sight.OK]
        if ill:
            raise Refused(
                "not healthy at the start: " + "; ".join(f"{s.check}: {s.detail}" for s in ill)
            )
        self._ran = True
        self.watch.start()
        self.phase("method", "")
        began = now()
        self.steps.run(experiment.method)
        if not self.steps.injected:
            self.judged("", began)

    def _undo_and_verify(self) -> None:
        self.phase("undo", "")
        self.steps.undo_rest()
        if not self._ran:
            return
        self.watch.stop()
        for check, detail in self.watch.failed.items():
            self.findings.add(Verdict.DEVIATED, f"{check} failed while faults were in: {detail}")
        for check, detail in self.watch.unread.items():
            self.findings.add(Verdict.INCONCLUSIVE, f"{check} could not be read: {detail}")
        if self.abort.hurry.is_set:
            return
        self.phase("verify", "verifying that the steady state holds again")
        longest = max((item.within for item in self.experiment.verify), default=0.0)
        self.guard.expect("verify", longest + self.slowest_reading + UNDO_SECONDS)
        samples, cut = self.watch.verify(self.experiment.verify, self.abort.hurry)
        self.guard.over("verify")
        for sample in samples:
            if sample.sight is Sight.OK or cut:
                continue
            told = f"{sample.check} did not hold again in time: {sample.detail}"
            unread = sample.sight is Sight.UNREAD
            self.findings.add(Verdict.INCONCLUSIVE if unread else Verdict.DEVIATED, told)

    def _rule(self, ears: Ears) -> bool:
        stuck = self.steps.stuck()
        self.findings.known_stuck = bool(stuck)
        if stuck:
            told = "; ".join(f"{c.fault} on {c.target['label']}: {c.why}" for c in stuck)
            self.findings.add(Verdict.STUCK, told)
        if self.abort.by:
            failed = self.abort.by in ("guardian", "disk", "error")
            self.findings.add(Verdict.FAILED if failed else Verdict.ABORTED, self.abort.reason)
        one_way = any(s.fault.way_back() is None for s in self.experiment.fault_steps())
        verdict, reason = self.findings.ruling(self.watch.bad, self.watch.total, one_way)
        self._ruling = verdict, reason
        try:
            lessons = learnt(verdict, self.folder.records(), self.abort)
        except StateError:
            lessons = []
        self.say(
            "verdict", "", verdict=verdict.value, reason=reason, learnt=lessons, by=self.abort.by
        )
        ears.closing = True
        self.journal.note("end", by="runner", clean=not stuck)
        return not stuck

    def _plan(self) -> None:
        """Choose the targets and claim them, in one go that no other run can come between."""
        with self.state.choosing():
            chosen = planning.choose_all(self.experiment, self.state, self.seed, own=self.folder.id)
            plan = chosen.plan
            self.planned = chosen.by_step
            self.journal.note("plan", hash=plan.hash, plan=plan.to_json())
            self.tell("plan", "", plan=plan.to_json())
            if plan.refusals:
                raise Refused("; ".join(plan.refusals))
            for target in chosen.targets:
                self.claim(target, *chosen.matched[target.key])

    def claim(self, target: Target, what: str, matched: int) -> None:
        """The caller holds `state.choosing()`. what: the selector that found it, and how many."""
        claim = target.claim()
        self.journal.append(
            "claim",
            label=target.label,
            keys=sorted(claim.keys),
            within=sorted(claim.within),
            of=mark_of(what),
            matched=matched,
        )

    def binding(self, step: str) -> Binding:
        return Binding(
            run=self.folder.id,
            step=step,
            folder=self.folder.path,
            cancel=self.abort.cancel,
            lifeline=self._lifeline,
            ends_at=self.journal.began + self.experiment.blast_radius.max_duration + 60.0,
            environment=self.experiment.environment(),
            redactor=self.redactor,
            seed=self.seed,
            allow_host=self.experiment.blast_radius.allow_host,
            allow_shared=self.experiment.blast_radius.allow_shared,
        )

    def judged(self, where: str, began: float, lasting: bool = False) -> None:
        """Have every gate see at least once. No data is not good news: a check that was not read
        since then makes the run inconclusive, and so does one of which the default gate has had too
        few readings to judge, none of which held. (Who writes a gate says how much he puts up
        with.)

        lasting: what was done then is not undone, so what follows judges it, and the verification.
        """
        watch, cancel = self.watch, self.abort.cancel
        watch.seen_since(began, cancel)
        strict = self.experiment.gates is None and not lasting
        if strict and watch.never_held(began):
            watch.seen_since(now(), cancel)  # It may have come to hold since.
        if cancel.is_set:
            return
        told = [f"{name} was never read while it mattered" for name in watch.unseen(began)]
        if strict:
            told += [
                f"{name} did not hold in any reading, in too few of them for its gate to judge"
                for name in watch.never_held(began)
            ]
        for reason in told:
            self.findings.add(Verdict.INCONCLUSIVE, f"{where}{reason}")

    def phase(self, name: str, text: str) -> None:
        self.say("phase", text, phase=name)

    def say(self, kind: str, text: str, **fields: Any) -> None:
        """Into the journal and to whoever watches."""
        self.journal.note(kind, text=text, **fields)
        self.tell(kind, text, **fields)

    def tell(self, kind: str, text: str, **data: Any) -> None:
        """To whoever watches; a watcher that fails (a closed pipe) fails alone."""
        if self._observer is None:
            return
        event = Event(
            kind, now() - self.journal.began, self.redactor.text(text), self.redactor.json(data)
        )
        with self._telling, contextlib.suppress(Exception):
            self._observer(event)

    def _sample(self, sample: Sample, phase: str, gate: str) -> None:
        fields: Mapping[str, Any] = {
            "check": sample.check,
            "sight": sample.sight.value,
            "found": sample.found,
            "detail": sample.detail,
            "took": round(sample.took, 4),
            "phase": phase,
        }
        self.journal.note("sample", **fields)
        self.tell("sample", "", gate=gate, **fields)

    @property
    def slowest_reading(self) -> float:
        """Seconds that a reading may take which is begun while another is still under way."""
        return 2 * max(check.probe.timeout for check in self.experiment.steady_state) + 1.0

    def _stop_listening(self) -> None:
        if self._ears is not None:
            self._ears.stop()

    def _aborting(self, by: str, reason: str) -> None:
        self.guard.hasten(UNDO_SECONDS)
        self.say("abort", f"aborting: {reason}", by=by)

    def failed(self, error: Exception) -> None:
        told = (
            str(error) if isinstance(error, ChaoskitError) else f"{type(error).__name__}: {error}"
        )
        if os.environ.get("CHAOSKIT_DEBUG"):
            import traceback

            traceback.print_exception(error, file=sys.stderr)
        self.abort.pull("error", told)

    def _head(self) -> None:
        """The journal's first record, and the experiment as it was run."""
        import time

        experiment = self.experiment
        with contextlib.suppress(OSError):
            text = self.redactor.text(experiment.text)
            (self.folder.path / "experiment.yaml").write_text(text)
        self.journal.append(
            "run",
            schema=1,
            run=self.folder.id,
            version=__version__,
            title=experiment.title,
            file=str(experiment.file),
            hypothesis=experiment.hypothesis,
            tags=list(experiment.tags),
            who=halt.who(),
            uid=os.getuid(),
            why=self.why,
            seed=self.seed,
            pid=os.getpid(),
            boot=boot_id(),
            machine=machine_id(),
            pids=pid_namespace(),
            mono=self.journal.began,
            wall=time.time(),
            variables=[variable.name for variable in experiment.variables],
            secrets=sorted(experiment.secrets()),
            checks=[
                {
                    "name": check.name,
                    "probe": check.probe.describe(),
                    "expect": "; ".join(
                        f"{c.reading} {c.wanted(self.redactor)}" for c in check.expect.conditions
                    ),
                }
                for check in experiment.steady_state
            ],
        )
