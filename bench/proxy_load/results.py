"""What was measured, and what the issue asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common import median


@dataclass(frozen=True, slots=True)
class Judgement:
    """A number that has a limit. A miss is told and is no error: the machine may be busy."""

    what: str
    value: float
    limit: float
    least: bool  # The limit is the least that is good, not the most.

    @property
    def good(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def row(self) -> list[str]:
        return [
            "PASS" if self.good else "MISS", self.what, f"{self.value:.2f}",
            f"{'at least' if self.least else 'at most'} {self.limit:g}",
        ]  # fmt: skip


@dataclass(slots=True)
class Result:
    """One measure: a table of figures by peer, and what is judged in it."""

    title: str
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    judgements: list[Judgement] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        return all(name in self.figures for name in names)

    def at_least(self, what: str, value: float, limit: float) -> None:
        self.judgements.append(Judgement(what, value, limit, least=True))

    def at_most(self, what: str, value: float, limit: float) -> None:
        self.judgements.append(Judgement(what, value, limit, least=False))

    def rows(self) -> tuple[list[str], list[list[str]]]:
        heads = list(dict.fromkeys(key for figures in self.figures.values() for key in figures))
        rows = [
            [name, *(_shown(figures[key]) if key in figures else "" for key in heads)]
            for name, figures in self.figures.items()
        ]
        return ["", *heads], rows

    def document(self) -> dict[str, object]:
        return {
            "title": self.title,
            "figures": self.figures,
            "judgements": [
                {"what": one.what, "value": one.value, "good": one.good,
                 "at-least" if one.least else "at-most": one.limit}
                for one in self.judgements
            ],
        }  # fmt: skip


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: median([one[key] for one in rounds]) for key in rounds[0]}


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
