"""TCP through the proxy without faults: bytes, ends, resets, pressure, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from inline import Inline, inline

from chaoskit.proxy import stream


@pytest.fixture
def made() -> Iterator[Inline]:
    with inline() as made:
        yield made


def reset(side: socket.socket) -> None:
    """End it as a process does that is killed with data unread."""
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def was_reset(made: Inline, side: socket.socket) -> bool:
    try:
        made.read(side, seconds=5)
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("size", [1, 1000, stream.COPIED, stream.COPIED + 1, 5_000_000, 40_000_000])
@pytest.mark.parametrize("way", ["up", "down"])
def test_bytes_pass_unchanged(made: Inline, size: int, way: str) -> None:
    client, service = made.connect()
    source, sink = (client, service) if way == "up" else (service, client)
    data = os.urandom(size)
    got = bytearray()
    view = memoryview(data)

    def passed() -> bool:
        nonlocal view
        with contextlib.suppress(BlockingIOError):
            view = view[source.send(view[: 1 << 20]) :] if view else view
        with contextlib.suppress(BlockingIOError):
            got.extend(sink.recv(1 << 18))
        return len(got) >= size

    assert made.until(passed, 30)
    assert got == data
    counted = made.link.counters
    meter = counted.up if way == "up" else counted.down
    assert (meter.received, meter.sent) == (size, size)


def test_a_slow_receiver_loses_nothing(made: Inline) -> None:
    """The splice stops in the middle of a pipe, again and again."""
    client, service = made.connect()
    data = os.urandom(8_000_000)
    view = memoryview(data)
    got = bytearray()
    while len(got) < len(data):
        with contextlib.suppress(BlockingIOError):
            view = view[client.send(view) :] if view else view
        made.turn()
        with contextlib.suppress(BlockingIOError):
            got += service.recv(50_001)
    assert got == data
    assert made.server.memory.used == 0


@pytest.mark.parametrize("kind", [None, "noop", "latency"])
def test_back_pressure_reaches_the_sender(made: Inline, kind: str | None) -> None:
    client, _ = made.connect()
    if kind:
        made.add(kind, "upstream")
    sent = 0
    block = bytes(1 << 20)
    quiet = time.monotonic()
    while time.monotonic() - quiet < 0.3:
        try:
            sent += client.send(block)
            quiet = time.monotonic()
        except BlockingIOError:
            pass
        made.turn()
        assert sent < 60_000_000, "it takes everything"
    assert made.server.memory.used <= stream.UNSENT + stream.READ


def test_memory_is_bounded_for_all_connections_together() -> None:
    with inline(memory=3_000_000) as made:
        made.add("latency", "upstream", latency=60_000)
        clients = [made.connect()[0] for _ in range(5)]
        block = bytes(1 << 20)
        quiet = time.monotonic()
        while time.monotonic() - quiet < 0.3:
            for client in clients:
                try:
                    client.send(block)
                    quiet = time.monotonic()
                except BlockingIOError:
                    pass
            made.turn()
            # What is over the limit is what was being read when it was reached.
            assert made.server.memory.used <= 3_000_000 + 5 * stream.READ
        assert made.server.memory.used >= 3_000_000
        made.link.remove_all()
        made.turn(0.1)
        assert made.server.memory.used <= 5 * (stream.UNSENT + stream.READ)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("kind", [None, "noop"])
def test_half_close_is_kept(made: Inline, way: str, kind: str | None) -> None:
    client, service = made.connect()
    if kind:
        made.add(kind, "upstream")
        made.add(kind, "downstream")
    first, second = (client, service) if way == "up" else (service, client)
    made.send(first, b"question")
    first.shutdown(socket.SHUT_WR)
    assert made.read(second) == b"question"
    data = os.urandom(3_000_000)
    got = bytearray()
    view = memoryview(data)
    while len(got) < len(data):
        if view:
            with contextlib.suppress(BlockingIOError):
                view = view[second.send(view) :]
        made.turn()
        with contextlib.suppress(BlockingIOError):
            got += first.recv(1 << 20)
    assert got == data
    second.shutdown(socket.SHUT_WR)
    assert made.read(first) == b""
    assert made.until(lambda: made.link.open == 0)


@pytest.mark.parametrize("way", ["client", "service"])
@pytest.mark.parametrize("kind", [None, "noop", "black_hole"])
def test_a_reset_is_a_reset_on_the_other_side(made: Inline, way: str, kind: str | None) -> None:
    client, service = made.connect()
    if kind:
        made.add(kind, "upstream")
        made.add(kind, "downstream")
    made.send(client, b"x")
    made.turn(0.01)
    first, second = (client, service) if way == "client" else (service, client)
    reset(first)
    assert was_reset(made, second)
    assert made.link.open == 0
    assert made.server.memory.used == 0


@pytest.mark.parametrize("way", ["client", "service"])
@pytest.mark.parametrize("size", [30_000, 200_000])
@pytest.mark.parametrize("written", [False, True], ids=["read first", "written first"])
def test_what_was_sent_before_a_reset_is_delivered(
    made: Inline, way: str, written: bool, size: int
) -> None:
    """An answer that refuses an upload, and does not read the rest of it, comes so."""
    client, service = made.connect()
    first, second = (client, service) if way == "client" else (service, client)
    data = os.urandom(size)
    if written:  # The proxy notices as it passes this on.
        second.send(bytes(size))
    data = data[: first.send(data)]
    reset(first)
    assert made.until(lambda: made.link.open == 0)
    got = b""
    with pytest.raises(ConnectionResetError):
        while part := second.recv(1 << 20):
            got += part
    # Of much, the kernel itself drops what it has not sent when the reset comes.
    assert data.startswith(got) and (got == data or size > 30_000)
    assert made.server.memory.used == 0 and made.server.pipes._lent == 0


@pytest.mark.parametrize("kind", [None, "noop"])
@pytest.mark.parametrize("size", [3, 90_000])
@pytest.mark.parametrize("turns", [False, True], ids=["at once", "by and by"])
def test_urgent_data_stalls_nothing(made: Inline, turns: bool, kind: str | None, size: int) -> None:
    client, service = made.connect()
    if kind:
        made.add(kind, "upstream")
    for data, flags in ((b"a" * size, 0), (b"!", socket.MSG_OOB), (b"def", 0)):
        assert client.send(data, flags) == len(data)
        if turns:
            made.turn(0.01)
    assert made.read(service, size + 3) == b"a" * size + b"def"
    made.send(client, b"on")
    assert made.read(service, 2) == b"on"


def test_a_reset_comes_through_while_the_other_side_does_not_read(made: Inline) -> None:
    client, service = made.connect()
    for _ in range(40):
        with contextlib.suppress(BlockingIOError):
            client.send(bytes(1 << 20))
        made.turn(0.002)
    reset(client)
    assert made.until(lambda: made.link.open == 0, 5)
    with pytest.raises(ConnectionResetError):
        while True:
            assert service.recv(1 << 20)
    assert made.server.memory.used == 0


def test_an_upstream_that_refuses_is_a_reset_and_counted(made: Inline) -> None:
    made.service.close()
    client = made.dial()
    assert was_reset(made, client)
    assert made.link.counters.refused == 1
    assert made.link.open == 0


def hanging() -> tuple[socket.socket, list[socket.socket]]:
    """A port that answers no SYN: its queue is full, and nobody accepts."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    time.sleep(0.05)
    return listener, fillers


