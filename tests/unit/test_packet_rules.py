"""Rules for packets as text, and the words by which a file picks packets out."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.errors import ChaoskitError
from chaoskit.faults import packet_rules, peers
from chaoskit.faults.packet_drop import DropPackets
from chaoskit.faults.packet_loss import LosePackets
from chaoskit.faults.packet_rate import LimitPackets
from chaoskit.faults.packet_rules import Effect, Picked, parse_ports
from chaoskit.faults.partition import Partition
from chaoskit.model.params import freeze, thaw

PORT = st.integers(1, 65535)
RANGE = st.tuples(PORT, PORT).map(lambda pair: "{}-{}".format(*sorted(pair)))


@given(st.lists(PORT | PORT.map(str) | RANGE, max_size=12))
def test_ports_hold_what_was_written_and_nothing_else(written: list[int | str]) -> None:
    found = parse_ports(written)
    held = {port for low, high in found for port in range(low, high + 1)}
    wanted: set[int] = set()
    for port in written:
        low, _, high = str(port).partition("-")
        wanted.update(range(int(low), int(high or low) + 1))
    assert held == wanted
    # In order and apart: nft takes no set whose intervals touch.
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))


@given(st.text(max_size=12) | st.integers())
def test_what_is_no_port_is_told(written: int | str) -> None:
    try:
        ((low, high),) = parse_ports([written])
    except ValueError as error:
        assert "port" in str(error)
    else:
        assert 1 <= low <= high <= 65535


@pytest.mark.parametrize("wrong", ["0", 0, 65536, "90-80", "80-", "http", "80,81", " 80", -1, "٣"])
def test_these_are_no_ports(wrong: Any) -> None:
    with pytest.raises(ValueError):
        parse_ports([wrong])


@given(st.lists(st.ip_addresses(), max_size=20), st.lists(st.ip_addresses(v=4), max_size=5))
def test_peers_are_split_and_none_is_lost(
    addresses: list[Any], wide: list[ipaddress.IPv4Address]
) -> None:
    written = [str(a) for a in addresses]
    written += [str(ipaddress.ip_network((a, 20), strict=False)) for a in wide]
    four, six = peers.split(written)
    held = [ipaddress.ip_network(text) for text in (*four, *six)]
    for text in written:
        network = ipaddress.ip_network(text)
        skipped = network.is_loopback or network.is_unspecified
        if not skipped:
            assert any(
                network.version == other.version and network.subnet_of(other) for other in held
            )
    assert all(":" not in text for text in four) and all(":" in text for text in six)
    assert not any(
        a.version == b.version and a.overlaps(b) for a in held for b in held if a is not b
    )


@given(st.text(max_size=30))
def test_any_peer_is_either_told_or_taken(written: str) -> None:
    told = peers.problem_with(written)
    assert told is None or isinstance(told, str)
    if told is None and not written.startswith(peers.CONTAINERS):
        assert peers.literal(written) is not None or not any(c.isspace() for c in written)


@pytest.mark.parametrize(
    "peer",
    ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "fd00::1", "::/0", "db", "db.example", "db.example.",
     "_srv.example", "container:db", "label:app=web", "service:cache", "1.example"],
)  # fmt: skip
def test_these_are_peers(peer: str) -> None:
    assert peers.problem_with(peer) is None


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ("10.0.0.1/8", "the network is 10.0.0.0/8"),
        ("10.0.0", "is no address"),
        ("10.0.0.256", "is no address"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("127.0.0.0/8", "loopback"),
        ("0.0.0.0", "loopback"),
        ("", "is no address"),
        ("a b", "is no address"),
        ("db:5432", "is no address"),
        ("http://db", "is no address"),
        ("-db", "is no address"),
        ("container:", "names no container"),
        ("label: ", "names no label"),
    ],
)
def test_these_are_none(peer: str, told: str) -> None:
    found = peers.problem_with(peer)
    assert found is not None and told in found
    assert DropPackets(peers=(peer,)).problems() == [("peers", found)]
    assert Partition((peer,)).problems() == [("from_", found)]


def test_what_does_not_go_together_is_told() -> None:
    found = DropPackets(protocol="icmp", own_ports=(80,)).problems()
    assert found == [("own_ports", "icmp has no ports")]
    assert Partition(()).problems() == [("from_", "names nobody")]
    assert DropPackets(peer_ports=("x",)).problems()[0][0] == "peer_ports"


PICKED = st.builds(
    Picked,
    st.sampled_from(["in", "out", "both"]),
    st.booleans(),
    st.sampled_from(["any", "tcp", "udp"]),
    st.lists(PORT, max_size=3).map(parse_ports),
    st.lists(PORT, max_size=3).map(parse_ports),
)


@given(PICKED, st.sampled_from([Effect(), Effect(refuse=True), packet_rules.share(0.1)]))
def test_only_the_directions_that_were_named_have_chains(picked: Picked, effect: Effect) -> None:
    made = packet_rules.table(picked, effect, 60.0, ([], []))
    hooks = set(made.hooks.values()) - {""}
    wanted = {"in": {"input", "forward"}, "out": {"output", "prerouting"}}
    assert hooks == set().union(*(wanted[d] for d in wanted if picked.direction in (d, "both")))
    # What hangs somewhere lets the loopback be and asks whether it has any force, before all else.
    for name, hook in made.hooks.items():
        if hook in ("input", "output"):
            assert made.chains[name][0].endswith('ifname "lo" return')
        if hook in ("input", "forward", "output"):
            assert made.chains[name][-2:][0] == "meta nfproto != @armed return"
    ways = [made.chains[n] for n in ("arriving", "leaving") if n in made.chains]
    for rules in ways:
        assert any("@peers4" in rule for rule in rules) == picked.peers
        assert any("th " in rule for rule in rules) == bool(picked.peer_ports or picked.own_ports)


@given(st.floats(1e-9, 1.0))
def test_a_share_is_never_nothing(fraction: float) -> None:
    when = packet_rules.share(fraction).when
    if when:
        parts = int(when.rpartition(" ")[2])
        assert 1 <= parts < packet_rules.PARTS
        assert abs(parts / packet_rules.PARTS - fraction) <= 1 / packet_rules.PARTS
    else:
        assert fraction > 1 - 1 / packet_rules.PARTS


@given(st.floats(1.0, 1e10))
def test_a_bucket_holds_the_largest_packet(rate: float) -> None:
    words = packet_rules.above(rate).when.split()
    held, burst = int(words[3]), int(words[6])
    assert held + burst >= packet_rules.SUPER
    assert burst == 0 or held + burst == packet_rules.SUPER


def test_a_name_server_that_fails_costs_no_known_address() -> None:
    answers: list[Any] = [["10.0.0.1"], ChaoskitError("broken"), [], ["10.0.0.2"]]

    def ask() -> list[str]:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return list(found)

    lookup = peers.Lookup(ask)
    seen = []
    for _ in range(4):
        lookup.again()
        lookup.wait(10.0)
        seen.append(lookup.known)
    assert seen == [("10.0.0.1",)] * 3 + [("10.0.0.2",)]


@pytest.mark.parametrize(
    "fault",
    [
        DropPackets("refuse", peers=("db", "10.0.0.0/8"), peer_ports=(80, "90-99")),
        LosePackets(0.25, direction="in", protocol="udp"),
        LimitPackets(5e5, own_ports=(1,)),
        Partition(("container:db",), direction="out"),
    ],
)
def test_they_survive_the_journal(fault: Any) -> None:
    assert thaw(type(fault), freeze(fault)) == fault
