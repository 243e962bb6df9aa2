"""A narrow link."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import Directed
from chaoskit.model.units import Rate


@dataclass(frozen=True)
class Bandwidth(Directed):
    """Let each connection have so many bytes a second and no more."""

    rate: Rate = field(
        metadata={"above": 0, "max": 1e12, "doc": "bytes a second, of each connection"}
    )
    name = "bandwidth"
    takes = ("rate",)
    examples = ({"rate": "500KB/s"},)
