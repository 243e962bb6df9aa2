"""The seam of every gate: samples in, decision out, no clock and no socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from chaoskit.model.units import Json


class Sight(Enum):
    """What one reading of a check came to. UNREAD counts against a gate as FAILED does."""

    OK = "ok"
    FAILED = "failed"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one check, judged.

    at: CLOCK_MONOTONIC seconds when the reading was had. took: seconds that the probe needed.
    found: the values read that conditions are about, for people. detail: what was wrong.
    """

    check: str
    at: float
    sight: Sight
    took: float = 0.0
    found: Json = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """abort: pull the cord. text: what the gate thinks, in a few words."""

    abort: bool
    text: str


class Gate(ABC):
    """A rule over the samples of one check, fed one by one in the order they were taken."""

    @abstractmethod
    def feed(self, sample: Sample) -> Decision: ...
