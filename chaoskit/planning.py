"""The plan: the exact targets, undo and privileges of a run, before anything happens."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from itertools import islice
from typing import Any

from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.journal import State
from chaoskit.model.binding import Binding
from chaoskit.model.experiment import (
    BlastRadius,
    Experiment,
    FaultStep,
    HttpAction,
    Parallel,
    RunAction,
    Step,
    WaitAction,
    method_seconds,
)
from chaoskit.model.redact import Redactor
from chaoskit.model.result import Plan, PlannedStep, PlannedTarget
from chaoskit.model.target import Target
from chaoskit.model.units import show_duration
from chaoskit.safety import claims, halt
from chaoskit.safety.blast import Choice, choose

MOST_CELLS = 500
"""How many changes a plan lists for one target."""


def numbered(method: Sequence[Step]) -> Iterator[tuple[str, Step]]:
    """Every step with its number: `1`, `2`, and `2.1` within a parallel."""
    for index, step in enumerate(method, 1):
        yield str(index), step
        if isinstance(step, Parallel):
            for inner, part in enumerate(step.steps, 1):
                yield f"{index}.{inner}", part


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan with the targets themselves, for a run that goes on from it. by_step: their keys, by
    the step's number. matched: by their keys, the selector that found each first, and how many."""

    plan: Plan
    targets: tuple[Target, ...]
    by_step: Mapping[str, Sequence[str]]
    matched: Mapping[str, tuple[str, int]]


