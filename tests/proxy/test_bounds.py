"""However many connections and however small the pieces: the interface has its turn, and what is
kept costs what is counted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import peers
import pytest
from inline import Inline, inline

from chaoskit.proxy import stage, stream
from chaoskit.proxy.loop import IN, Loop
from chaoskit.proxy.toxic import Toxic
from chaoskit.proxy.toxics.delays import Noop
from chaoskit.testing.proxy import link


@pytest.fixture
def made() -> Iterator[Inline]:
    with inline() as made:
        yield made


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def few_descriptors() -> Iterator[int]:
    """As a shell gives them; the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_takes_as_many_descriptors_as_it_may() -> None:
    with few_descriptors() as hard, peers.ours() as server:
        assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_so_does_the_proxy_of_a_run_or_a_test() -> None:
    with few_descriptors() as hard, link("127.0.0.1:9"):
        children = Path("/proc/thread-self/children").read_text().split()
        (proxy,) = [
            int(pid)
            for pid in children
            if b"chaoskit.proxy" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert resource.prlimit(proxy, resource.RLIMIT_NOFILE) == (hard, hard)


# --- turns ---------------------------------------------------------------------------------------


def by_events(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        ready = os.eventfd(1)
        loop.watch(ready, lambda _: work(), IN)


def by_soon(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        loop.soon(work)


def by_timers(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        loop.at(loop.now(), work)
    time.sleep(0.002)


@pytest.mark.parametrize("way", [by_events, by_soon, by_timers])
def test_who_is_urgent_waits_for_few_of_many_that_take_long(
    way: Callable[[Loop, Callable[[], None], int], None],
) -> None:
    loop = Loop()
    urgent = os.eventfd(0)
    worked, served = 0, 0

    def work() -> None:
        nonlocal worked
        worked += 1
        if worked == 1:
            os.eventfd_write(urgent, 1)
        time.sleep(0.003)

    def serve(events: int) -> None:
        nonlocal served
        os.eventfd_read(urgent)
        served = worked

    loop.watch(urgent, serve, IN, urgent=True)
    way(loop, work, 20)
    while not served:
        loop.turn(0.1)
    loop.close()
    assert 1 <= served <= 5, "all others came first"


def test_who_was_just_let_in_is_heard_in_the_same_breath() -> None:
    loop = Loop()
    door, visitor = os.eventfd(1), os.eventfd(1)
    worked: list[str] = []

    def let_in(events: int) -> None:
        os.eventfd_read(door)
        loop.watch(visitor, hear, IN, urgent=True)

    def hear(events: int) -> None:
        os.eventfd_read(visitor)
        worked.append("heard")

    loop.watch(door, let_in, IN, urgent=True)
    for _ in range(3):
        loop.soon(lambda: worked.append("other"))
    loop.turn(0)
    loop.close()
    assert worked[0] == "heard"


def test_a_toxic_draws_nothing_for_connections_that_are_quiet(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source of chance takes 15 us to make; there may be ten thousand connections."""
    made.connect()
    monkeypatch.delattr(Toxic, "random")
    made.add("latency", "upstream", latency=1, jitter=1)
    made.add("loss", "upstream", share=0.5)
    made.add("corrupt", "upstream", share=0.5)
    made.add("slicer", "upstream", average_size=10, size_variation=5)
    made.add("http_error", "upstream", share=0.5)


def test_ten_thousand_connections_are_drawn_at_once() -> None:
    toxic = Noop()
    toxic.toxicity = 0.3
    began = time.process_time()
    chosen = sum(toxic.applies(number) for number in range(10_000))
    assert time.process_time() - began < 0.1
    assert 2800 < chosen < 3200


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "given"), [("latency", {"latency": 60_000}), ("black_hole", {})])
def test_small_pieces_that_wait_are_counted_as_what_they_take(
    made: Inline, kind: str, given: dict[str, int]
) -> None:
    client, _ = made.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.add(kind, "upstream", **given)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1500):
            client.send(b"x")
            made.turn()
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert made.server.memory.used > 1500
    assert took <= 1.5 * made.server.memory.used


def test_a_small_piece_does_not_keep_the_room_that_a_large_one_would_take(
    ours: peers.Running,
) -> None:
    """In a process of its own, whose allocator has nothing behind it yet."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        upstream = f"127.0.0.1:{service.getsockname()[1]}"
        told = {"name": "link", "listen": "127.0.0.1:0", "upstream": upstream}
        link = json.loads(peers.ask(ours, "POST", "/proxies", json.dumps(told)).body)
        toxic = {"type": "latency", "stream": "upstream", "attributes": {"latency": 60_000}}
        assert peers.ask(ours, "POST", "/proxies/link/toxics", json.dumps(toxic)).status == 200
        before = resident(ours.pid)
        with socket.create_connection(("127.0.0.1", int(link["listen"].split(":")[1]))) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                client.send(b"x")
            took = resident(ours.pid) - before
            counts = peers.ask(ours, "GET", "/metrics").body.decode()
    counted = re.search(r"^chaoskit_proxy_memory_bytes (\d+)$", counts, re.MULTILINE)
    assert counted
    assert took <= 2 * int(counted[1]) + 4_000_000


def test_nothing_is_left_of_timers_that_were_cancelled() -> None:
    loop = Loop()
    fired: list[int] = []
    kept = [
        loop.at(loop.now() + 0.001 * number, partial(fired.append, number)) for number in range(9)
    ]
    for _ in range(20_000):
        loop.at(loop.now() + 3600, kept.clear).cancel()
    left = len(loop._timers)
    while len(fired) < 9:
        loop.turn(0.1)
    loop.close()
    assert left < 3000 and fired == list(range(9))


def test_small_pieces_that_waited_go_on_together(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal must not take a system call for each of them."""
    client, server = made.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.add("latency", "upstream", latency=60_000)
    sent = bytes(number % 251 for number in range(2000))
    for number in sent:
        client.send(bytes([number]))
        made.turn()
    emitted = []
    emit = stage.Stage.emit
    monkeypatch.setattr(
        stage.Stage, "emit", lambda self, data: (emitted.append(len(data)), emit(self, data))
    )
    made.link.remove_all()
    assert len(emitted) < 10
    assert made.read(server, len(sent)) == sent


@pytest.mark.parametrize("how", ["comes", "is let go of"])
def test_what_comes_to_another_toxic_stays_cut(
    made: Inline, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    client, server = made.connect()
    made.add("slicer", "upstream", average_size=7)
    made.add("latency", "upstream", name="late", latency=20 if how == "comes" else 60_000)
    made.add("noop", "upstream")
    (connection,) = made.link.connections()
    assert connection.up is not None
    last = connection.up.stages[-1]
    pieces = []
    monkeypatch.setattr(
        stage.Stage, "feed", lambda self, data: (pieces.append(len(data)), self.emit(data))
    )
    assert type(last) is stage.Stage
    made.send(client, bytes(700))
    made.turn(0.02)
    if how != "comes":
        made.link.remove("late")
    assert made.read(server, 700) == bytes(700)
    assert pieces == [7] * 100


def test_small_pieces_for_a_receiver_that_takes_nothing_wait_together(made: Inline) -> None:
    client, server = made.connect()
    made.narrow()
    made.add("slicer", "upstream", average_size=1)
    (connection,) = made.link.connections()
    assert connection.up is not None
    sent = bytes(number % 251 for number in range(200_000))
    made.send(client, sent)
    assert made.until(lambda: connection.up.unsent > 100_000)
    assert len(connection.up.out) < 20
    assert made.read(server, len(sent)) == sent
    assert made.server.memory.used == 0


def test_small_pieces_behind_a_request_that_waits_are_kept_together(made: Inline) -> None:
    client, server = made.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.add("http_delay", "upstream", name="wait", delay=60_000)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
    made.send(client, request[:50])
    for byte in request[50:]:
        client.send(bytes([byte]))
        made.turn()
    (connection,) = made.link.connections()
    (waiting,) = connection.up.stages
    assert len(waiting._queue) < 20
    made.link.remove("wait")
    assert made.read(server, len(request)) == request


def test_what_receivers_do_not_take_is_bounded_for_all_together() -> None:
    """By a toxic that keeps nothing itself."""
    with inline(memory=1_000_000) as made:
        made.add("noop", "upstream")
        clients = [made.connect()[0] for _ in range(8)]
        made.narrow()
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
        assert made.server.memory.used <= 1_000_000 + 8 * (stage.SMALL + stream.READ)
