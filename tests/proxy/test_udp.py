"""A UDP link by real sockets: datagrams stay whole, clients apart, faults drop or delay them."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest
from inline import Inline, inline

from chaoskit.proxy import datagrams
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.link import Link


class Udp:
    """A link, a service and clients, all of datagrams."""

    def __init__(self, made: Inline) -> None:
        self.made = made
        self.sockets: list[socket.socket] = []
        self.service = self.socket()
        self.service.bind(("127.0.0.1", 0))
        self.link: Link = made.create(
            "udp", f"127.0.0.1:{self.service.getsockname()[1]}", protocol="udp"
        )
        made.link = self.link  # For what `Inline.add` does.

    def socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        self.sockets.append(made)
        return made

    def client(self) -> socket.socket:
        client = self.socket()
        host, port = self.link.listen.rsplit(":", 1)
        client.connect((host, int(port)))
        return client

    def got(self, side: socket.socket, seconds: float = 5.0) -> tuple[bytes, object] | None:
        """The next datagram and whose it is; None when none came in time."""
        found: list[tuple[bytes, object]] = []

        def came() -> bool:
            with contextlib.suppress(BlockingIOError):
                found.append(side.recvfrom(65536))
            return bool(found)

        return found[0] if self.made.until(came, seconds) else None

    def data(self, side: socket.socket, seconds: float = 5.0) -> bytes | None:
        found = self.got(side, seconds)
        return found[0] if found else None

    def silent(self, side: socket.socket) -> bool:
        return self.got(side, 0.1) is None


@pytest.fixture
def udp() -> Iterator[Udp]:
    with inline() as made:
        one = Udp(made)
        yield one
        for each in one.sockets:
            each.close()


@pytest.mark.parametrize("size", [0, 1, 1472, 9000, 65_507])
def test_datagrams_stay_whole_both_ways(udp: Udp, size: int) -> None:
    client = udp.client()
    data = os.urandom(size)
    client.send(data)
    found = udp.got(udp.service)
    assert found is not None and found[0] == data
    udp.service.sendto(data, found[1])  # type: ignore[arg-type]
    assert udp.data(client) == data
    counters = udp.link.counters
    assert (counters.up.received, counters.up.sent) == (size, size)
    assert (counters.down.received, counters.down.sent) == (size, size)


def test_clients_are_kept_apart(udp: Udp) -> None:
    clients = [udp.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for _ in clients:
        found = udp.got(udp.service)
        assert found is not None
        udp.service.sendto(b"to " + found[0], found[1])  # type: ignore[arg-type]
    for number, client in enumerate(clients):
        assert udp.data(client) == b"to %d" % number
        assert udp.silent(client)
    assert udp.link.open == 5 and udp.link.counters.accepted == 5


def through(udp: Udp, client: socket.socket, count: int) -> list[int]:
    """The numbers of those datagrams, of so many, that arrived."""
    found: list[int] = []
    for number in range(count):
        client.send(b"%d" % number)
        udp.made.turn()
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(int(udp.service.recv(100)))
    while (last := udp.data(udp.service, 0.1)) is not None:
        found.append(int(last))
    return found


def test_lost_datagrams_are_dropped_and_the_same_seed_loses_the_same(udp: Udp) -> None:
    losses = []
    for _ in range(2):
        client = udp.client()
        udp.made.add("loss", "upstream", share=0.3, seed=5, name="l")
        losses.append(through(udp, client, 1000))
        udp.link.remove("l")
        udp.link.disable()
        udp.link.enable()
        udp.link.counters.accepted = 0  # The next client is the first one again.
    assert 600 < len(losses[0]) < 800
    assert losses[0] == losses[1] == sorted(losses[0])


def test_latency_keeps_them_whole_and_in_order(udp: Udp) -> None:
    client = udp.client()
    udp.made.add("latency", "upstream", latency=100, jitter=80)
    began = time.monotonic()
    for number in range(20):
        client.send(b"%02d" % number)
    assert [udp.data(udp.service) for _ in range(20)] == [b"%02d" % n for n in range(20)]
    assert time.monotonic() - began >= 0.02


def test_a_narrow_link_sends_them_one_by_one_and_drops_what_has_no_room(udp: Udp) -> None:
    client = udp.client()
    udp.made.add("bandwidth", "upstream", rate=100, name="b")
    began = time.monotonic()
    for _ in range(20):
        client.send(bytes(1000))
    sizes = [len(udp.data(udp.service) or b"") for _ in range(20)]
    assert sizes == [1000] * 20 and 0.15 < time.monotonic() - began < 2
    for _ in range(200):
        client.send(bytes(1000))
        udp.made.turn()
    assert udp.made.server.memory.used <= 80_000, "it keeps everything"
    udp.link.remove("b")
    assert udp.made.server.memory.used == 0


def test_corruption_flips_one_bit(udp: Udp) -> None:
    client = udp.client()
    udp.made.add("corrupt", "upstream", share=1)
    for size in (1, 100, 5000):
        client.send(bytes(size))
        got = udp.data(udp.service)
        assert got is not None and len(got) == size
        assert sum(byte.bit_count() for byte in got) == 1


@pytest.mark.parametrize("kind", ["black_hole", "timeout"])
def test_a_hole_drops_and_heals(udp: Udp, kind: str) -> None:
    client = udp.client()
    name = udp.made.add(kind, "upstream")
    client.send(b"lost")
    assert udp.silent(udp.service)
    udp.link.remove(name)
    client.send(b"there")
    assert udp.data(udp.service) == b"there"


def test_a_limit_lets_whole_datagrams_pass_and_then_none(udp: Udp) -> None:
    client = udp.client()
    udp.made.add("limit_data", "upstream", bytes=250)
    for number in range(5):
        client.send(b"%d" % number * 100)
    assert [udp.data(udp.service) for _ in range(2)] == [b"0" * 100, b"1" * 100]
    assert udp.silent(udp.service)


@pytest.mark.parametrize("way", ["upstream", "downstream"])
def test_a_limit_that_is_gone_holds_nobody_back(udp: Udp, way: str) -> None:
    client = udp.client()
    client.send(b"who")
    found = udp.got(udp.service)
    assert found is not None
    name = udp.made.add("limit_data", way, bytes=0)

    def passes(seconds: float) -> bool:
        if way == "upstream":
            client.send(b"up")
            return udp.got(udp.service, seconds) is not None
        udp.service.sendto(b"down", found[1])  # type: ignore[arg-type]
        return udp.got(client, seconds) is not None

    assert not passes(0.2)
    udp.link.remove(name)
    assert passes(5.0)


def test_a_client_that_came_when_no_descriptor_was_left_is_served_later(udp: Udp) -> None:
    client, old = udp.client(), resource.getrlimit(resource.RLIMIT_NOFILE)
    client.send(b"lost")
    lowest = os.dup(0)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, old[1]))
        assert udp.made.until(lambda: udp.link.counters.refused == 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    client.send(b"there")
    assert udp.data(udp.service) == b"there"


@pytest.mark.parametrize("kind", ["reset_peer", "slow_close", "slicer", "refuse", "http_error"])
def test_what_has_no_meaning_is_a_400(udp: Udp, kind: str) -> None:
    with pytest.raises(ProxyError, match="no meaning for udp") as raised:
        udp.link.add({"type": kind, "stream": "upstream"})
    assert raised.value.status == 400


def test_an_upstream_that_is_down_for_a_while(udp: Udp) -> None:
    client = udp.client()
    where = udp.service.getsockname()
    udp.service.close()
    for _ in range(3):
        client.send(b"nobody is there")
        udp.made.turn(0.01)
    udp.service = udp.socket()
    udp.service.bind(where)
    client.send(b"hello")
    udp.made.turn(0.01)
    client.send(b"hello")
    assert udp.data(udp.service) == b"hello"


def test_sessions_that_carry_nothing_are_forgotten(
    udp: Udp, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(datagrams, "IDLE", 0.3)
    udp.link.disable()
    udp.link.enable()
    quiet, busy = udp.client(), udp.client()
    for _ in range(20):
        busy.send(b"x")
        if udp.link.open < 2 and not udp.link.counters.accepted > 1:
            quiet.send(b"x")
        udp.made.turn(0.05)
    assert udp.link.open == 1
    udp.link.disable()
    udp.made.turn()
    assert udp.link.open == 0
    for each in (quiet, busy):
        udp.sockets.remove(each)
        each.close()
    udp.made.server.delete("udp")
    udp.made.turn()
    assert len(os.listdir("/proc/self/fd")) == files - 1


def test_there_is_an_end_to_the_number_of_sessions(
    udp: Udp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "MOST", 3)
    for _ in range(5):
        udp.client().send(b"x")
    udp.made.turn(0.05)
    assert udp.link.open == 3 and udp.link.counters.refused == 2


def test_a_name_is_looked_up_and_what_came_meanwhile_is_not_lost(udp: Udp) -> None:
    (family, *_, address), *_ = socket.getaddrinfo("localhost", 0, type=socket.SOCK_DGRAM)
    with socket.socket(family, socket.SOCK_DGRAM) as service:
        service.setblocking(False)
        service.bind(address)
        port = service.getsockname()[1]
        udp.link = udp.made.create("named", f"localhost:{port}", protocol="udp")
        udp.client().send(b"early")
        assert udp.data(service) == b"early"
