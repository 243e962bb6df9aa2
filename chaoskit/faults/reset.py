"""Connections that are reset."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import DIRECTION, LONGEST, Directed, Direction
from chaoskit.model.units import Duration


@dataclass(frozen=True)
class Reset(Directed):
    """End connections with a TCP reset, `after` so long."""

    after: Duration = field(
        default=0.0, metadata={"min": 0, "max": LONGEST, "doc": "how long a connection has"}
    )
    direction: Direction = field(default="both", kw_only=True, metadata={"doc": DIRECTION})
    name = "reset"
    takes = ("after",)
    examples = ({},)
