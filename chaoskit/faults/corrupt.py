"""Bytes that arrive wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import Directed
from chaoskit.model.units import Percent


@dataclass(frozen=True)
class Corrupt(Directed):
    """Flip one bit of the payload in a share of the packets; no checksum notices."""

    share: Percent = field(metadata={"above": 0, "max": 1, "doc": "of segments or datagrams"})
    name = "corrupt"
    takes = ("share",)
    examples = ({"share": "10%"},)
