"""http_error and http_delay on real sockets: the right answers in the right order, no byte of a
swallowed request upstream, and everything that is not HTTP/1.1 unharmed."""

from __future__ import annotations

import contextlib
import random
import re
import tracemalloc
from typing import Any

import pytest
from inline import inline

from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.exchange import MOST_WAITING

GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"
GOOD, BAD = GET % b"good", GET % b"bad"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
LAST = ERROR.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
BUSY: dict[str, Any] = {"body": "busy", "path": "/bad.*"}


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    return post_head(path, len(body), *headers) + body


def post_head(path: bytes, size: int, *headers: bytes) -> bytes:
    lines = [b"POST /%s HTTP/1.1" % path, b"Content-Length: %d" % size, *headers, b"", b""]
    return b"\r\n".join(lines)


def chunked(path: bytes, *chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"POST /%s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" % path + parts


# --- http_error: the answer ----------------------------------------------------------------------


def test_a_matching_request_is_answered_and_the_next_one_goes_on() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        for _ in range(3):
            made.send(client, BAD)
            assert made.read(client, len(ERROR)) == ERROR
            made.send(client, GOOD)
            assert made.read(service, len(GOOD)) == GOOD
            made.send(service, OK)
            assert made.read(client, len(OK)) == OK
        assert made.nothing(service) and made.nothing(client)
        assert made.server.memory.used == 0


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "swallowed",
    [
        post(b"bad", b"x" * 500),
        chunked(b"bad", b"x" * 300, b"y", GOOD),
        b"\r\n\n" + BAD,
        BAD.replace(b"\r\n", b"\n"),
        GET % b"bad?good",
        GET.replace(b"GET /", b"OPTIONS http://h/") % b"bad",
    ],
)
def test_it_is_swallowed_whole(swallowed: bytes, step: int) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        data = GOOD + swallowed + GOOD
        for at in range(0, len(data), step):
            made.send(client, data[at : at + step])
            made.turn()
        assert made.read(service, 2 * len(GOOD)) == GOOD + GOOD
        made.send(service, OK + OK)
        assert made.read(client, len(OK + ERROR + OK)) == OK + ERROR + OK
        assert made.nothing(service)


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (GOOD, OK),
        (
            GOOD,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nT: 1\r\n\r\n",
        ),
        (GOOD, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        (GOOD, b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 204 None\r\n\r\n"),
        (GOOD.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        (post(b"a", b"x", b"Expect: 100-continue"), b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
        (GOOD, b"HTTP/1.1 200 OK\nContent-Length: 200000\n\n" + b"z" * 200_000),
    ],
)
def test_the_answer_comes_behind_those_of_earlier_requests(first: bytes, answer: bytes) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, first + BAD + BAD + GOOD)
        assert made.read(service, len(first + GOOD)) == first + GOOD
        assert made.nothing(client)
        for at in range(len(answer) - 1):
            if at < 300:
                made.send(service, answer[at : at + 1])
                made.turn()
        made.send(service, answer[min(300, len(answer) - 1) : -1])
        assert made.read(client, len(answer) - 1) == answer[:-1]
        assert made.nothing(client)
        made.send(service, answer[-1:] + OK)
        rest = answer[-1:] + ERROR + ERROR + OK
        assert made.read(client, len(rest)) == rest
        assert made.server.memory.used == 0


def test_an_answer_that_lasts_until_the_end_is_the_last() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD + BAD)
        made.read(service, len(GOOD))
        endless = b"HTTP/1.1 200 OK\r\n\r\nuntil the end" + OK
        made.send(service, endless)
        service.close()
        assert made.read(client) == endless


