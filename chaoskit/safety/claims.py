"""What the other runs hold: nobody else may touch it, and it counts as hurt already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaoskit.journal import State
from chaoskit.model.target import Claim


@dataclass(frozen=True, slots=True)
class Held:
    """One claim of another run. of: the mark of the selector that found it, and how many that
    matched."""

    run: str
    label: str
    claim: Claim
    of: str = ""
    matched: int = 0


def others(state: State, own: str) -> list[Held]:
    """The claims of every run but `own` that runs or was left behind. Raises StateError."""
    state.left()  # What died before its first change holds nothing.
    return [
        Held(
            folder.id,
            record["label"],
            Claim(frozenset(record["keys"]), frozenset(record["within"])),
            record.get("of", ""),
            record.get("matched", 0),
        )
        for folder in state.unsettled()
        if folder.id != own
        for record in folder.records()
        if record["kind"] == "claim"
    ]


def mark_of(selector: str) -> str:
    """A selector as a journal names it: what it is written with may be a secret."""
    from hashlib import sha256

    return sha256(selector.encode(errors="surrogateescape")).hexdigest()[:16]


def holder(claim: Claim, held: Sequence[Held]) -> Held | None:
    """The other run's claim that this one meets, or None."""
    return next((other for other in held if other.claim.meets(claim)), None)
