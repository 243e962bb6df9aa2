"""The keys of an experiment file, as annotated dataclasses: the decoder and the schema read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chaoskit.model.experiment import (
    DEFAULT_HOLD,
    DEFAULT_MAX_DURATION,
    DEFAULT_VERIFY_WITHIN,
)
from chaoskit.model.units import Command, Duration, Percent
from chaoskit.model.url import problem_with


def _doc(text: str, **more: Any) -> dict[str, Any]:
    return {"doc": text, **more}


@dataclass(frozen=True)
class Header:
    """The keys of a file that stand for themselves."""

    chaoskit: Literal[1] = field(metadata=_doc("the version of the file format"))
    title: str = field(metadata=_doc("what this experiment is called"))
    hypothesis: str = field(default="", metadata=_doc("what you believe will hold, and why"))
    tags: tuple[str, ...] = field(default=(), metadata=_doc("words to find it by"))

    def problems(self) -> list[tuple[str, str]]:
        return [] if self.title.strip() else [("title", "the title is empty")]


@dataclass(frozen=True)
class GateKeys:
    """A rule that may abort the run."""

    check: str = field(metadata=_doc("the name of a steady-state check"))
    every: Duration = field(default=1.0, metadata=_doc("how often it is read"))
    consecutive: int = field(default=3, metadata=_doc("failures in a row that abort"))

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if self.every < 0.01:
            found.append(("every", "a check is read at most every 10ms"))
        if self.consecutive < 1:
            found.append(("consecutive", "at least one failure is needed to abort"))
        return found


@dataclass(frozen=True)
class VerifyKeys:
    """What must hold again after the undo."""

    check: str = field(
        default="steady-state", metadata=_doc("the name of a check, or steady-state for all")
    )
    within: Duration = field(
        default=DEFAULT_VERIFY_WITHIN, metadata=_doc("how long it may take to hold again")
    )


@dataclass(frozen=True)
class BlastKeys:
    """What a run may hurt at most."""

    max_targets: int | None = field(
        default=None, metadata=_doc("targets under a fault at the same time")
    )
    max_percent: Percent | None = field(
        default=None, metadata=_doc("of what a selector matches, over all runs")
    )
    min_healthy: int | None = field(
        default=None, metadata=_doc("of what a selector matches, left alone over all runs")
    )
    max_duration: Duration = field(
        default=DEFAULT_MAX_DURATION, metadata=_doc("after which a run aborts whatever it does")
    )
    allow_users: tuple[str, ...] = field(
        default=(), metadata=_doc("whose processes may be hurt, beside one's own")
    )

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if self.max_targets is not None and self.max_targets < 1:
            found.append(("max-targets", "below 1 nothing could be done at all"))
        if self.max_percent is not None and not 0 < self.max_percent <= 1:
            found.append(("max-percent", "expected more than 0% and at most 100%"))
        if self.min_healthy is not None and self.min_healthy < 0:
            found.append(("min-healthy", "expected 0 or more"))
        if not 0 < self.max_duration <= 7 * 86400:
            found.append(("max-duration", "expected more than 0 and at most 7d"))
        return found


@dataclass(frozen=True)
class FaultKeys:
    """The keys that every fault step has, beside the fault's own."""

    for_: Duration = field(default=DEFAULT_HOLD, metadata=_doc("how long it is held"))

    def problems(self) -> list[tuple[str, str]]:
        return [] if self.for_ > 0 else [("for", "expected more than 0s")]


@dataclass(frozen=True)
class RunKeys:
    """Run a command as a step."""

    run: Command = field(metadata=_doc("a text for `sh -c`, or a list of words"))
    timeout: Duration = field(default=60.0, metadata=_doc("after which it has failed"))
    env: Mapping[str, str] = field(default_factory=dict, metadata=_doc("its environment"))
    undo: Command | None = field(
        default=None, metadata=_doc("takes it back when the run ends; must bear to run twice")
    )

    def problems(self) -> list[tuple[str, str]]:
        return [] if self.timeout > 0 else [("timeout", "expected more than 0s")]


@dataclass(frozen=True)
class RequestKeys:
    """An HTTP request."""

    url: str
    method: str = "POST"
    timeout: Duration = 10.0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None

    def problems(self) -> list[tuple[str, str]]:
        problem = problem_with(self.url)
        return [("url", problem)] if problem else []


@dataclass(frozen=True)
class UndoRequestKeys:
    """The request that takes an `http` step back."""

    http: RequestKeys


@dataclass(frozen=True)
class HttpKeys:
    """Send a request as a step."""

    http: RequestKeys
    undo: UndoRequestKeys | None = None


@dataclass(frozen=True)
class WaitKeys:
    """Wait as a step."""

    wait: Duration = field(metadata=_doc("the gates go on watching"))
