"""A network in two parts that do not hear of each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults import peers
from chaoskit.faults.packet_rules import Direction, Effect, Picked
from chaoskit.faults.packets import DIRECTION, PacketFault


@dataclass(frozen=True)
class Partition(PacketFault):
    """Cut the network between these targets and some peers, both ways or one; everybody else is
    reached as before."""

    from_: tuple[str, ...] = field(metadata={"doc": peers.DOC.rpartition("; ")[0]})
    direction: Direction = field(default="both", kw_only=True, metadata={"doc": DIRECTION})
    name = "partition"
    examples = ({"from": ["${PEER}", "2001:db8::/32"]},)

    @property
    def whom(self) -> tuple[str, ...]:
        return self.from_

    def picked(self) -> Picked:
        return Picked(self.direction, peers=True)

    def effect(self) -> Effect:
        return Effect()

    def problems(self) -> list[tuple[str, str]]:
        if not self.from_:
            return [("from_", "names nobody")]
        return [("from_", told) for peer in self.from_ if (told := peers.problem_with(peer))]
