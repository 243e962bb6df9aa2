"""What happens is told as it happens, and a reader who cannot keep up is told what it lost."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import BinaryIO

import peers
import pytest
from bytewise import HOST, VERSION, assert_well, connected, inside, sent, until

from chaoskit.proxy import events
from chaoskit.proxy.events import MOST_QUEUED, Events, Listener
from chaoskit.proxy.server import Server


def read_events(lines: BinaryIO, count: int) -> list[dict[str, str]]:
    """The next events on a stream, each by its fields; comments are left out."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    while len(found) < count:
        line = lines.readline()
        assert line, f"the stream ended after {found}"
        name, colon, value = line.decode().rstrip("\r\n").partition(": ")
        if name in ("id", "event", "data") and colon:
            event[name] = value
        elif event and not line.strip():
            found.append(event)
            event = {}
    return found


def test_events(ours: peers.Running) -> None:
    with connected(ours) as side:
        side.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        head = until(side, b"\n\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in head
        body = json.dumps({"name": "told", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"})
        peers.ask(ours, "POST", "/proxies", body)
        peers.ask(ours, "POST", "/proxies/told/toxics", '{"type":"latency"}')
        peers.ask(ours, "DELETE", "/proxies/told/toxics/latency_downstream")
        peers.ask(ours, "DELETE", "/proxies/told")
        with side.makefile("rb") as lines:
            told = read_events(lines, 6)
    kinds = [event["event"] for event in told]
    assert {"proxy-created", "proxy-enabled"} == set(kinds[:2])
    assert kinds[2:] == ["toxic-added", "toxic-removed", "proxy-disabled", "proxy-deleted"]
    assert [int(event["id"]) for event in told] == list(
        range(int(told[0]["id"]), int(told[0]["id"]) + 6)
    )
    added = json.loads(told[2]["data"])
    assert (added["proxy"], added["toxic"]["name"]) == ("told", "latency_downstream")
    assert added["at"].endswith("Z")


def test_events_are_chunked_for_http_1_1(ours: peers.Running) -> None:
    with connected(ours) as side:
        side.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in until(side, b"\n\n\r\n")


def test_listeners_are_counted_and_forgotten(ours: peers.Running) -> None:
    asked = b"GET /events HTTP/1.0\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            side = stack.enter_context(connected(ours))
            side.sendall(asked)
            until(side, b"\n\n")
        assert sent(ours, asked, shut=False).startswith(b"HTTP/1.1 503 ")
        assert_well(ours)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with connected(ours) as side:
            side.sendall(asked)
            if side.recv(100).startswith(b"HTTP/1.1 200 "):
                return
        time.sleep(0.05)
    pytest.fail("listeners that have left still count")


def test_a_quiet_stream_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.1)
    with inside() as (_, port, _do), socket.create_connection(("127.0.0.1", port), 20) as side:
        side.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        until(side, b": still here\n\n")
        until(side, b": still here\n\n")


def test_connections_pay_for_events_only_while_somebody_listens() -> None:
    server = Server()
    try:
        told = Events(server)
        one, other = told.listen(lambda: None), told.listen(lambda: None)
        assert len(server.listeners) == 1
        told.leave(one)
        assert len(server.listeners) == 1
        told.leave(other)
        assert server.listeners == []
        told.listen(lambda: None)
        server.tell("again")
        assert len(server.listeners) == 1
        told.close()
        assert server.listeners == []
    finally:
        server.close()


def test_a_slow_reader_is_told_what_it_lost() -> None:
    listener = Listener(lambda: None)
    half = b"x" * (MOST_QUEUED // 2)
    for number in range(1, 10):
        listener.put(number, half)
    assert listener.take() == half + half + b'id: 9\nevent: lost\ndata: {"events":7}\n\n'
    listener.put(10, half * 3)
    assert listener.take() == half * 3, "an event of any size finds room in an empty queue"
    assert listener.take() == b""


def test_a_reader_that_does_not_read_loses_and_holds_up_nobody() -> None:
    many, text = 200, "b" * 100_000
    with (
        inside() as (server, port, do),
        socket.create_connection(("127.0.0.1", port), 20) as side,
        socket.create_connection(("127.0.0.1", port), 20) as other,
        contextlib.ExitStack() as stack,
    ):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
        side.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        until(side, b"\n\n")
        lines = stack.enter_context(side.makefile("rb"))
        for _ in range(many):
            do(lambda: server.tell("loud", text=text))
        other.sendall(VERSION)
        assert until(other, b"}\n").startswith(b"HTTP/1.1 200 OK")
        told: list[dict[str, str]] = []
        while not told or told[-1]["event"] != "lost":
            told += read_events(lines, 1)
        lost = json.loads(told[-1]["data"])["events"]
        assert 0 < lost < many
        assert len(told) - 1 + lost == many, "none is lost without being told"
        assert int(told[-1]["id"]) == many
        do(lambda: server.tell("after"))
        assert [event["event"] for event in read_events(lines, 1)] == ["after"]
