"""What all faults have in common that pick out packets in a target's own network.

One cell: a table of our own in its network namespace, loaded in one transaction and deleted whole.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from chaoskit.capabilities import HasNetwork
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults import packet_rules, peers
from chaoskit.faults.own_table import Table, time_left
from chaoskit.faults.packet_rules import Direction, Effect, Picked, Protocol
from chaoskit.model.fault import Change, Ends, Fault, Outcome
from chaoskit.model.units import Json

DIRECTION = "which packets: those that it gets (in), those that it sends (out), or both"
PEER_PORTS = "ports of its peers, those that it calls: 5432, or 8000-8100"
OWN_PORTS = "ports of its own, those that others call; beside peer-ports: either"


@dataclass(frozen=True)
class PacketFault(Fault[HasNetwork]):
    """What is done to a part of a network's packets; subclasses say what, and to which.

    What stays on the loopback is never touched, and neither is what keeps a link up (ARP and its
    like with IPv6). The rules lose their force by themselves when the run's longest time is over.
    """

    side_by_side = True
    needs = HasNetwork
    settle = 2.0
    patience = 15.0
    done: ClassVar[str] = "lost"
    """What has become of the packets, for people."""

    @abstractmethod
    def picked(self) -> Picked:
        """The packets."""

    @abstractmethod
    def effect(self) -> Effect:
        """What becomes of them."""

    @property
    def whom(self) -> tuple[str, ...]:
        """The peers as the file has them; none: everybody."""
        return ()

    @property
    def ends(self) -> Ends:
        return Ends.BY_ITSELF

    def way_back(self) -> str:
        return "our table of rules is deleted; no other is touched"

    def privileges(self, target: HasNetwork) -> tuple[str, ...]:
        return ("root, to enter its network namespace",)

    def remarks(self, target: HasNetwork) -> tuple[str, ...]:
        return tuple(target.network_remarks())

    def refuse(self, target: HasNetwork) -> str | None:
        known = peers.peers_of(target, self.whom)
        known.again(peers.PATIENCE)
        try:
            addresses = known.addresses()
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        return target.network_cannot(self._table(target, addresses).text())

    def changes(self, target: HasNetwork) -> Iterator[Change]:
        try:
            key = target.network_key()
        except Gone:
            return
        yield Change(key, None, target.mark)

    def look(self, target: HasNetwork, change: Change) -> Json:
        return target.table(change.key)

    def make(self, target: HasNetwork, change: Change) -> None:
        known = peers.peers_of(target, self.whom)
        known.again(peers.PATIENCE)
        addresses = known.addresses()
        target.put_table(change.key, self._table(target, addresses).text())
        known.loaded = addresses

    def unmake(self, target: HasNetwork, change: Change) -> None:
        target.drop_table(change.key)

    def keep(self, target: HasNetwork, changes: Sequence[Change]) -> None:
        """A name that has other addresses by now means those; one that cannot be looked up any more
        means the last that it had, and a container that has gone is nobody."""
        known = peers.peers_of(target, self.whom)
        addresses = known.addresses(later=True)  # As they were told since a second ago.
        known.again()
        if self.whom and addresses != known.loaded:
            for change in changes[-1:]:
                sets = dict(zip(packet_rules.PEERS, addresses, strict=True))
                try:
                    target.put_elements(change.key, sets)
                except Gone:
                    return  # Whether that is an end before its time is asked when it is over.
                known.loaded = addresses

    def took(self, target: HasNetwork, changes: Sequence[Change]) -> bool:
        """The table is there, and all of it: a chain that somebody has emptied does nothing."""
        for change in changes[-1:]:
            try:
                found = target.table_contents(change.key)
            except ChaoskitError:
                return False  # There is no such table, or no such network any more.
            whole = self._table(target, ([], [])).is_whole(found)
            return whole and (not self.whom or any(map(found.elements.get, packet_rules.PEERS)))
        return False

    def outcome(
        self, target: HasNetwork, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        return None  # It is counted when the hold ends.

    def no_outcome(
        self, target: HasNetwork, changes: Sequence[Change], elapsed: float
    ) -> Outcome | None:
        """How many packets it met. None at all is worth knowing: then nothing was tried. Where the
        file names peers or ports they were most likely the wrong ones; where it does not, a quiet
        network was cut all the same."""
        try:
            found = target.table_contents(changes[-1].key).packets
        except ChaoskitError:
            return None
        counts = [
            f"{found[chain]} {word}"
            for chain, word in (("taken", "that came"), ("sent", "that left"))
            if chain in found
        ]
        if not any(found.values()):
            picked = self.picked()
            named = bool(self.whom or picked.peer_ports or picked.own_ports)
            return Outcome("no packet came by that it was meant for", unknown=named)
        if not (found.get("taken") or found.get("sent")):
            by = found.get("arriving", 0) + found.get("leaving", 0)
            return Outcome(f"packets {self.done}: none of {by} that came by")
        return Outcome(f"packets {self.done}: {', '.join(counts)}")

    def _table(self, target: HasNetwork, addresses: tuple[list[str], list[str]]) -> Table:
        seconds = time_left(target.binding)
        return packet_rules.table(self.picked(), self.effect(), seconds, addresses)


@dataclass(frozen=True)
class Packets(PacketFault):
    """The same with all the words by which packets are picked out."""

    direction: Direction = field(default="both", kw_only=True, metadata={"doc": DIRECTION})
    peers: tuple[str, ...] = field(default=(), kw_only=True, metadata={"doc": peers.DOC})
    protocol: Protocol = field(default="any", kw_only=True, metadata={"doc": "of IPv4 and IPv6"})
    peer_ports: tuple[int | str, ...] = field(
        default=(),
        kw_only=True,
        metadata={"doc": PEER_PORTS},
    )
    own_ports: tuple[int | str, ...] = field(
        default=(),
        kw_only=True,
        metadata={"doc": OWN_PORTS},
    )

    @property
    def whom(self) -> tuple[str, ...]:
        return self.peers

    def picked(self) -> Picked:
        return Picked(
            self.direction,
            bool(self.peers),
            self.protocol,
            packet_rules.parse_ports(self.peer_ports),
            packet_rules.parse_ports(self.own_ports),
        )

    def problems(self) -> list[tuple[str, str]]:
        found = problems_with(self.peers, self.peer_ports, self.own_ports)
        if self.protocol == "icmp":
            for name in ("peer_ports", "own_ports"):
                if getattr(self, name):
                    found.append((name, "icmp has no ports"))
        return found


def problems_with(
    whom: Sequence[str], peer_ports: Sequence[int | str], own_ports: Sequence[int | str]
) -> list[tuple[str, str]]:
    """What is wrong with the words by which peers and ports are picked out."""
    found = [("peers", told) for peer in whom if (told := peers.problem_with(peer))]
    for name, ports in (("peer_ports", peer_ports), ("own_ports", own_ports)):
        try:
            packet_rules.parse_ports(ports)
        except ValueError as error:
            found.append((name, str(error)))
    return found
