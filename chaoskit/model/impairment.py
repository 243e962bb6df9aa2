"""What is done to the traffic of a link or of a target, in words and units that no tool's interface
dictates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaoskit.model.units import Json


@dataclass(frozen=True, slots=True)
class Impairment:
    """One thing done to one direction of a link, or to what a target sends or gets.

    kind: `latency`, `bandwidth`, `black-hole`, `refuse`, `reset`, `slow-close`, `slice`,
        `limit-data`, `loss`, `corrupt`, `http-error` or `http-delay`; of packets also `reorder`
        and `duplicate`.
    direction: `upstream` (from the client to the server), `downstream`, or `both` for what has no
        direction (`refuse`). Of a target's packets: `out`, `in` or `both`.
    toxicity: the fraction of the connections that it applies to, decided once for each.
    values: what the kind takes: seconds, bytes, bytes a second, fractions of 1.
    """

    kind: str
    direction: str
    toxicity: float = 1.0
    values: Mapping[str, Json] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """A value that is a number, by its name."""
        value = self.values[name]
        assert isinstance(value, int | float), value
        return float(value)