def test_an_upstream_that_hangs_stalls_nobody_else(made: Inline) -> None:
    listener, fillers = hanging()
    try:
        dead = made.create("dead", f"127.0.0.1:{listener.getsockname()[1]}")
        waiting = [made.dial(dead) for _ in range(20)]
        made.turn(0.05)
        assert dead.open == 20
        client, service = made.connect()
        made.send(client, b"alive")
        assert made.read(service, 5) == b"alive"
        # The others are not kept for ever: who leaves is noticed.
        for one in waiting[:10]:
            reset(one)
        assert made.until(lambda: dead.open == 10, 5)
        dead.disable()
        assert dead.open == 0
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


def test_what_was_sent_before_the_upstream_answered_is_not_lost(made: Inline) -> None:
    client = made.dial()
    client.send(b"early")
    client.shutdown(socket.SHUT_WR)
    made.turn(0.05)
    service, _ = made.service.accept()
    with service:
        service.setblocking(False)
        assert made.read(service) == b"early"


def test_what_was_sent_while_the_upstream_was_dialled_is_not_lost(made: Inline) -> None:
    listener, fillers = hanging()
    with listener:
        link = made.create("slow", f"127.0.0.1:{listener.getsockname()[1]}")
        client = made.dial(link)
        client.send(b"early")
        client.shutdown(socket.SHUT_WR)
        made.turn(0.05)  # The client was heard; the upstream was not.
        assert not any(one.up for one in link.connections())
        ports = {filler.getsockname()[1] for filler in fillers}
        listener.setblocking(False)
        services: list[socket.socket] = []

        def accepted() -> bool:
            with contextlib.suppress(BlockingIOError):
                services.append(listener.accept()[0])
            return any(one.getpeername()[1] not in ports for one in services)

        try:
            assert made.until(accepted, 20)  # Its request is sent again, after a second or more.
            services[-1].setblocking(False)
            assert made.read(services[-1]) == b"early"
        finally:
            for one in (*fillers, *services):
                one.close()


