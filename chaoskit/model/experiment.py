"""An experiment as loaded: every name resolved, every quantity in its inner unit.

Where a class is written in the file as it stands here, its annotations and the metadata of its
fields are what the loader and the JSON Schema go by; see `chaoskit.spec.declared`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from chaoskit.model.expect import Expectation
from chaoskit.model.fault import Fault
from chaoskit.model.probe import Probe
from chaoskit.model.target import Selector
from chaoskit.model.units import Command, Duration, Percent

DEFAULT_HOLD = 10.0
DEFAULT_MAX_DURATION = 900.0
DEFAULT_VERIFY_WITHIN = 60.0
DEFAULT_ACTION_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Check:
    """A probe and what is expected of its reading."""

    name: str
    probe: Probe
    expect: Expectation
    where: Position


@dataclass(frozen=True, slots=True)
class Pick:
    """How many of the matching targets: exactly one of the three is set."""

    count: int | None = None
    fraction: float | None = None
    every: bool = False

    def of(self, matches: int) -> int:
        """How many of so many; a fraction rounds down but not below one."""
        if self.every:
            return matches
        if self.fraction is not None:
            return min(matches, max(1, int(matches * self.fraction + 1e-9)))
        return min(matches, self.count or 0)

    def __str__(self) -> str:
        if self.every:
            return "all"
        return f"{self.fraction * 100:g}%" if self.fraction is not None else str(self.count)


OnRestart: TypeAlias = Literal["end", "reapply"]


@dataclass(frozen=True, slots=True)
class FaultStep:
    """Break something and hold it for `hold` seconds (in each stage).

    on_restart: what a target that restarts meanwhile means: the fault has ended early, or it is
    made again on the new incarnation.
    """

    fault: Fault[Any]
    selector: Selector
    pick: Pick
    hold: float
    where: Position
    stages: tuple[Pick, ...] = ()
    on_restart: OnRestart = "end"

    def __str__(self) -> str:
        return f"{self.fault.name} {self.selector.describe()}"


@dataclass(frozen=True, slots=True)
class RunAction:
    """A command. `undo`: the command that takes it back when the run ends, however it ends."""

    command: Command = field(
        metadata={"key": "run", "doc": "A command for `sh -c`, or a list of words."}
    )
    timeout: Duration = field(
        metadata={
            "default": DEFAULT_ACTION_TIMEOUT,
            "above": 0,
            "doc": "How long the command, and its undo, may take.",
        }
    )
    where: Position
    env: Mapping[str, str] = field(
        default_factory=dict,
        metadata={"doc": "More for the command's environment; every variable is in it anyway."},
    )
    undo: Command | None = field(
        default=None,
        metadata={"doc": "Takes it back when the run ends, however it ends; may run twice."},
    )

    def __str__(self) -> str:
        shown = self.command if isinstance(self.command, str) else " ".join(self.command)
        return f"run {shown}"


@dataclass(frozen=True, slots=True)
class HttpAction:
    """A request; anything but a whole 2xx or 3xx answer fails. `undo`: one that takes it back."""

    url: str = field(metadata={"doc": "Where to: http://... or https://..."})
    method: str = field(metadata={"default": "GET", "doc": "GET unless said."})
    timeout: Duration = field(
        metadata={
            "default": DEFAULT_ACTION_TIMEOUT,
            "above": 0,
            "doc": "How long the answer may take.",
        }
    )
    where: Position
    headers: Mapping[str, str] = field(default_factory=dict, metadata={"doc": "By name."})
    body: str | None = field(default=None, metadata={"doc": "Sent as it is."})
    undo: HttpAction | None = field(default=None, metadata={"key": None})

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with single fields, as (field, message)."""
        from chaoskit.model.url import problem_with, problem_with_method

        told = {"url": problem_with(self.url), "method": problem_with_method(self.method)}
        return [(name, problem) for name, problem in told.items() if problem]

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


@dataclass(frozen=True, slots=True)
class WaitAction:
    """Wait; the gates go on watching."""

    seconds: Duration = field(metadata={"key": "wait", "above": 0, "doc": "How long."})
    where: Position

    def __str__(self) -> str:
        return f"wait {self.seconds:g}s"


