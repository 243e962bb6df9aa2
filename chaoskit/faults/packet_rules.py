"""The rules that pick packets out and do something to them: text for nft, and nothing else here.

They see packets as the processes behind the network see them: before anybody translates the address
of what they send, and after it was translated back in what they get.

What leaves is not dropped where it is sent. The kernel would tell the sender: a datagram fails with
`EPERM`, and TCP holds back what it has and never learns of a loss. Instead it is sent to a place on
the loopback that nobody has, and dropped where it arrives: it is gone, and nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from chaoskit.faults.own_table import UNARMED, Table

Direction = Literal["in", "out", "both"]
Protocol = Literal["any", "tcp", "udp", "icmp"]

LOST = 0x6B616F73
"""The mark of a packet on its way to where it is dropped."""
NOWHERE = "127.213.77.19"
"""Where that is, with IPv4: an address that nobody has."""
SUPER = 66_000
"""Bytes that the largest packet may have (64 KiB in one piece, which a device cuts up later): a
bucket that holds less than it would never let it pass."""
PARTS = 1_000_000
"""A share is so many parts of this many."""

PEERS = ("peers4", "peers6")

_KEEPS_THE_LINK = ("meta l4proto igmp return", "icmpv6 type { 130-137, 143 } return")
"""Who lives next door and which groups somebody is in: with IPv4 no rule of this family sees that
at all (ARP), so with IPv6 none touches it."""
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_WITH_PORTS = "{ tcp, udp, sctp, dccp, udplite }"


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of the packets that were picked out. when: a condition that goes before it,
    evaluated for each. refuse: they are answered, not lost."""

    when: str = ""
    refuse: bool = False

    def on_arrival(self) -> list[str]:
        return _REFUSE if self.refuse else [f"{self.when} counter drop".strip()]

    def on_leaving(self) -> list[str]:
        return _REFUSE if self.refuse else [f"{self.when} counter goto lose".strip()]


_REFUSE = [
    # What ends a connection, or says that there is none, is what we do ourselves.
    "tcp flags & rst == rst accept",
    "icmp type destination-unreachable accept",
    "icmpv6 type destination-unreachable accept",
    "meta l4proto tcp counter reject with tcp reset",
    "counter reject with icmpx type port-unreachable",
]


def share(fraction: float) -> Effect:
    """Each packet by lot."""
    parts = max(1, round(fraction * PARTS))
    return Effect(f"numgen random mod {PARTS} < {parts}") if parts < PARTS else Effect()


def above(rate: float) -> Effect:
    """What is more than so many bytes a second. nft's bucket holds one second's worth and the
    burst."""
    whole = max(1, round(rate))
    return Effect(f"limit rate over {whole} bytes/second burst {max(0, SUPER - whole)} bytes")


@dataclass(frozen=True, slots=True)
class Picked:
    """Which packets: those of every peer unless `peers`; of those ports, as pairs (from, to), and
    of all when there are none at either end."""

    direction: Direction = "both"
    peers: bool = False
    protocol: Protocol = "any"
    peer_ports: tuple[tuple[int, int], ...] = ()
    own_ports: tuple[tuple[int, int], ...] = ()

    def arriving(self) -> list[str]:
        return self._rules("saddr", "sport", "dport", "taken")

    def leaving(self) -> list[str]:
        return self._rules("daddr", "dport", "sport", "sent")

    def _rules(self, address: str, peer_port: str, own_port: str, then: str) -> list[str]:
        rules = list(_KEEPS_THE_LINK)
        if self.peers:
            rules += [
                f"meta nfproto ipv4 ip {address} != @{PEERS[0]} return",
                f"meta nfproto ipv6 ip6 {address} != @{PEERS[1]} return",
            ]
        if self.protocol in ("tcp", "udp"):
            rules.append(f"meta l4proto != {self.protocol} return")
        elif self.protocol == "icmp":
            rules.append("meta l4proto != { icmp, ipv6-icmp } return")
        if not (self.peer_ports or self.own_ports):
            return [*rules, f"counter goto {then}"]
        if self.protocol == "any":
            rules.append(f"meta l4proto != {_WITH_PORTS} return")
        for end, ports in ((peer_port, self.peer_ports), (own_port, self.own_ports)):
            if ports:
                rules.append(f"th {end} {{ {', '.join(map(_shown, ports))} }} counter goto {then}")
        return rules


def table(
    picked: Picked, effect: Effect, seconds: float, peers: tuple[Sequence[str], Sequence[str]]
) -> Table:
    """A table that does that for so many seconds, and then nothing more."""
    made = Table()
    made.arm(seconds)
    if picked.peers:
        for name, kind, addresses in zip(PEERS, ("ipv4_addr", "ipv6_addr"), peers, strict=True):
            made.set(name, kind, "interval", addresses)
    if picked.direction != "out":
        made.chain("taken", effect.on_arrival())
        made.chain("arriving", picked.arriving())
        start = ['iifname "lo" return', UNARMED, "goto arriving"]
        made.chain("incoming", start, "input")
        # What it hands on for others, as a router does, has arrived too.
        made.chain("passing", [UNARMED, "goto arriving"], "forward")
    if picked.direction != "in":
        made.chain("lose", [
            "notrack",
            f"meta mark set {LOST:#x}",
            f"meta nfproto ipv4 ip daddr set {NOWHERE}",
            "meta nfproto ipv6 ip6 daddr set ::1",
        ])  # fmt: skip
        made.chain("sent", effect.on_leaving())
        made.chain("leaving", picked.leaving())
        made.chain(
            "outgoing",
            [
                'oifname "lo" return',
                # By another table of ours, which has lost it or leads it elsewhere.
                f"meta mark {LOST:#x} return",
                "ip daddr 127.0.0.0/8 return",
                "ip6 daddr ::1 return",
                UNARMED,
                "goto leaving",
            ],
            "output",
            "route",
        )
        made.chain("lost", [f'iifname "lo" meta mark {LOST:#x} drop'], "prerouting")
    return made


def parse_ports(ports: Iterable[int | str]) -> tuple[tuple[int, int], ...]:
    """`80` and `"8000-8100"` as pairs, in order and without what another one holds. Raises
    ValueError saying what is wrong with one."""
    pairs = []
    for port in ports:
        found = _PORT.fullmatch(str(port))
        if found is None:
            raise ValueError(f"expected a port, or two as 8000-8100, found {str(port)!r}")
        low, high = int(found[1]), int(found[2] or found[1])
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"ports are between 1 and 65535, the lower one first: {port}")
        pairs.append((low, high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _shown(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"
