"""What a plan says before a run, what is said while it goes on, and what is left of it afterwards.

All of it turns into JSON by `to_json`, whose shape carries a schema version and only ever grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    kind: str
    key: str
    label: str
    cells: tuple[str, ...] = ()
    """What would be changed of it: for `pause`, each process of its tree."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as it would run.

    number: `1`, or `2.1` for the first step of a `parallel` that is step 2.
    hold: seconds that the fault is held (in each stage) or the action may take.
    matched: how many targets the selector matches; targets: those chosen.
    undo, ends: how it is undone, and what ends it when nobody of ours is left to undo.
    """

    number: str
    text: str
    kind: str  # "fault", "run", "http", "wait"
    hold: float
    matched: int = 0
    pick: str = ""
    targets: tuple[PlannedTarget, ...] = ()
    undo: str = ""
    ends: str = ""
    privileges: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    """What matches and was left out, each with the reason: protected, or held by another run."""
    remarks: tuple[str, ...] = ()
    """What else a person should know before it is done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact targets, undo and privileges of a run, before anything happens.

    hash: of the resolved file, its limits and the targets found. refusals: why it may not run;
    empty when it may. seconds: how long the method takes at most if nothing goes wrong.
    """

    title: str
    file: str
    seed: int
    hash: str
    steps: tuple[PlannedStep, ...]
    refusals: tuple[str, ...]
    checks: tuple[str, ...]
    gates: tuple[str, ...]
    limits: tuple[str, ...]
    max_duration: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA_VERSION, "kind": "plan", **asdict(self)}


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one step. Times are seconds since the run began; None: it never came to it.

    proven: the effect was there after the injection; proven_again: and still when the hold ended.
    undo_took: seconds from the end of the hold, or the abort, until the last cell was back.
    injected: when the first of its stages was in; stages: how many of them came to be in.
    acted: when an action or a wait was over. one_way: nothing undoes it.
    """

    number: str
    text: str
    kind: str
    targets: tuple[str, ...] = ()
    began: float | None = None
    injected: float | None = None
    undone: float | None = None
    undo_took: float | None = None
    proven: bool | None = None
    proven_again: bool | None = None
    outcomes: tuple[str, ...] = ()
    problem: str = ""
    acted: float | None = None
    one_way: bool = False
    stages: int = 0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The readings of one check. before, after: `ok`, `failed`, `unread` or "" (never asked)."""

    name: str
    probe: str
    expect: str
    before: str = ""
    before_detail: str = ""
    during_ok: int = 0
    during_failed: int = 0
    during_unread: int = 0
    first_failure: str = ""
    after: str = ""
    after_detail: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """One cell that could not be undone, and how a person puts it right."""

    cell: int
    fault: str
    target: str
    key: str
    was: Json
    put: Json
    found: Json
    why: str

    @property
    def remedy(self) -> str:
        return (
            f"put it right by hand and `chaoskit recover`, or `chaoskit recover --accept "
            f"{self.cell}` to keep what is there, or `--force {self.cell}` to write the old value"
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A run as its journal tells it; None and "" where it does not tell.

    state: `running`, `left` (dead with something in), or `done`. undone_by: `runner`, `guardian`
    or `recover`. timeline: (seconds since the start, what happened).
    """

    run: str
    title: str
    file: str
    state: str
    verdict: Verdict | None
    reason: str
    hypothesis: str
    tags: tuple[str, ...]
    who: str
    why: str
    started: str
    ended: str
    seconds: float
    seed: int
    plan_hash: str
    undone_by: str
    steps: tuple[StepResult, ...]
    checks: tuple[CheckResult, ...]
    left: tuple[Left, ...]
    learnt: tuple[str, ...]
    timeline: tuple[tuple[float, str], ...]
    folder: str
    version: str

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code if self.verdict else Verdict.FAILED.exit_code

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["verdict"] = self.verdict.value if self.verdict else None
        record["left"] = [asdict(left) | {"remedy": left.remedy} for left in self.left]
        return {"schema": SCHEMA_VERSION, "kind": "run", "exit": self.exit_code, **record}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, told while it happens.

    at: seconds since the run began. text: one plain line for people; "" when only the live view
    needs it. kind and data, by kind:
      plan      the plan; data: {"plan": Plan.to_json()}
      phase     data: {"phase": "before" | "method" | "undo" | "verify" | "done"}
      step      a step begins; data: {"step": number, "title", "hold", "targets": [labels]}
      injected  its fault is in and proven; data: {"step", "until": at-seconds when the hold ends}
      outcome   somebody answered the fault; data: {"step", "held"}
      released  the step's fault is out; data: {"step", "took"}
      acted     an action is done; data: {"step"}
      problem   a step could not be carried out; data: {"step", "told"}
      sample    a check was read; data: {"check", "sight", "found", "detail", "took", "gate"}
      abort     the cord was pulled; data: {"by": "gate" | "halt" | "signal" | "deadline" | ...}
      note      anything else worth a line
      verdict   data: {"verdict", "reason"}
    """

    kind: str
    at: float
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Observer: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """The observer that tells nobody."""
