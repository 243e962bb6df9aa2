"""A network that loses packets."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults import packet_rules
from chaoskit.faults.packet_rules import Effect
from chaoskit.faults.packets import Packets
from chaoskit.model.units import Percent


@dataclass(frozen=True)
class LosePackets(Packets):
    """Lose a share of the packets, each by lot: TCP sends again and slows down.

    What the kernel handles in one piece (up to 64 KiB of a fast connection) is lost in one piece.
    """

    share: Percent = field(
        metadata={"above": 0, "max": 1, "doc": "of the packets, in each direction"}
    )
    name = "loss"
    examples = ({"share": "10%"},)

    def effect(self) -> Effect:
        return packet_rules.share(self.share)
