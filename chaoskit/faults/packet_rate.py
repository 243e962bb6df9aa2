"""A narrow network."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults import packet_rules
from chaoskit.faults.packet_rules import Direction, Effect
from chaoskit.faults.packets import DIRECTION, Packets
from chaoskit.model.units import Rate


@dataclass(frozen=True)
class LimitPackets(Packets):
    """Let so many bytes a second pass and lose what is more, as a narrow line without a queue does.

    Of all packets together that are meant, in each direction. As much as one second's worth (66 KB
    at least) passes at once when it was quiet before, and so in the first second.
    """

    rate: Rate = field(
        metadata={"min": 1, "max": 1e10, "doc": "bytes a second, of all connections together"}
    )
    direction: Direction = field(default="out", kw_only=True, metadata={"doc": DIRECTION})
    name = "bandwidth"
    examples = ({"rate": "500KB/s"},)

    def effect(self) -> Effect:
        return packet_rules.above(self.rate)
