"""What the other runs hold: nobody else may touch it, and it counts as hurt already."""

from __future__ import annotations

from dataclasses import dataclass

from chaoskit.journal import State
from chaoskit.model.target import Claim


@dataclass(frozen=True, slots=True)
class Held:
    """One claim of another run."""

    run: str
    label: str
    claim: Claim


def others(state: State, own: str) -> list[Held]:
    """The claims of every run but `own` that runs or was left behind. Raises StateError."""
    state.left()  # What died before its first change holds nothing.
    return [
        Held(
            folder.id,
            record["label"],
            Claim(frozenset(record["keys"]), frozenset(record["within"])),
        )
        for folder in state.unsettled()
        if folder.id != own
        for record in folder.records()
        if record["kind"] == "claim"
    ]


def holder(claim: Claim, held: list[Held]) -> Held | None:
    """The other run's claim that this one meets, or None."""
    return next((other for other in held if other.claim.meets(claim)), None)