@dataclass(frozen=True, slots=True)
class Parallel:
    """Several steps at once; the longest decides how long."""

    steps: tuple[Step, ...]
    where: Position

    def __str__(self) -> str:
        return "parallel: " + ", ".join(str(step) for step in self.steps)


Step: TypeAlias = FaultStep | RunAction | HttpAction | WaitAction | Parallel


@dataclass(frozen=True, slots=True)
class GateSpec:
    """Which check may abort, how often it is read (seconds) and how many failures in a row do."""

    check: str = field(metadata={"doc": "The name of a steady-state check."})
    every: Duration = field(
        default=1.0, metadata={"above": 0, "doc": "How often the check is read."}
    )
    consecutive: int = field(
        default=3, metadata={"min": 1, "doc": "How many failures in a row abort."}
    )
    where: Position | None = None


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What a run may hurt at most. None means that the file sets no such limit."""

    max_targets: int | None = field(
        default=None, metadata={"min": 1, "doc": "How many targets may be hurt at once."}
    )
    max_percent: Percent | None = field(
        default=None,
        metadata={"above": 0, "max": 1, "doc": "What part of the matching targets may be hurt."},
    )
    min_healthy: int | None = field(
        default=None, metadata={"min": 0, "doc": "How many matching targets stay unhurt."}
    )
    max_duration: Duration = field(
        default=DEFAULT_MAX_DURATION,
        metadata={"above": 0, "doc": "The hard deadline of the whole run."},
    )
    allow_users: tuple[str, ...] = field(
        default=(), metadata={"doc": "Other users whose processes may be hurt."}
    )
    allow_host: bool = field(
        default=False,
        metadata={
            "doc": "Faults on a container that has its machine's network, devices or folders may "
            "reach the machine itself."
        },
    )
    allow_shared: bool = field(
        default=False,
        metadata={
            "doc": "Faults on the network of a container may reach other containers that share it; "
            "the plan names them, and the limits do not count them."
        },
    )


@dataclass(frozen=True, slots=True)
class Verify:
    """What must hold again after the undo, and within how many seconds.

    check: the name of one check, or `steady-state` for all of them.
    """

    check: str = field(
        default="steady-state",
        metadata={"doc": "The name of a check, or `steady-state` for all of them."},
    )
    within: Duration = field(
        default=DEFAULT_VERIFY_WITHIN, metadata={"doc": "How long it may take to hold again."}
    )


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as resolved for this run."""

    name: str
    value: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment file, resolved.

    gates: None when the file says nothing (then every steady-state check is a gate); an empty
    tuple when it says `gates: []` (then failures are recorded and make the run deviated).
    document: the file as a resolved JSON document, secrets as `${NAME}`; part of the plan's hash.
    text: the file as it was written.
    """

    title: str
    steady_state: tuple[Check, ...]
    method: tuple[Step, ...]
    file: Path
    document: Mapping[str, Any]
    text: str = field(default="", compare=False, repr=False)
    hypothesis: str = ""
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    gates: tuple[GateSpec, ...] | None = None
    blast_radius: BlastRadius = BlastRadius()
    verify: tuple[Verify, ...] = (Verify(),)

    def gate_specs(self) -> tuple[GateSpec, ...]:
        """The gates that abort: those of the file, or the default gate on every check."""
        if self.gates is None:
            return tuple(GateSpec(check.name) for check in self.steady_state)
        return self.gates

    def environment(self) -> dict[str, str]:
        """Every variable by name, for commands."""
        return {variable.name: variable.value for variable in self.variables}

    def secrets(self) -> dict[str, str]:
        return {v.name: v.value for v in self.variables if v.secret and v.value}

    def fault_steps(self) -> Iterator[FaultStep]:
        """All fault steps, those in `parallel` too, in file order."""
        for step in self.method:
            for inner in step.steps if isinstance(step, Parallel) else (step,):
                if isinstance(inner, FaultStep):
                    yield inner


def method_seconds(method: Iterable[Step]) -> float:
    """How long the holds and waits of a method are together, in seconds."""
    return sum(_seconds(step) for step in method)


def _seconds(step: Step) -> float:
    match step:
        case FaultStep():
            return step.hold * max(1, len(step.stages))
        case WaitAction():
            return step.seconds
        case Parallel():
            return max((_seconds(part) for part in step.steps), default=0.0)
    return 0.0
