"""Faults on packets, by real traffic between real containers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import cells
import daemons
import pytest
import traffic
from cells import hurt
from daemons import Daemon
from traffic import TCP, UDP, End

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError
from chaoskit.faults import peers
from chaoskit.faults.packet_drop import DropPackets
from chaoskit.faults.packet_loss import LosePackets
from chaoskit.faults.packet_rate import LimitPackets
from chaoskit.faults.partition import Partition
from chaoskit.targets.container import ContainerTarget

FOREIGN = """
table inet theirs {
  set blocked {
    type ipv4_addr
    flags interval
    elements = { 203.0.113.0/24 }
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ip daddr @blocked drop
  }
  chain raw { type filter hook output priority raw; policy accept; }
}
table ip mangle {
  chain OUTPUT { type route hook output priority mangle; policy accept; }
}
table inet chaoskit-theirs {
  chain input {
    type filter hook input priority raw; policy accept;
    tcp dport 9 drop
  }
}
"""
"""What others have in the network of the container that is hurt; docker has a table of its own."""


class Trio:
    """A container that is hurt, `web`, and two that it talks with, all of which answer."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.network = daemon.network(ipv6=True)
        made = [daemon.run(name=daemon.name(word), network=self.network.name, labels={"app": word})
                for word in ("web", "db", "cache")]  # fmt: skip
        self.web, self.db, self.cache = (End(container) for container in made)
        cells.in_network(self.target, "nft", "-f", "-", told=FOREIGN)
        assert "DOCKER_OUTPUT" in cells.rules(self.target)
        for end in self.ends:
            end.serve(80, 5432)
        for version in (4, 6):
            assert self.web.reaches(self.db.address(version))
            assert self.db.reaches(self.web.address(version))
            assert self.web.reaches(self.cache.address(version))

    @property
    def ends(self) -> list[End]:
        return [self.web, self.db, self.cache]

    @property
    def target(self) -> ContainerTarget:
        return cells.target(self.daemon, self.web.container)

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Trio]:
    daemon = daemons.shared()
    daemon.revive()
    daemon.empty()
    made = Trio(daemon)
    try:
        yield made
    finally:
        made.close()
        daemon.empty()


@pytest.fixture
def trio(shared: Trio) -> Iterator[Trio]:
    """Each test leaves all rules as they were, byte for byte."""
    before = cells.rules(shared.target)
    yield shared
    assert cells.rules(shared.target) == before
    assert "chaoskit-2" not in before


def heard(trio: Trio, version: int = 4, **more: Any) -> dict[str, str]:
    """Who hears whom."""
    web, db, cache = (end.address(version) for end in trio.ends)
    return {
        "web>db": trio.web.asks(db, **more),
        "db>web": trio.db.asks(web, **more),
        "web>cache": trio.web.asks(cache, **more),
        "cache>web": trio.cache.asks(web, **more),
        "db>cache": trio.db.asks(cache, **{"within": traffic.LONG, **more}),
    }


def all_but_others(what: str) -> dict[str, str]:
    return dict.fromkeys(("web>db", "db>web", "web>cache", "cache>web"), what) | {
        "db>cache": "answer"
    }


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
def test_a_black_hole_is_silent_and_nobody_is_told(trio: Trio, version: int, kind: int) -> None:
    with hurt(DropPackets(), trio.target):
        assert heard(trio, version, kind=kind) == all_but_others("silence")
    assert trio.web.reaches(trio.db.address(version), kind=kind)
    assert trio.db.reaches(trio.web.address(version), kind=kind)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
def test_a_refusal_is_heard_at_both_ends(trio: Trio, version: int, kind: int) -> None:
    with hurt(DropPackets("refuse"), trio.target):
        found = heard(trio, version, kind=kind, within=traffic.LONG)
        expected = all_but_others("refusal")
        if kind == UDP:
            expected |= dict.fromkeys(("web>db", "web>cache"), "error")
        assert found == expected
    assert trio.web.reaches(trio.db.address(version), kind=kind)


@pytest.mark.parametrize("version", [4, 6])
def test_live_connections_wait_and_go_on(trio: Trio, version: int) -> None:
    out = trio.web.dial(trio.db.address(version), 80)
    into = trio.db.dial(trio.web.address(version), 80)
    assert traffic.echoed(out) and traffic.echoed(into)
    with hurt(DropPackets(), trio.target):
        out.sendall(b"a")
        into.sendall(b"b")
        for made in (out, into):
            made.settimeout(traffic.SHORT)
            with pytest.raises(TimeoutError):
                made.recv(1)
            made.settimeout(traffic.LONG)
    assert (out.recv(1), into.recv(1)) == (b"a", b"b")


