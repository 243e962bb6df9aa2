"""HTTP toxics that come and go in the middle of things, other protocols, peers that leave, and the
requests that http_delay lets wait: no byte is lost, and none of a swallowed request leaks."""

from __future__ import annotations

import contextlib
import random
import re
import signal
from typing import Any

import pytest
from inline import inline
from messages import BAD, BUSY, ERROR, GET, GOOD, LAST, OK, chunked, post, post_head

from chaoskit.proxy.http1 import Request
from chaoskit.proxy.toxics.http import HttpDelay

# --- removing, changing, adding in the middle ----------------------------------------------------


@pytest.mark.parametrize("back", [False, True])
def test_the_rest_of_a_swallowed_request_is_swallowed_after_the_toxic(back: bool) -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        body = GOOD * 20
        made.send(client, post_head(b"bad", len(body)) + body[:100])
        made.turn(0.02)
        made.link.remove(name)
        if back:
            made.add("http_error", "upstream", body="other", path="/good")
        for at in range(100, len(body), len(GOOD)):
            made.send(client, body[at : at + len(GOOD)])
            made.turn()
        assert made.read(client, len(ERROR)) == ERROR
        assert made.nothing(service)
        made.send(client, BAD + BAD)
        assert made.read(service, 2 * len(BAD)) == BAD + BAD
        made.send(service, OK + OK)
        assert made.read(client, 2 * len(OK)) == OK + OK
        stages = [c.up.stages for c in made.link.connections()]  # type: ignore[union-attr]
        assert [len(one) for one in stages] == [int(back)], "nothing stays behind"
        assert made.server.memory.used == 0


def test_what_follows_a_swallowed_rest_goes_on_at_once() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, chunked(b"bad", b"abc")[:-6])
        made.turn(0.02)
        made.link.remove(name)
        made.send(client, b"\n0\r\n\r\n" + GOOD)
        assert made.read(client, len(ERROR)) == ERROR
        assert made.read(service, len(GOOD)) == GOOD


def test_answers_that_wait_are_given_after_the_toxic() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD + BAD + GOOD + BAD)
        assert made.read(service, 2 * len(GOOD)) == GOOD + GOOD
        made.link.remove(name)
        made.send(client, BAD)
        assert made.read(service, len(BAD)) == BAD
        made.send(service, OK)
        made.send(service, OK + OK)
        expected = OK + ERROR + OK + ERROR + OK
        assert made.read(client, len(expected)) == expected
        assert made.until(lambda: not any(c.down.stages for c in made.link.connections()))  # type: ignore[union-attr]


def test_a_head_that_is_not_complete_goes_on_when_the_toxic_goes() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, BAD[:-5])
        assert made.nothing(service)
        made.link.remove(name)
        assert made.read(service, len(BAD) - 5) == BAD[:-5]
        made.send(client, BAD[-5:])
        assert made.read(service, 5) == BAD[-5:]


def test_a_changed_toxic_has_its_new_way_with_the_next_request() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 10) + b"12345")
        made.turn(0.02)
        made.link.change(name, {"attributes": {"status": 500, "path": "/good"}})
        made.send(client, b"67890" + BAD + GOOD)
        assert made.read(client, len(ERROR)) == ERROR
        assert made.read(service, len(BAD)) == BAD
        made.send(service, OK)
        assert made.read(client, len(OK) + 12) == OK + b"HTTP/1.1 500"


def test_toxicity_that_is_taken_away_leaves_no_trace() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 10) + b"12345")
        made.turn(0.02)
        made.link.change(name, {"toxicity": 0})
        made.send(client, b"67890")
        assert made.read(client, len(ERROR)) == ERROR
        made.send(client, BAD)
        assert made.read(service, len(BAD)) == BAD
        made.send(service, OK)
        assert made.read(client, len(OK)) == OK
        made.link.change(name, {"toxicity": 1})
        made.send(client, BAD)
        assert made.read(client, len(ERROR)) == ERROR


def test_a_toxic_that_comes_in_the_middle_of_a_request_begins_with_the_next() -> None:
    with inline() as made:
        client, service = made.connect()
        made.send(client, post_head(b"bad", 5 + 3 * len(BAD)) + b"12")
        assert made.read(service, len(post_head(b"bad", 5 + 3 * len(BAD))) + 2)
        made.add("http_error", "upstream", **BUSY)
        for part in (b"345", BAD, BAD, BAD):
            made.send(client, part)
            assert made.read(service, len(part)) == part
        made.send(service, OK)
        assert made.read(client, len(OK)) == OK
        made.send(client, BAD)
        assert made.read(client, len(ERROR)) == ERROR
        made.send(client, GOOD)
        assert made.read(service, len(GOOD)) == GOOD


