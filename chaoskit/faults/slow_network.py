"""A slow network, as a container has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from chaoskit.capabilities import HasPackets
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults import packet_rules, packets, peers
from chaoskit.faults.disturbance import LONGEST, Disturbance
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Duration, Json, Percent


@dataclass(frozen=True)
class SlowNetwork(Disturbance):
    """Delay what it sends or gets, by `delay` more or less `jitter`.

    By netem where the kernel has it, no peers and no ports are named and each device's root qdisc
    is the kernel's own: then packets of every kind are late. Else TCP connections, by redirecting
    them to a proxy of ours inside its network. The plan says which.
    """

    delay: Duration = field(metadata={"above": 0, "max": LONGEST, "doc": "how late it comes"})
    jitter: Duration = field(
        default=0.0, metadata={"min": 0, "max": LONGEST, "doc": "how much that varies"}
    )
    distribution: Literal["uniform", "normal", "pareto"] = field(
        default="uniform",
        metadata={"doc": "of the jitter; it is the standard deviation where not uniform"},
    )
    correlation: Percent = field(
        default=0.0, metadata={"max": 1, "doc": "how much a delay is like the one before it"}
    )
    peers: tuple[str, ...] = field(default=(), kw_only=True, metadata={"doc": peers.DOC})
    peer_ports: tuple[int | str, ...] = field(
        default=(), kw_only=True, metadata={"doc": packets.PEER_PORTS}
    )
    own_ports: tuple[int | str, ...] = field(
        default=(), kw_only=True, metadata={"doc": packets.OWN_PORTS}
    )
    name = "latency"
    takes = ("delay", "jitter", "distribution", "correlation")
    examples = (
        {"delay": "120ms", "jitter": "20ms", "direction": "both"},
        {"delay": "120ms", "peer-ports": [5432]},
    )

    def problems(self) -> list[tuple[str, str]]:
        found = [
            (key, "says nothing without a jitter")
            for key, idle in (("distribution", "uniform"), ("correlation", 0.0))
            if not self.jitter and getattr(self, key) != idle
        ]
        return found + packets.problems_with(self.peers, self.peer_ports, self.own_ports)

    @property
    def what(self) -> Impairment:
        return self._for(([], []))

    def _for(self, addresses: tuple[list[str], list[str]]) -> Impairment:
        """The same for what the peers' names mean now."""
        values = {**super().what.values}
        if self.peers:
            values["peers"] = [list[Json](some) for some in addresses]
        for name in ("peer_ports", "own_ports"):
            if ports := packet_rules.parse_ports(getattr(self, name)):
                values[name] = [list[Json](pair) for pair in ports]
        return Impairment(self.kind, self.direction, 1.0, values)

    def refuse(self, target: HasPackets) -> str | None:
        try:
            self._addresses(target)
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        return super().refuse(target)

    def make(self, target: HasPackets, change: Change) -> None:
        addresses = self._addresses(target)
        target.disturb(self._for(addresses), change)
        peers.peers_of(target, self.peers).loaded = addresses

    def keep(self, target: HasPackets, changes: Sequence[Change]) -> None:
        """A name that has other addresses by now means those."""
        super().keep(target, changes)
        known = peers.peers_of(target, self.peers)
        addresses = known.addresses(later=True)  # As they were told since a second ago.
        known.again()
        if self.peers and addresses != known.loaded:
            target.redirect_others(self._for(addresses), changes)
            known.loaded = addresses

    def _addresses(self, target: HasPackets) -> tuple[list[str], list[str]]:
        known = peers.peers_of(target, self.peers)
        known.again(peers.PATIENCE)
        return known.addresses()
