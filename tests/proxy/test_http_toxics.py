"""http_error and its requests: which they are, what the answer is."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from typing import Any

import pytest
from inline import inline
from messages import BAD, BUSY, ERROR, GET, GOOD, LAST, OK, chunked, post, post_head

from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.exchange import MOST_WAITING

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