def dialling(made: Inline) -> tuple[socket.socket, socket.socket]:
    """A client, and the service's end of its connection, which the proxy has not noticed yet."""
    client = made.dial()
    assert made.until(lambda: bool(made.link.open))
    made.service.settimeout(5)
    service, _ = made.service.accept()
    assert not any(one.up for one in made.link.connections())
    return client, service


def test_what_the_upstream_says_at_once_is_not_lost(made: Inline) -> None:
    client, service = dialling(made)
    with service:
        service.send(b"220 welcome")
        service.shutdown(socket.SHUT_WR)
        assert made.read(client) == b"220 welcome"


def test_an_upstream_that_resets_at_once_did_answer(made: Inline) -> None:
    client, service = dialling(made)
    reset(service)
    assert was_reset(made, client)
    assert made.link.counters.refused == 0


def test_the_second_address_is_dialled_when_the_first_refuses(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, fillers = hanging()
    alive = made.service.getsockname()
    addresses = [(socket.AF_INET, listener.getsockname()), (socket.AF_INET, alive)]
    names = made.server.names
    monkeypatch.setattr(names, "find", lambda upstream, who: who.dial(addresses))
    client = made.dial()
    client.send(b"early")
    client.shutdown(socket.SHUT_WR)
    made.turn(0.05)
    for one in (listener, *fillers):
        one.close()  # When it is asked again, after a second, it refuses.
    assert made.until(lambda: any(c.up is not None for c in made.link.connections()), 20)
    service, _ = made.service.accept()
    with service:
        service.setblocking(False)
        assert made.read(service) == b"early"
    assert made.link.counters.refused == 0


def test_the_end_comes_behind_what_a_slow_receiver_has_yet_to_take(made: Inline) -> None:
    made.add("noop", "upstream")
    made.add("latency", "upstream", latency=1)
    client, service = made.connect()
    made.narrow()
    data = bytes(300_000)
    made.send(client, data)
    client.shutdown(socket.SHUT_WR)
    (connection,) = made.link.connections()
    assert made.until(lambda: connection.up is not None and connection.up.finishing)
    assert connection.up is not None and connection.up.unsent, "nothing had to wait"
    assert made.read(service) == data
    assert made.nothing(client)


def test_the_second_address_is_dialled_when_the_first_cannot_be(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = made.service.getsockname()
    addresses = [(socket.AF_INET, ("255.255.255.255", 9)), (socket.AF_INET, alive)]
    names = made.server.names
    monkeypatch.setattr(names, "find", lambda upstream, who: who.dial(addresses))
    client = made.dial()
    assert made.until(lambda: any(c.up is not None for c in made.link.connections()), 5)
    client.close()
    assert made.link.counters.refused == 0


@pytest.mark.parametrize("name", ["localhost", "ip6"])
def test_names_are_looked_up(made: Inline, name: str) -> None:
    port = made.service.getsockname()[1]
    if name == "ip6":
        service = socket.create_server(("::1", 0), family=socket.AF_INET6)
        made.service.close()
        made.service = service
        link = made.create("named", f"[::1]:{service.getsockname()[1]}")
    else:
        link = made.create("named", f"localhost:{port}")
    client = made.dial(link)
    assert made.until(lambda: any(c.up is not None for c in link.connections()))
    service, _ = made.service.accept()
    with service:
        service.setblocking(False)
        made.send(client, b"x")
        assert made.read(service, 1) == b"x"


def test_a_name_that_nobody_knows_is_a_reset(made: Inline) -> None:
    link = made.create("unknown", "no-such-host.invalid:80")
    assert was_reset(made, made.dial(link))
    assert link.counters.refused == 1


def test_nothing_is_left_of_a_thousand_connections() -> None:
    before = descriptors()
    with inline() as made:
        idle = descriptors()
        for number in range(1000):
            client, service = made.connect()
            made.send(client, b"x" * 100)
            assert made.read(service, 100)
            (reset if number % 3 else socket.socket.close)(client)
            if number % 2:
                service.close()
                assert made.until(lambda: made.link.open == 0)
            else:
                made.until(lambda: made.link.open == 0, 0.01)
                service.close()
                assert made.until(lambda: made.link.open == 0)
        assert descriptors() == idle
        assert made.server.memory.used == 0
        assert not list(made.link.connections())
    assert descriptors() == before


def test_without_descriptors_it_waits_and_goes_on(made: Inline) -> None:
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [made.dial() for _ in range(3)]
    try:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, old[1]))
        made.turn(0.05)
        assert made.link.open == 0 and made.link.counters.refused >= 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert made.until(lambda: made.link.open == 3, 5)
    service, _ = made.service.accept()
    with service:
        made.send(clients[0], b"x")
        service.settimeout(5)
        made.turn(0.05)
        assert service.recv(1) == b"x"


