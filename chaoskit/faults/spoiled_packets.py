"""Packets that arrive wrong, as a container has them."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.disturbance import Disturbance
from chaoskit.model.units import Percent


@dataclass(frozen=True)
class SpoiledPackets(Disturbance):
    """Flip one bit in a share of the packets: checksums notice, so TCP sends again."""

    share: Percent = field(metadata={"above": 0, "max": 1, "doc": "of the packets"})
    correlation: Percent = field(
        default=0.0, metadata={"max": 1, "doc": "how much a packet's fate is like the last one's"}
    )
    name = "corrupt"
    takes = ("share", "correlation")
    examples = ({"share": "10%"},)
