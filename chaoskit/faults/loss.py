"""A link that loses packets."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import Directed
from chaoskit.model.units import Percent


@dataclass(frozen=True)
class Loss(Directed):
    """Lose a share of the packets: a stall, as TCP sends again; a UDP datagram is dropped."""

    share: Percent = field(metadata={"above": 0, "max": 1, "doc": "of segments or datagrams"})
    name = "loss"
    takes = ("share",)
    examples = ({"share": "10%"},)
