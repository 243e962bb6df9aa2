"""A link that is dead: nothing passes, or nobody answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from chaoskit.faults.network import DIRECTION, Directed, Direction
from chaoskit.model.impairment import Impairment


@dataclass(frozen=True)
class DropNetwork(Directed):
    """Let nothing pass (`black-hole`), or refuse connections and reset those there are."""

    how: Literal["black-hole", "refuse"] = field(
        default="black-hole",
        metadata={"doc": "silence, as from a cut cable, or a refusal, as from a dead service"},
    )
    direction: Direction = field(default="both", kw_only=True, metadata={"doc": DIRECTION})
    name = "drop-network"
    examples = ({}, {"how": "refuse"})

    def problems(self) -> list[tuple[str, str]]:
        if self.how != "refuse":
            return []
        told = "connections are refused altogether: leave this out"
        found = [("direction", told)] if self.direction != "both" else []
        return found + ([("toxicity", told)] if self.toxicity != 1 else [])

    @property
    def kind(self) -> str:
        return self.how

    def impairments(self) -> tuple[Impairment, ...]:
        if self.how == "refuse":
            return (Impairment("refuse", "both"),)
        return super().impairments()