@pytest.mark.parametrize(
    ("attributes", "request_", "answer"),
    [
        ({}, BAD, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        ({"status": 599}, BAD, b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"),
        ({"status": 204}, BAD, b"HTTP/1.1 204 No Content\r\n\r\n"),
        ({"status": 304}, BAD, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (
            {"status": 429, "body": "später", "headers": {"Retry-After": "1", "X": "é"}},
            BAD,
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nX: é\r\nContent-Length: 7\r\n\r\n"
            "später".encode(),
        ),
        (BUSY, BAD.replace(b"GET", b"HEAD"), ERROR[:-4]),
        (BUSY, BAD.replace(b"1.1", b"1.0"), LAST),
        (BUSY, BAD.replace(b"Host: h", b"Connection: Close"), LAST),
        (
            BUSY,
            BAD.replace(b"1.1", b"1.0").replace(b"Host: h", b"Connection: keep-alive"),
            ERROR.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
        ),
        ({"method": "CONNECT", "body": "busy"}, b"CONNECT h:1 HTTP/1.1\r\n\r\n\x16\x03", LAST),
        (
            {"status": 200, "body": "x"},
            b"CONNECT h:1 HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        ),
    ],
)
def test_what_the_answer_is(attributes: dict[str, Any], request_: bytes, answer: bytes) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **attributes)
        client, service = made.connect()
        made.send(client, request_)
        if b"close" in answer:
            assert made.read(client) == answer
        else:
            assert made.read(client, len(answer)) == answer
            made.send(client, BAD.replace(b"GET", b"HEAD"))
            assert made.read(client, 12) == answer[:12]
        assert made.nothing(service)


def test_the_connection_ends_behind_the_answer_when_the_client_wants_it() -> None:
    """Its end, and no reset, although more has been sent: the answer must not be lost."""
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        closing = BAD.replace(b"Host: h", b"Connection: close")
        made.send(client, closing + GOOD)
        assert made.read(client) == LAST
        made.send(client, GOOD * 1000)
        made.turn(0.05)
        assert made.link.open == 1 and made.nothing(service)
        client.close()
        assert made.read(service) == b""
        service.close()
        assert made.until(lambda: made.link.open == 0)
        assert made.server.memory.used == 0


def test_a_client_that_never_closes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaoskit.proxy.exchange.LINGER", 0.05)
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, _ = made.connect()
        made.send(client, BAD.replace(b"Host: h", b"Connection: close"))
        assert made.read(client) == LAST
        assert made.until(lambda: made.link.open == 0)


def test_the_end_of_the_connection_waits_for_earlier_answers() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD + BAD.replace(b"Host: h", b"Connection: close"))
        assert made.read(service, len(GOOD)) == GOOD
        made.send(service, OK)
        assert made.read(client) == OK + LAST


def test_nothing_goes_on_behind_a_last_answer_that_waits() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD + BAD.replace(b"Host: h", b"Connection: close") + GOOD)
        assert made.read(service, len(GOOD)) == GOOD
        assert made.nothing(service)
        made.send(service, OK)
        assert made.read(client) == OK + LAST


def test_the_connection_ends_when_the_answer_says_so_itself() -> None:
    with inline() as made:
        made.add("http_error", "upstream", body="busy", headers={"Connection": "Close"})
        client, _ = made.connect()
        made.send(client, BAD)
        head, _, body = made.read(client).partition(b"\r\n\r\n")
        assert (head.lower().count(b"connection: close"), body) == (1, b"busy")


def test_an_answer_ends_the_connection_when_the_end_of_the_request_is_not_clear() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, chunked(b"bad", b"abc").replace(b"0\r\n\r\n", b"zz\r\n") + GOOD)
        assert made.read(client) == LAST
        made.send(client, GOOD)
        assert made.nothing(service)


@pytest.mark.parametrize("body_too", [True, False])
def test_a_client_that_waits_for_100_gets_the_error_instead(body_too: bool) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, post_head(b"bad", 100_000, b"Expect: 100-continue"))
        assert made.read(client, len(LAST)) == LAST
        if body_too:
            made.send(client, b"x" * 100_000)
        assert made.nothing(service)
        assert made.read(client) == b""
        client.close()
        assert made.read(service) == b""


# --- http_error: which ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "line", "hit"),
    [
        ({}, "GET /", True),
        ({"method": "POST"}, "GET /", False),
        ({"method": "GET"}, "GET /", True),
        ({"method": "GET"}, "get /", False),
        ({"path": "/a"}, "GET /a?b", True),
        ({"path": "/a"}, "GET /ab", False),
        ({"path": "a"}, "GET /a", False),
        ({"path": "/(a|b)/[0-9]+"}, "GET /b/12", True),
        ({"path": "/ä"}, "GET /ä", True),
        ({"path": "/.*"}, "GET /" + "x" * 4095, True),
        ({"path": "/.*"}, "GET /" + "x" * 4096, False),
        ({"method": "GET", "path": "/a"}, "PUT /a", False),
        ({"share": 0}, "GET /", False),
    ],
)
def test_which_requests_are_hit(attributes: dict[str, Any], line: str, hit: bool) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **attributes)
        client, service = made.connect()
        made.send(client, f"{line} HTTP/1.1\r\n\r\n".encode())
        reader = client if hit else service
        assert made.read(reader, 1)
        assert made.nothing(service if hit else client)


def drawn(seed: int | None, share: float = 0.3, toxicity: float = 1.0) -> list[str]:
    """Which of many requests, each connection a row."""
    rows = []
    with inline() as made:
        made.add("http_error", "upstream", share=share, seed=seed, toxicity=toxicity)
        for _ in range(20):
            client, service = made.connect()
            made.send(client, GOOD * 50)
            client.shutdown(1)
            seen = len(made.read(service)) // len(GOOD)
            rows.append("".join("." for _ in range(seen)))
            client.close()
            service.close()
    return rows


