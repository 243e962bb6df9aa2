"""The table of ours that leads connections to a proxy inside a network: text for nft, nothing else.

What stays on the loopback is never touched, and what the proxy sends on is known by its socket
mark. Only the packet that opens a connection is redirected: those that are open already are not
ours. Who is meant is counted, and our probes are not. The rules have force as long as a lease has
an element, which the kernel takes out by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaoskit.model.impairment import Impairment

LEASE = 5
"""Seconds for which the rules have force; the proxy renews that each second while it lives."""
OPENED, ACCEPTED = "opened", "accepted"
"""The proxy's links: for connections that the target opens, and for those that come to it."""
PEERS = ("peers4", "peers6")
"""The sets of the addresses that are meant, where not everybody is."""
EVERYTHING = Impairment("latency", "both")
OURS, OURS_MASK = 0x1C5A0000, 0xFFFF0003
"""What is the same in the socket marks of all proxies of ours. None is redirected by any table of
ours: two in one network would lead to each other, round and round."""
_PRIORITY = -90
"""After other rules that translate (they have -100): what is led elsewhere by those is theirs, and
would not get there through a proxy."""
_MEANT = "tcp flags & (fin | syn | rst | ack) == syn meta l4proto @lease"


def body(what: Impairment, mark: int, ports: Mapping[str, int], lease: int) -> str:
    """mark: of the proxy's sockets; one and two more, of our probes of its two links.
    ports: where those listen. lease: seconds for which the rules have force.

    The values `peers` (addresses of IPv4, of IPv6), `peer_ports` and `own_ports` (pairs) of
    `what` say which connections are meant; all when there are none.
    """
    parts = [_set("lease", "inet_proto", "timeout", [f"tcp timeout {lease}s"])]
    kinds = ("ipv4_addr", "ipv6_addr")
    for (name, addresses), kind in zip(peers(what).items(), kinds, strict=False):
        parts.append(_set(name, kind, "interval", addresses))
    opened = [
        f"meta mark {mark + 1} {_MEANT} redirect to :{ports[OPENED]}",
        f"meta mark {mark + 2} {_MEANT} redirect to :{ports[ACCEPTED]}",
        'oifname "lo" return',
        f"meta mark & {OURS_MASK:#x} == {OURS:#x} return",
        *_picked(what, "daddr", "dport", "sport", ports[OPENED]),
    ]
    accepted = [
        'iifname "lo" return',
        # What the target hands on for others, as a router does, does not come to it.
        "fib daddr type != local return",
        *_picked(what, "saddr", "sport", "dport", ports[ACCEPTED]),
    ]
    for hook, rules in (("output", opened), ("prerouting", accepted)):
        begin = f"type nat hook {hook} priority {_PRIORITY}; policy accept;"
        parts.append("\n  ".join([f"chain {hook} {{", begin, *rules]) + "\n}")
    return "\n".join(parts)


def peers(what: Impairment) -> dict[str, list[str]]:
    """What is in the sets of addresses; nothing when everybody is meant."""
    found: Any = what.values.get("peers")
    return {} if found is None else dict(zip(PEERS, found, strict=True))


def _picked(what: Impairment, address: str, peer_port: str, own_port: str, to: int) -> list[str]:
    rules = []
    if peers(what):
        rules += [
            f"meta nfproto ipv4 ip {address} != @{PEERS[0]} return",
            f"meta nfproto ipv6 ip6 {address} != @{PEERS[1]} return",
        ]
    ends = [
        (end, ports)
        for end, name in ((peer_port, "peer_ports"), (own_port, "own_ports"))
        if (ports := what.values.get(name))
    ]
    for end, ports in ends:
        rules.append(f"tcp {end} {{ {_shown(ports)} }} {_MEANT} counter redirect to :{to}")
    return rules if ends else [*rules, f"{_MEANT} counter redirect to :{to}"]


def _shown(ports: Any) -> str:
    return ", ".join(f"{low}-{high}" if low != high else str(low) for low, high in ports)


def _set(name: str, kind: str, flags: str, elements: Iterable[str] | Sequence[str]) -> str:
    inside = f"elements = {{ {', '.join(elements)} }}" if elements else ""
    return f"set {name} {{\n  type {kind}\n  flags {flags}\n  {inside}\n}}"
