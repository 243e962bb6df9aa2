"""Data in small pieces."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import Directed
from chaoskit.model.units import Duration, Size


@dataclass(frozen=True)
class Slice(Directed):
    """Cut what passes into small pieces, sent one after the other."""

    size: Size = field(metadata={"min": 1, "doc": "of a piece"})
    variation: Size = field(
        default=0, metadata={"doc": "a piece is so much larger or smaller at most"}
    )
    delay: Duration = field(default=0.0, metadata={"max": 60.0, "doc": "between two pieces"})
    name = "slice"
    takes = ("size", "variation", "delay")
    examples = ({"size": "64B", "variation": "16B", "delay": "1ms"},)

    def problems(self) -> list[tuple[str, str]]:
        return [("variation", "must be below size")] if self.variation >= self.size else []