def test_a_toxic_that_comes_while_an_answer_is_awaited_does_not_answer_out_of_turn() -> None:
    with inline() as made:
        client, service = made.connect()
        made.send(client, GOOD)
        assert made.read(service, len(GOOD)) == GOOD
        made.add("http_error", "upstream", **BUSY)
        made.send(client, BAD)
        assert made.read(service, len(BAD)) == BAD
        made.send(service, OK + OK)
        assert made.read(client, 2 * len(OK)) == OK + OK
        made.send(client, BAD)
        assert made.read(client, len(ERROR)) == ERROR


@pytest.mark.parametrize("kind", ["http_error", "http_delay"])
def test_a_pattern_that_takes_for_ever_matches_nothing_and_stops_nobody(kind: str) -> None:
    slow = GET % (b"a" * 40)
    with inline() as made:
        made.add(kind, "upstream", path=r"(/?\w+)+\.json")
        client, service = made.connect()
        made.send(client, slow)
        assert made.read(service, len(slow)) == slow
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0


def test_a_toxic_that_comes_between_requests_begins_at_once() -> None:
    with inline() as made:
        client, service = made.connect()
        made.send(client, BAD)
        assert made.read(service, len(BAD)) == BAD
        made.send(service, OK)
        assert made.read(client, len(OK)) == OK
        made.add("http_error", "upstream", **BUSY)
        made.send(client, BAD)
        assert made.read(client, len(ERROR)) == ERROR


def test_nothing_leaks_when_the_toxic_goes_behind_the_last_answer() -> None:
    with inline() as made:
        name = made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, BAD.replace(b"Host: h", b"Connection: close"))
        assert made.read(client) == LAST
        made.link.remove(name)
        made.send(client, GOOD)
        assert made.nothing(service)
        client.close()
        assert made.read(service) == b""


def test_our_answers_meet_the_toxics_of_their_direction() -> None:
    with inline() as made:
        slow = made.add("latency", "downstream", latency=150)
        made.add("http_error", "upstream", **BUSY)
        client, _ = made.connect()
        for _ in range(2):
            made.send(client, BAD)
            assert made.nothing(client, 0.1)
            assert made.read(client, len(ERROR)) == ERROR
            made.link.change(slow, {"toxicity": 0})
            made.link.change(slow, {"toxicity": 1})


# --- what is not HTTP/1.1 ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000,
        b"POST /good HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
@pytest.mark.parametrize("kind", ["http_error", "http_delay"])
def test_what_is_not_http_passes_unharmed(data: bytes, kind: str) -> None:
    attributes = {"delay": 60_000} if kind == "http_delay" else {}
    with inline() as made:
        made.add(kind, "upstream", path="/|/bad", **attributes)
        client, service = made.connect()
        for _ in range(2):
            made.send(client, data)
            assert made.read(service, len(data)) == data
            made.send(service, b"\x15\x03" + OK)
            assert made.read(client, len(OK) + 2) == b"\x15\x03" + OK
            made.send(client, BAD)
            assert made.read(service, len(BAD)) == BAD
        client.shutdown(1)
        assert made.read(service) == b""
        assert made.server.memory.used == 0


def test_another_protocol_begins_when_the_upstream_says_so() -> None:
    upgrade = b"GET /good HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    connect = b"CONNECT h:443 HTTP/1.1\r\n\r\n"
    for request, answer in ((upgrade, switch), (connect, b"HTTP/1.1 200 OK\r\n\r\n")):
        with inline() as made:
            made.add("http_error", "upstream", **BUSY)
            client, service = made.connect()
            made.send(client, request + BAD)
            assert made.read(service, len(request)) == request
            assert made.nothing(service), "nobody knows yet what this is"
            made.send(service, answer)
            assert made.read(client, len(answer)) == answer
            assert made.read(service, len(BAD)) == BAD
            made.send(client, BAD)
            assert made.read(service, len(BAD)) == BAD
            made.send(service, b"\x81\x00")
            assert made.read(client, 2) == b"\x81\x00"


def test_no_other_protocol_begins_when_the_upstream_declines() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        upgrade = post(b"good", b"abc", b"Upgrade: h2c")
        made.send(client, upgrade + BAD)
        assert made.read(service, len(upgrade)) == upgrade
        made.send(service, OK)
        assert made.read(client, len(OK + ERROR)) == OK + ERROR
        assert made.nothing(service)


# --- an upstream that does as it likes -----------------------------------------------------------


def test_an_upstream_that_leaves_does_not_take_the_answer_with_it() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 10) + b"12345")
        made.turn(0.02)
        service.close()
        assert made.nothing(client)
        made.send(client, b"67890")
        assert made.read(client) == LAST


def test_an_upstream_that_speaks_unasked_is_heard_and_nothing_leaks() -> None:
    timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 10) + b"12345")
        made.turn(0.02)
        made.send(service, timeout)
        assert made.read(client, len(timeout)) == timeout
        assert made.read(service) == b""
        service.close()
        assert made.read(client) == b""


