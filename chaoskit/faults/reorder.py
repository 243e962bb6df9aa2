"""Packets that overtake each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.disturbance import LONGEST, Disturbance
from chaoskit.model.units import Duration, Percent


@dataclass(frozen=True)
class Reorder(Disturbance):
    """Let a share of the packets go at once, while all others come late: so they overtake."""

    share: Percent = field(metadata={"above": 0, "max": 1, "doc": "of the packets go at once"})
    delay: Duration = field(
        metadata={"above": 0, "max": LONGEST, "doc": "how late the others come"}
    )
    correlation: Percent = field(
        default=0.0, metadata={"max": 1, "doc": "how much a packet's fate is like the last one's"}
    )
    name = "reorder"
    takes = ("share", "delay", "correlation")
    examples = ({"share": "25%", "delay": "20ms"},)

    def problems(self) -> list[tuple[str, str]]:
        return [("share", "must leave some to be overtaken")] if self.share >= 1 else []