def make_plan(experiment: Experiment, state: State, seed: int | None = None) -> Plan:
    """What a run would do now. Changes nothing. seed: what `pick` chooses by; new when None.

    Raises StateError when the state folder cannot be read.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big")
    return choose_all(experiment, state, seed, own="").plan


def choose_all(experiment: Experiment, state: State, seed: int, own: str) -> Chosen:
    """The plan of run `own` and its targets. The caller holds `state.choosing()` to claim them."""
    planner = _Planner(experiment, state, seed, own)
    if now_halted := halt.current(state):
        planner.refuse("", f"{now_halted}; `chaoskit release` lets runs start again")
    for number, step in numbered(experiment.method):
        planner.add(number, step)
    chosen = planner.chosen()
    return replace(chosen, plan=_without_secrets(chosen.plan, planner.redactor))


def _without_secrets(value: Any, redactor: Redactor) -> Any:
    """The same with every text in it redacted, whatever it consists of; the hash names the plan."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, tuple):
        return tuple(_without_secrets(item, redactor) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        texts = {
            field.name: _without_secrets(getattr(value, field.name), redactor)
            for field in fields(value)
            if field.name != "hash"
        }
        return replace(value, **texts)
    return value


class _Planner:
    def __init__(self, experiment: Experiment, state: State, seed: int, own: str) -> None:
        self.experiment = experiment
        self.state = state
        self.seed = seed
        self.own = own
        self.redactor = Redactor(experiment.secrets())
        self.held = claims.others(state, own)
        self.steps: list[PlannedStep] = []
        self.targets: dict[str, Target] = {}
        self.by_step: dict[str, list[str]] = {}
        self.matched: dict[str, tuple[str, int]] = {}
        self.refusals: dict[str, list[str]] = {}
        """Why it may not run, each with the steps that say so."""
        self.gone_for_good: dict[str, frozenset[str]] = {}
        self.hurt_now: dict[str, frozenset[str]] = {}
        self.touched: dict[tuple[str, str], str] = {}
        """Which step of the parallel changes a cell by a fault: there is one way back only."""
        self.within = ""

    def refuse(self, number: str, why: str) -> None:
        self.refusals.setdefault(why, []).append(number)

    def add(self, number: str, step: Step) -> None:
        parallel = number.partition(".")[0] if "." in number else ""
        if not parallel or parallel != self.within:
            self.hurt_now = dict(self.gone_for_good)
            self.touched = {}
            self.within = parallel
        match step:
            case FaultStep():
                self._fault(number, step)
            case RunAction() | HttpAction():
                undo = f"`{_words(step.undo)}`" if step.undo else "none: it is one way"
                kind = "run" if isinstance(step, RunAction) else "http"
                self.steps.append(PlannedStep(number, str(step), kind, step.timeout, undo=undo))
            case WaitAction():
                self.steps.append(PlannedStep(number, str(step), "wait", step.seconds))
            case Parallel():
                pass

    def _fault(self, number: str, step: FaultStep) -> None:
        fault = step.fault
        binding = Binding(
            run=self.own or "plan",
            step=number,
            folder=self.state.path,
            redactor=self.redactor,
            allow_host=self.experiment.blast_radius.allow_host,
            allow_shared=self.experiment.blast_radius.allow_shared,
        )
        most = step.stages[-1] if step.stages else step.pick
        try:
            choice = choose(
                step,
                most,
                binding,
                self.experiment.blast_radius,
                self.seed,
                held=self.held,
                hurt=self.hurt_now,
                gone=self.gone_for_good,
                prefer=list(self.targets),
            )
        except Refused as error:
            choice = Choice(0, (), (str(error),))
        for refusal in choice.refusals:
            self.refuse(number, refusal)
        privileges: dict[str, None] = {}
        remarks: dict[str, None] = {}
        ends: dict[str, None] = {}
        self.by_step[number] = [target.key for target in choice.targets]
        for target in choice.targets:
            self.targets.setdefault(target.key, target)
            self.matched.setdefault(target.key, (step.selector.describe(), choice.matched))
            self.hurt_now[target.key] = target.claim().keys
            if fault.way_back() is None:
                self.gone_for_good[target.key] = self.hurt_now[target.key]
            privileges.update(dict.fromkeys(fault.privileges(target)))
            ends[fault.ends_on(target).value] = None
            try:
                remarks.update(dict.fromkeys(fault.remarks(target)))
                if why := fault.refuse(target):
                    self.refuse(number, f"{fault.name} on {target.label}: {why}")
            except Gone:
                self.refuse(number, f"{target.label} has just ended")
            except (ChaoskitError, OSError) as error:
                self.refuse(number, f"{fault.name} on {target.label}: {error}")
        cells = [planned_cells(step, target) for target in choice.targets]
        for target, keys in zip(choice.targets, cells, strict=True):
            kind = fault.alters or fault.name
            others = {self.touched.setdefault((kind, key), number) for key in keys}
            if not fault.side_by_side and (before := sorted(others - {number})):
                self.refuse(
                    number,
                    f"{fault.name} on {target.label}: step {before[0]} changes the same there at "
                    "the same time",
                )
        stages = max(1, len(step.stages))
        self.steps.append(
            PlannedStep(
                number=number,
                text=str(step),
                kind="fault",
                hold=step.hold * stages,
                matched=choice.matched,
                pick=" then ".join(str(p) for p in step.stages) or str(step.pick),
                targets=tuple(
                    PlannedTarget(t.kind, t.key, t.label, keys)
                    for t, keys in zip(choice.targets, cells, strict=True)
                ),
                undo=fault.way_back() or "none: it is one way",
                ends=" or ".join(ends) or fault.ends.value,
                privileges=tuple(privileges),
                passed_over=choice.passed_over,
                remarks=tuple(remarks),
            )
        )

    def chosen(self) -> Chosen:
        experiment, limits = self.experiment, self.experiment.blast_radius
        seconds = method_seconds(experiment.method)
        targets = sorted(self.targets)
        return Chosen(
            Plan(
                title=experiment.title,
                file=str(experiment.file),
                seed=self.seed,
                hash=_hash(experiment, targets),
                steps=tuple(self.steps),
                refusals=tuple(_refusal(why, at) for why, at in self.refusals.items()),
                checks=tuple(check.name for check in experiment.steady_state),
                gates=tuple(
                    f"{gate.check}: read every {show_duration(gate.every)}, aborts at "
                    f"{gate.consecutive} failure{'s in a row' if gate.consecutive > 1 else ''}"
                    for gate in experiment.gate_specs()
                ),
                limits=tuple(limit_texts(limits)),
                max_duration=limits.max_duration,
                seconds=seconds,
            ),
            tuple(self.targets.values()),
            self.by_step,
            self.matched,
        )


def planned_cells(step: FaultStep, target: Target) -> tuple[str, ...]:
    """The keys of the cells that would be changed: a run that never makes."""
    try:
        changes = step.fault.changes(target)
        return tuple(dict.fromkeys(change.key for change in islice(changes, MOST_CELLS)))
    except (ChaoskitError, OSError):
        return ()  # Why it cannot be is told by `refuse`.


def limit_texts(limits: BlastRadius) -> Iterator[str]:
    """The blast radius, a limit at a time, for people."""
    if limits.max_targets is not None:
        several = "s" if limits.max_targets != 1 else ""
        yield f"at most {limits.max_targets} target{several} at once"
    if limits.max_percent is not None:
        yield f"at most {limits.max_percent * 100:g}% of what matches"
    if limits.min_healthy is not None:
        yield f"at least {limits.min_healthy} left healthy"
    yield f"at most {show_duration(limits.max_duration)} in all"
    for user in limits.allow_users:
        yield f"processes of user {user} allowed"
    if limits.allow_host:
        yield "the machine under a container may be reached"
    if limits.allow_shared:
        yield "containers that share a network with a target may be reached"


def _refusal(why: str, steps: Sequence[str]) -> str:
    """What several steps say (no daemon answers) is told once."""
    numbers = list(dict.fromkeys(filter(None, steps)))
    if not numbers:
        return why
    *some, last = numbers
    return f"steps {', '.join(some)} and {last}: {why}" if some else f"step {last}: {why}"


def _hash(experiment: Experiment, targets: Collection[str]) -> str:
    whole = {
        "document": experiment.document,
        "limits": asdict(experiment.blast_radius),
        "targets": sorted(targets),
    }
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _words(undo: object) -> str:
    return " ".join(undo) if isinstance(undo, tuple) else str(undo)