def test_live_connections_are_reset_by_a_refusal(trio: Trio) -> None:
    out = trio.web.dial(trio.db.address(), 80)
    into = trio.db.dial(trio.web.address(), 80)
    spared = trio.db.dial(trio.cache.address(), 80)
    assert all(map(traffic.echoed, (out, into, spared)))
    with hurt(DropPackets("refuse"), trio.target):
        for made in (out, into):
            with pytest.raises(ConnectionResetError):
                made.sendall(b"a")
                made.recv(1)
        assert traffic.echoed(spared)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_who_lives_next_door_is_still_found_out(trio: Trio, version: int, direction: Any) -> None:
    """Else whoever sends would be told, after some seconds: there is no way to that host."""
    sender, other = (trio.web, trio.db) if direction == "in" else (trio.db, trio.web)
    with hurt(DropPackets(direction=direction), trio.target):
        on = cells.target(trio.daemon, sender.container)
        cells.in_network(on, "ip", f"-{version}", "neighbour", "flush", "dev", "eth0")
        assert sender.asks(other.address(version), within=6.0) == "silence"


def test_what_is_lost_is_no_connection_over_the_loopback(trio: Trio) -> None:
    """The kernel tracks connections there, for docker's name server, and has not room for all."""

    def tracked() -> int:
        return int(
            cells.in_network(trio.target, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
        )

    with hurt(DropPackets(), trio.target):
        before = tracked()
        for _ in range(200):
            made, _ = trio.web.datagrams(4)
            made.sendto(b"lost", (trio.db.address(), 9))
            made.close()
        assert tracked() < before + 100


def test_the_loopback_is_never_touched(trio: Trio) -> None:
    for own in ("127.0.0.1", "::1", trio.web.address(), trio.web.address(6)):
        assert trio.web.reaches(own)
    for how in ("black-hole", "refuse"):
        with hurt(DropPackets(how), trio.target):  # type: ignore[arg-type]
            for own in ("127.0.0.1", "::1", trio.web.address(), trio.web.address(6)):
                assert trio.web.asks(own, within=traffic.LONG) == "answer"
                assert trio.web.asks(own, kind=UDP, within=traffic.LONG) == "answer"


WAYS: dict[str, Any] = {
    "address": lambda trio: trio.db.address(),
    "network": lambda trio: f"{trio.db.address()}/32",
    "container": lambda trio: f"container:{trio.db.name}",
    "label": lambda trio: "label:app=db",
}


@pytest.mark.parametrize("way", WAYS)
def test_only_that_peer_is_cut_off(trio: Trio, way: str) -> None:
    fault = DropPackets(peers=(WAYS[way](trio),))
    with hurt(fault, trio.target):
        found = heard(trio)
        assert found["web>db"] == found["db>web"] == "silence"
        assert found["web>cache"] == found["cache>web"] == "answer"
        six = heard(trio, 6)
        by_name = way in ("container", "label")
        assert six["web>db"] == ("silence" if by_name else "answer")
        assert six["web>cache"] == "answer"


def test_only_that_network_of_ipv6_is_cut_off(trio: Trio) -> None:
    with hurt(DropPackets(peers=(f"{trio.db.address(6)}/128",)), trio.target):
        assert heard(trio, 6)["web>db"] == "silence"
        assert heard(trio, 6)["web>cache"] == "answer"
        assert heard(trio, 4)["web>db"] == "answer"


def test_a_network_holds_all_in_it(trio: Trio) -> None:
    fault = DropPackets(peers=(trio.network.subnets[0], trio.db.address()))
    with hurt(fault, trio.target):
        assert heard(trio) == all_but_others("silence")
        assert heard(trio, 6)["web>db"] == "answer"


class Resolver:
    """This machine's resolver, for a name of the test's own; it can be silent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: list[str] = []
        self.error: OSError | None = None
        monkeypatch.setattr(peers.socket, "getaddrinfo", self.asked)

    def asked(self, name: str, *_: Any, **__: Any) -> list[Any]:
        assert name == "db.example"
        if self.error or not self.addresses:
            raise self.error or OSError(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses]


def test_a_host_name_is_looked_up_again_and_what_was_known_stays(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(monkeypatch)
    fault, on = DropPackets(peers=("db.example",)), trio.target
    told = fault.refuse(on)
    assert told is not None and "db.example" in told and "name or service not known" in told
    resolver.addresses = [trio.db.address(), trio.db.address(6)]
    with hurt(fault, on) as changes:
        assert heard(trio)["web>db"] == heard(trio, 6)["web>db"] == "silence"
        assert heard(trio)["web>cache"] == "answer"
        resolver.addresses = [trio.cache.address()]

        def kept(cut: str, spared: str) -> bool:
            fault.keep(on, changes)
            found = heard(trio)
            return found[cut] == "silence" and found[spared] == "answer"

        assert until(lambda: kept("web>cache", "web>db"), cells.SOON)
        assert heard(trio, 6)["web>db"] == "answer"
        resolver.error = OSError(-3, "Temporary failure in name resolution")
        for _ in range(3):
            assert kept("web>cache", "web>db")
            time.sleep(0.05)


def test_a_silent_name_server_holds_nobody_up(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, on = DropPackets(peers=("db.example",)), trio.target
    resolver = Resolver(monkeypatch)
    resolver.addresses = [trio.db.address()]
    with hurt(fault, on) as changes:
        monkeypatch.setattr(peers.socket, "getaddrinfo", lambda *_, **__: time.sleep(3.0))
        begin = time.monotonic()
        for _ in range(5):
            fault.keep(on, changes)
        assert time.monotonic() - begin < 2.0
        assert heard(trio)["web>db"] == "silence"


def test_a_container_that_comes_back_elsewhere_is_still_meant(trio: Trio) -> None:
    daemon, network = trio.daemon, trio.network.name
    moving = daemon.run(name=daemon.name("moving"), network=network)
    before = End(moving)
    before.serve(80)
    fault, on = DropPackets(peers=(f"container:{moving.name}",)), trio.target
    made = [moving]
    with hurt(fault, on) as changes:
        was = before.address()
        assert trio.web.asks(was) == "silence"
        before.close()
        moving.stop()
        fault.keep(on, changes)
        made.append(daemon.run(network=network))  # It takes the address that is free.
        moving.start()
        back = End(moving)
        back.serve(80)
        assert back.address() != was

        def cut() -> bool:
            fault.keep(on, changes)
            return trio.web.asks(back.address()) == "silence"

        assert until(cut, cells.SOON)
        assert trio.cache.reaches(back.address())
        back.close()
    for container in made:
        container.remove(force=True)


def test_a_container_that_has_gone_leaves_its_address_to_the_next(trio: Trio) -> None:
    daemon, network = trio.daemon, trio.network.name
    going = daemon.run(name=daemon.name("going"), network=network)
    fault, on = DropPackets(peers=(f"container:{going.name}",)), trio.target
    changes = cells.inject(fault, on)
    assert fault.took(on, changes)
    address = End(going).address()
    going.remove(force=True)
    assert until(lambda: _kept_out(fault, on, changes), cells.SOON), "nobody is meant any more"
    heir = daemon.run(network=network)
    end = End(heir)
    end.serve(80)
    assert end.address() == address
    assert trio.web.reaches(address)
    cells.undo(fault, on, changes)
    end.close()
    heir.remove(force=True)


def _kept_out(fault: DropPackets, on: ContainerTarget, changes: Any) -> bool:
    fault.keep(on, changes)
    return not fault.took(on, changes)


def test_a_silent_daemon_leaves_what_was_known(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, on = DropPackets(peers=(f"container:{trio.db.name}",)), trio.target

    def silent(_: str) -> list[str]:
        raise ChaoskitError("no Docker daemon answers")

    with hurt(fault, on) as changes:
        monkeypatch.setattr(on, "addresses_of", silent)
        for _ in range(3):
            fault.keep(on, changes)
            time.sleep(0.05)
        assert heard(trio)["web>db"] == "silence"


def test_a_service_is_of_the_project_that_the_target_is_in(trio: Trio) -> None:
    told = DropPackets(peers=("service:db",)).refuse(trio.target)
    assert told is not None and "of no compose project" in told


def test_what_cannot_be_meant_is_refused(trio: Trio) -> None:
    on = trio.target
    told = DropPackets(peers=("container:nobody",)).refuse(on)
    assert told is not None and "container:nobody" in told
    told = DropPackets(peers=("localhost",)).refuse(on)
    assert told == "localhost is a loopback, which is never touched"


PORTS: list[tuple[dict[str, Any], dict[str, tuple[str, str]]]] = [
    ({"peer_ports": (80,)}, {"web>db": ("silence", "answer"), "db>web": ("answer", "answer")}),
    ({"own_ports": (80,)}, {"web>db": ("answer", "answer"), "db>web": ("silence", "answer")}),
    (
        {"own_ports": (80,), "peer_ports": ("5000-6000",)},
        {"web>db": ("answer", "silence"), "db>web": ("silence", "answer")},
    ),
    (
        {"own_ports": (80,), "direction": "in"},
        {"web>db": ("answer", "answer"), "db>web": ("silence", "answer")},
    ),
    (
        {"peer_ports": (80,), "direction": "out"},
        {"web>db": ("silence", "answer"), "db>web": ("answer", "answer")},
    ),
]


@pytest.mark.parametrize(("keys", "expected"), PORTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
def test_ports_are_of_one_end(
    trio: Trio, keys: dict[str, Any], expected: dict[str, Any], kind: int
) -> None:
    with hurt(DropPackets(**keys), trio.target):
        at_80, at_5432 = heard(trio, kind=kind), heard(trio, kind=kind, port=5432)
    assert {pair: (at_80[pair], at_5432[pair]) for pair in expected} == expected


def test_a_live_connection_to_its_port_stops_and_another_does_not(trio: Trio) -> None:
    live, spared = (trio.db.dial(trio.web.address(), port) for port in (80, 5432))
    assert traffic.echoed(live) and traffic.echoed(spared)
    with hurt(DropPackets(own_ports=(80,), direction="in"), trio.target):
        assert not traffic.echoed(live, within=traffic.SHORT)
        assert traffic.echoed(spared)


def test_one_protocol_and_not_another(trio: Trio) -> None:
    def pings() -> bool:
        told = trio.web.container.exec_run(["ping", "-c1", "-W1", trio.db.address()])
        return bool(told.exit_code == 0)

    assert pings()
    with hurt(DropPackets(protocol="udp"), trio.target):
        assert heard(trio, kind=UDP)["web>db"] == "silence"
        assert heard(trio)["web>db"] == "answer" and pings()
    with hurt(DropPackets(protocol="tcp"), trio.target):
        assert heard(trio, kind=UDP)["web>db"] == "answer" and pings()
        assert heard(trio)["web>db"] == "silence"
    with hurt(DropPackets(protocol="icmp"), trio.target):
        assert heard(trio)["web>db"] == "answer" and not pings()


@pytest.mark.parametrize("version", [4, 6])
def test_one_way_is_one_way(trio: Trio, version: int) -> None:
    web, at_web = trio.web.datagrams(version)
    db, at_db = trio.db.datagrams(version)

    def passed() -> tuple[bool, bool]:
        return traffic.arrived(web, db, at_db, 3) == 3, traffic.arrived(db, web, at_web, 3) == 3

    assert passed() == (True, True)
    for direction, expected in {"in": (True, False), "out": (False, True)}.items():
        for fault in (
            DropPackets(direction=direction),  # type: ignore[arg-type]
            Partition((f"container:{trio.db.name}",), direction=direction),  # type: ignore[arg-type]
        ):
            with hurt(fault, trio.target):
                assert passed() == expected, (fault, direction)
    assert passed() == (True, True)


def test_a_partition_is_between_two_sides_only(trio: Trio) -> None:
    with hurt(Partition((f"container:{trio.db.name}",)), trio.target):
        for version in (4, 6):
            found = heard(trio, version)
            assert found["web>db"] == found["db>web"] == "silence"
            assert found["web>cache"] == found["cache>web"] == found["db>cache"] == "answer"


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_share_is_lost_and_no_sender_is_told(trio: Trio, direction: Any, version: int) -> None:
    web, at_web = trio.web.datagrams(version)
    db, at_db = trio.db.datagrams(version)
    count = 2000
    there, back = (web, db, at_db, count), (db, web, at_web, count)
    with hurt(LosePackets(0.3, direction=direction), trio.target):
        hit, spared = (there, back) if direction == "out" else (back, there)
        # Six standard deviations: 0.24 to 0.36.
        assert 0.24 * count < count - traffic.arrived(*hit) < 0.36 * count
        assert traffic.arrived(*spared) == count


@pytest.mark.parametrize("direction", ["in", "out"])
def test_tcp_learns_of_a_loss_and_gets_all_through(trio: Trio, direction: Any) -> None:
    made = trio.web.dial(trio.db.address(), 80)
    with hurt(LosePackets(0.2, direction=direction), trio.target):
        # One lost packet of a hundred would do; that none is has a probability of 0.8 ** 100.
        assert all(traffic.echoed(made, b"%d" % number, within=60.0) for number in range(100))
        told = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert int.from_bytes(told[100:104], "little") > 0, "nothing was sent again"


@pytest.mark.parametrize("wanted", [200e3, 2e6, 20e6])
def test_a_rate_is_kept(trio: Trio, wanted: float) -> None:
    with hurt(LimitPackets(wanted), trio.target):
        out = traffic.rate(trio.web, trio.db, 4.0)
        assert 0.6 * wanted < out < 1.15 * wanted
    assert until(lambda: traffic.rate(trio.web, trio.db, 0.5) > 2 * wanted, cells.SOON)


def test_a_rate_is_of_one_direction_and_of_whom_it_is_meant_for(trio: Trio) -> None:
    with hurt(LimitPackets(100e3, peers=(trio.db.address(),)), trio.target):
        assert traffic.rate(trio.db, trio.web, 0.5) > 1e6
        assert traffic.rate(trio.web, trio.cache, 0.5) > 1e6
    with hurt(LimitPackets(100e3, direction="in"), trio.target):
        assert traffic.rate(trio.db, trio.web, 2.0) < 300e3
        assert traffic.rate(trio.web, trio.db, 0.5) > 1e6


def test_the_largest_packets_pass_a_narrow_line(trio: Trio) -> None:
    data = b"x" * 60_000
    with hurt(LimitPackets(20e3), trio.target):
        made = trio.web.socket(UDP)
        made.connect((trio.db.address(), 80))
        made.send(data)  # In one piece, which is cut up after it has passed.
        assert made.recv(65536) == data
        assert traffic.echoed(trio.web.dial(trio.db.address(), 80, within=30.0), data, within=60.0)


def test_it_tells_how_many_packets_it_met(trio: Trio) -> None:
    # Of another test's connections, the last packets may still be on their way.
    fault, on = DropPackets(protocol="udp"), trio.target
    with hurt(fault, on) as changes:
        first = fault.no_outcome(on, changes, 1.0)
        heard(trio, kind=UDP)
        then = fault.no_outcome(on, changes, 1.0)
    assert first is not None and "no packet" in first.text and not first.unknown
    assert then is not None and then.text == "packets lost: 2 that came, 2 that left"


@pytest.mark.parametrize(
    "fault", [LosePackets(0.000001, protocol="udp"), LimitPackets(1e9, protocol="udp")]
)
def test_packets_that_all_got_through_did_come_by(trio: Trio, fault: Any) -> None:
    on = trio.target
    with hurt(fault, on) as changes:
        assert fault.no_outcome(on, changes, 1.0).text == "no packet came by that it was meant for"
        assert trio.web.reaches(trio.db.address(), kind=UDP)
        told = fault.no_outcome(on, changes, 1.0)
    count = 2 if fault.direction == "both" else 1
    assert told.text == f"packets lost: none of {count} that came by" and not told.unknown


@pytest.mark.parametrize(
    "fault", [DropPackets(peers=("203.0.113.7",)), DropPackets(own_ports=(9,))]
)
def test_a_fault_that_met_none_of_whom_it_names_has_tried_nothing(
    trio: Trio, fault: DropPackets
) -> None:
    on = trio.target
    with hurt(fault, on) as changes:
        told = fault.no_outcome(on, changes, 1.0)
    assert told is not None and told.unknown


def test_it_is_not_there_when_somebody_has_meddled(trio: Trio) -> None:
    fault, on = DropPackets(peers=(trio.db.address(),)), trio.target
    for meddle in (
        "flush table inet {}",
        "flush chain inet {} taken",
        "flush set inet {} peers4",
        "add table inet {} {{ flags dormant; }}",
        "flush set inet {} armed",
        "delete table inet {}",
    ):
        changes = cells.inject(fault, on)
        assert fault.took(on, changes)
        cells.in_network(on, "nft", "-f", "-", told=meddle.format(on.mark))
        assert not fault.took(on, changes), meddle
        cells.undo(fault, on, changes)


def test_it_has_no_force_when_the_run_is_over_and_nobody_is_left(trio: Trio) -> None:
    from chaoskit.clock import now

    on = cells.target(trio.daemon, trio.web.container, cells.binding(ends_at=now() + 8.0))
    fault = DropPackets()
    changes = cells.inject(fault, on)
    assert trio.web.asks(trio.db.address()) == "silence"
    assert trio.web.reaches(trio.db.address())
    assert fault.look(on, changes[0]) == on.mark and not fault.took(on, changes)
    cells.undo(fault, on, changes)


def test_a_body_that_nft_does_not_take_is_refused(trio: Trio) -> None:
    told = trio.target.network_cannot("chain a { nonsense\n}")
    assert told is not None and told.startswith("this kernel, or nft, cannot do that")
    with pytest.raises(ChaoskitError):
        trio.target.put_table(trio.target.network_key(), "chain a { nonsense\n}")
    assert trio.target.table(trio.target.network_key()) is None