def test_many_at_once_are_all_served(made: Inline) -> None:
    pairs = [made.connect() for _ in range(200)]
    for number, (client, _) in enumerate(pairs):
        made.send(client, f"{number:05}".encode())
    for number, (_, service) in enumerate(pairs):
        assert made.read(service, 5) == f"{number:05}".encode()


def test_a_link_keeps_its_port_over_disable_and_enable(made: Inline) -> None:
    client, _ = made.connect()
    listen = made.link.listen
    made.link.disable()
    assert made.link.open == 0
    with pytest.raises(ConnectionRefusedError):
        made.dial()
    made.turn(0.01)
    with pytest.raises((ConnectionResetError, AssertionError)):
        assert made.read(client) != b""
    made.link.enable()
    assert made.link.listen == listen
    made.connect()


def test_a_callback_that_raises_costs_nobody_else(
    made: Inline, capsys: pytest.CaptureFixture[str]
) -> None:
    def bad() -> None:
        raise RuntimeError("boom")

    client, service = made.connect()
    made.server.loop.soon(bad)
    made.server.loop.at(0, bad)
    made.server.loop.from_thread(bad)
    made.send(client, b"x")
    assert made.read(service, 1) == b"x"
    made.turn(0.01)
    assert capsys.readouterr().err.count("RuntimeError: boom") == 3
