"""A network that is dead: nothing passes, or everything is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from chaoskit.faults.packet_rules import Effect
from chaoskit.faults.packets import Packets


@dataclass(frozen=True)
class DropPackets(Packets):
    """Let no packet pass (`black-hole`), or refuse each: connections are reset as soon as anything
    is sent on them.

    A datagram that is refused fails right where it is sent (`EPERM`), as with a local firewall.
    """

    how: Literal["black-hole", "refuse"] = field(
        default="black-hole",
        metadata={
            "doc": "silence, as from a cut cable, or a refusal, as from a machine without the "
            "service: a TCP reset, else `port unreachable`"
        },
    )
    name = "drop-network"
    examples = ({}, {"how": "refuse", "protocol": "tcp", "peer-ports": [5432], "direction": "out"})

    def effect(self) -> Effect:
        return Effect(refuse=self.how == "refuse")
