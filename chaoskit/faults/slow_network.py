"""A slow network, as a container has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from chaoskit.faults.disturbance import LONGEST, Disturbance
from chaoskit.model.units import Duration, Percent


@dataclass(frozen=True)
class SlowNetwork(Disturbance):
    """Delay what it sends or gets, by `delay` more or less `jitter`."""

    delay: Duration = field(metadata={"above": 0, "max": LONGEST, "doc": "how late it comes"})
    jitter: Duration = field(
        default=0.0, metadata={"min": 0, "max": LONGEST, "doc": "how much that varies"}
    )
    distribution: Literal["uniform", "normal", "pareto"] = field(
        default="uniform",
        metadata={"doc": "of the jitter; it is the standard deviation where not uniform"},
    )
    correlation: Percent = field(
        default=0.0, metadata={"max": 1, "doc": "how much a delay is like the one before it"}
    )
    name = "latency"
    takes = ("delay", "jitter", "distribution", "correlation")
    examples = ({"delay": "120ms", "jitter": "20ms", "direction": "both"},)

    def problems(self) -> list[tuple[str, str]]:
        return [
            (key, "says nothing without a jitter")
            for key, idle in (("distribution", "uniform"), ("correlation", 0.0))
            if not self.jitter and getattr(self, key) != idle
        ]
