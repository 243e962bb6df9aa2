"""Connections that end late."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import LONGEST, Directed
from chaoskit.model.units import Duration


@dataclass(frozen=True)
class SlowClose(Directed):
    """Let the end of a connection arrive late."""

    delay: Duration = field(metadata={"above": 0, "max": LONGEST, "doc": "how late it arrives"})
    name = "slow-close"
    takes = ("delay",)
    examples = ({"delay": "300ms"},)