def test_a_client_that_leaves_in_the_middle_of_a_swallowed_request() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD + post_head(b"bad", 10) + b"12345")
        client.close()
        assert made.read(service) == GOOD
        service.close()
        assert made.until(lambda: made.link.open == 0)
        assert made.server.memory.used == 0


def test_a_client_that_says_no_more_in_the_middle_of_a_swallowed_request() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 10) + b"12345")
        client.shutdown(1)
        assert made.read(service) == b""
        service.close()
        assert made.read(client) == b""
        assert made.until(lambda: made.link.open == 0)


def test_an_upstream_that_is_faster_than_the_client_takes_answers() -> None:
    with inline() as made:
        made.add("http_error", "upstream", body="x" * 5000, path="/bad")
        client, service = made.connect()
        made.narrow()
        made.send(client, BAD * 200 + GOOD)
        assert made.read(service, len(GOOD)) == GOOD
        made.send(service, OK)
        assert made.nothing(service)
        size = len(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5000\r\n\r\n") + 5000
        got = made.read(client, 200 * size + len(OK))
        assert got.count(b"HTTP/1.1 503") == 200 and got.endswith(OK)


# --- http_delay ----------------------------------------------------------------------------------


def test_a_matching_request_waits_and_all_behind_it() -> None:
    with inline() as made:
        made.add("http_delay", "upstream", delay=150, path="/bad")
        client, service = made.connect()
        made.send(client, GOOD + BAD + GOOD)
        assert made.read(service, len(GOOD)) == GOOD
        assert made.nothing(service, 0.1)
        assert made.read(service, len(BAD + GOOD)) == BAD + GOOD
        made.send(service, OK * 3)
        assert made.read(client, 3 * len(OK)) == OK * 3
        assert made.server.memory.used == 0


@pytest.mark.parametrize("how", ["removed", "shortened"])
def test_nothing_is_lost_when_it_goes_while_requests_wait(how: str) -> None:
    with inline() as made:
        name = made.add("http_delay", "upstream", delay=60_000, path="/bad")
        client, service = made.connect()
        data = post(b"bad", bytes(200_000)) + GOOD + BAD + BAD[:-3]
        made.send(client, data)
        client.shutdown(1)
        assert made.nothing(service)
        if how == "removed":
            made.link.remove(name)
        else:
            made.link.change(name, {"attributes": {"delay": 1}})
        assert made.read(service, seconds=5) == data
        assert made.server.memory.used == 0


def test_what_waits_is_bounded() -> None:
    with inline() as made:
        made.add("http_delay", "upstream", delay=60_000)
        client, _ = made.connect()
        for _ in range(300):
            made.turn()
            with contextlib.suppress(BlockingIOError):
                client.send(post(b"bad", bytes(100_000)))
        assert made.server.memory.used < 500_000


def test_the_wait_varies_by_the_jitter() -> None:
    toxic = HttpDelay(delay=100, jitter=40)
    chance = random.Random(1)
    waits = [toxic.treat(Request(GOOD, 1, (), "GET", "/"), chance) for _ in range(500)]
    assert all(isinstance(wait, float) and 0.06 <= wait <= 0.14 for wait in waits)
    assert max(waits) - min(waits) > 0.07  # type: ignore[operator, type-var]


# --- several toxics ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_several_toxics_keep_the_order_of_answers(order: tuple[int, ...]) -> None:
    given: list[tuple[str, dict[str, Any]]] = [
        ("http_error", {"path": "/a", "status": 501}),
        ("http_error", {"path": "/b", "status": 502}),
        ("http_delay", {"path": "/[bc]", "delay": 20}),
    ]
    with inline() as made:
        for one in order:
            kind, more = given[one]
            made.add(kind, "upstream", name=str(one), **more)
        made.add("latency", "downstream", latency=5)
        made.add("slicer", "upstream", average_size=5)
        client, service = made.connect()
        # One that goes and comes back keeps its place.
        made.send(client, GET % b"x")
        made.read(service, len(GET % b"x"))
        made.send(service, OK)
        made.read(client, len(OK))
        made.link.change(str(order[0]), {"toxicity": 0})
        made.link.change(str(order[0]), {"toxicity": 1})
        made.send(client, GET % b"x")
        made.read(service, len(GET % b"x"))
        made.send(service, OK)
        made.read(client, len(OK))
        paths = b"a c b x b a a c x a b".split()
        made.send(client, b"".join(GET % path for path in paths))
        left = [GET % path for path in paths if path in b"xc"]
        assert made.read(service, len(b"".join(left))) == b"".join(left)
        made.send(service, OK * len(left))
        expected = [{b"a": 501, b"b": 502}.get(path, 200) for path in paths]
        got = bytearray()
        while got.count(b"HTTP/1.1") < len(paths) or not got.endswith(b"\r\n\r\n"):
            got += made.read(client, 1)
        assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", got)] == expected
