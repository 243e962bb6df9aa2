"""Packets that arrive twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.disturbance import Disturbance
from chaoskit.model.units import Percent


@dataclass(frozen=True)
class Duplicate(Disturbance):
    """Send or deliver a share of the packets twice."""

    share: Percent = field(metadata={"above": 0, "max": 1, "doc": "of the packets"})
    correlation: Percent = field(
        default=0.0, metadata={"max": 1, "doc": "how much a packet's fate is like the last one's"}
    )
    name = "duplicate"
    takes = ("share", "correlation")
    examples = ({"share": "10%"},)