def test_the_share_is_drawn_for_each_request_under_the_seed() -> None:
    rows = drawn(7)
    assert rows == drawn(7)
    assert rows != drawn(8)
    assert len(set(rows)) > 3, "each connection draws for itself"
    assert 0.6 < sum(map(len, rows)) / 1000 < 0.8


def test_the_share_has_nothing_to_do_with_the_toxicity() -> None:
    hits = 0
    with inline() as made:
        made.add("http_error", "upstream", share=0.5, toxicity=0.5, seed=3)
        for _ in range(200):
            client, service = made.connect()
            made.send(client, GOOD)
            client.shutdown(1)
            hits += made.read(service) == b""
            client.close()
            service.close()
    assert 25 < hits < 75, "of 200, a quarter"


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        ("http_error", {"status": 100}, "status must be between 200 and 599"),
        ("http_error", {"status": 600}, "status must be between 200 and 599"),
        ("http_error", {"status": 503.5}, "whole number"),
        ("http_error", {"path": "("}, "path is no regular expression"),
        ("http_error", {"path": "a{99999999999999999999}"}, "path is no regular expression"),
        ("http_error", {"method": "GET POST"}, "method must be one HTTP method"),
        ("http_error", {"share": 1.1}, "share must be between 0 and 1"),
        ("http_error", {"status": 204, "body": "x"}, "has no body"),
        ("http_error", {"headers": {"a b": ""}}, "no name of a header"),
        ("http_error", {"headers": {"a": "b\r\nc: d"}}, "control character"),
        ("http_error", {"headers": {"content-length": "1"}}, "set by the proxy"),
        ("http_error", {"headers": {"Transfer-Encoding": "x"}}, "set by the proxy"),
        ("http_error", {"headers": {"a": 1}}, "object of texts"),
        ("http_delay", {"delay": -1}, "delay and jitter must be"),
        ("http_delay", {"jitter": 10**9}, "delay and jitter must be"),
        ("http_delay", {"path": "[a"}, "path is no regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, attributes: dict[str, Any], reason: str) -> None:
    with inline() as made, pytest.raises(ProxyError, match=re.escape(reason)) as caught:
        made.add(kind, "upstream", **attributes)
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", ["http_error", "http_delay"])
def test_requests_go_upstream_alone(kind: str) -> None:
    with inline() as made, pytest.raises(ProxyError, match="upstream only") as caught:
        made.add(kind, "downstream")
    assert caught.value.status == 400


# --- http_error: memory --------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [100_000, 10])
def test_a_large_body_is_swallowed_in_flat_memory(chunk: int) -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        size = 10_000_000 if chunk > 1000 else 1_000_000
        piece = b"%x\r\n%s\r\n" % (chunk, b"x" * chunk)
        made.send(client, chunked(b"bad").removesuffix(b"0\r\n\r\n"))
        block = piece * max(1, 100_000 // chunk)
        tracemalloc.start()
        for _ in range(size // (len(block) or 1)):
            made.send(client, block)
            assert made.server.memory.used < 2_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4_000_000
        made.send(client, b"0\r\n\r\n" + GOOD)
        assert made.read(client, len(ERROR)) == ERROR
        assert made.read(service, len(GOOD)) == GOOD


def test_a_client_that_takes_no_answers_is_read_no_more() -> None:
    with inline() as made:
        made.add("http_error", "upstream", path="/bad", body="x" * 2000)
        client, _ = made.connect()
        rest = BAD * 10_000
        for _ in range(300):
            made.turn()
            with contextlib.suppress(BlockingIOError):
                rest = rest[client.send(rest) :]
            assert made.server.memory.used < 1_500_000
        answers = 0
        while answers < 10_000:
            with contextlib.suppress(BlockingIOError):
                rest = rest[client.send(rest) :] if rest else rest
            head, _, _ = bytes(made.read(client, 68)).partition(b"x")
            assert head.endswith(b"Content-Length: 2000\r\n\r\n"), head
            made.read(client, len(head) + 2000 - 68)
            answers += 1
        made.turn(0.05)
        assert not rest and made.server.memory.used == 0


def test_so_many_requests_wait_for_an_upstream_at_a_time() -> None:
    with inline() as made:
        made.add("http_error", "upstream", **BUSY)
        client, service = made.connect()
        made.send(client, GOOD * 400 + BAD)
        first = len(GOOD) * MOST_WAITING
        assert made.read(service, first) == GOOD * MOST_WAITING
        assert made.nothing(service)
        made.send(service, OK * 144)
        assert made.read(service, len(GOOD) * 144) == GOOD * 144
        assert made.nothing(service)
        made.send(service, OK * MOST_WAITING)
        assert made.read(client, len(OK) * 400 + len(ERROR)) == OK * 400 + ERROR


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
    from chaoskit.proxy.http1 import Request
    from chaoskit.proxy.toxics.http import HttpDelay

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
