"""The scanner finds the same messages however the bytes are cut, and changes and guesses none."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaoskit.proxy.http1 import (
    MOST_HEAD,
    Head,
    Request,
    RequestScanner,
    Response,
    ResponseScanner,
    Scanner,
)


@dataclass
class Read:
    """What a scanner made of some bytes. through: the bytes in the order in which it gave them."""

    heads: list[Head] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    complete: int = 0
    through: bytearray = field(default_factory=bytearray)
    lost: bool = False


def read(
    scanner: Scanner[Any], data: bytes, cuts: list[int], answered: deque[str] | None = None
) -> Read:
    """Feed it in the pieces that the cuts make."""
    got = Read()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        piece, at = data[begin:end], 0
        while at < len(piece):
            in_head, lost = scanner.in_head, scanner.lost
            now, head = scanner.scan(piece, at)
            if lost:
                got.through += piece[at:now]
            elif head is not None:
                got.heads.append(head)
                got.bodies.append(b"")
                got.through += head.raw
            elif not in_head:
                got.bodies[-1] += piece[at:now]
                got.through += piece[at:now]
            elif scanner.lost:
                got.through += scanner.take_kept()
            at = now
            if scanner.idle and (head is not None or not in_head):
                got.complete += 1
                if answered and isinstance(got.heads[-1], Response) and got.heads[-1].status > 199:
                    answered.popleft()
    got.through += scanner.take_kept()
    got.lost = scanner.lost
    return got


def requests(data: bytes, cuts: list[int] | None = None) -> Read:
    return read(RequestScanner(), data, list(range(len(data))) if cuts is None else cuts)


def responses(data: bytes, methods: list[str], cuts: list[int] | None = None) -> Read:
    asked = deque(methods)
    scanner = ResponseScanner(lambda: asked[0] if asked else None)
    return read(scanner, data, list(range(len(data))) if cuts is None else cuts, asked)


# --- any messages, any chunking ------------------------------------------------------------------

EOL = st.sampled_from([b"\r\n", b"\n"])
FIELDS = st.lists(
    st.sampled_from(
        [b"Host: a", b"X:", b"Accept:  a, b \t", b"Cookie: \xe9=1;\t2", b"x-long: " + b"y" * 300]
    ),
    max_size=4,
)
BODY = st.binary(max_size=80)


def lines(first: bytes, fields: list[bytes], eol: bytes) -> bytes:
    return eol.join([first, *fields, b"", b""])


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    made = b""
    for part in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4)):
        extension = draw(st.sampled_from([b"", b";a", b' ; a="b;c"', b";a=b;c=d"]))
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(part)
        made += size + extension + b"\r\n" + part + b"\r\n"
    made += draw(st.sampled_from([b"0", b"000", b"0;x=y"])) + b"\r\n"
    return made + draw(st.sampled_from([b"\r\n", b"T: 1\r\nU: 2\r\n\r\n", b"T: 1\n\n"]))


@st.composite
def one_request(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A head and its body, as they are sent."""
    method = draw(st.sampled_from([b"GET", b"POST", b"m-search", b"CONNECT", b"HEAD", b"!"]))
    target = draw(st.sampled_from([b"/", b"/a?b=c", b"*", b"http://h/x", b"h:443", b"/\xc3\xa9"]))
    fields, eol = draw(FIELDS), draw(EOL)
    empty = draw(st.sampled_from([b"", b"\r\n", b"\n\r\n"]))
    body = b""
    match draw(st.sampled_from(["none", "length", "chunked"])):
        case "length":
            body = draw(BODY)
            fields = [*fields, b"content-LENGTH: %d" % len(body)]
        case "chunked":
            body = draw(chunked())
            fields = [b"Transfer-Encoding: gzip,  Chunked", *fields]
    return empty + lines(method + b" " + target + b" HTTP/1.1", fields, eol), body


@st.composite
def one_response(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """The method it answers, a head, and its body."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST"]))
    status = draw(
        st.sampled_from([b"200 OK", b"404 ", b"503", b"204 x", b"304 x", b"100 go", b"103 h"])
    )
    fields, eol, body = draw(FIELDS), draw(EOL), b""
    if draw(st.booleans()):
        body = draw(BODY)
        fields = [*fields, b"Content-Length: %d" % len(body)]
    else:
        body = draw(chunked())
        fields = [*fields, b"Transfer-Encoding: chunked"]
    if method == "HEAD" or status[:1] == b"1" or status[:3] in (b"204", b"304"):
        body = b""
    return method, lines(b"HTTP/1.1 " + status, fields, eol), body


CUTS = st.lists(st.integers(0, 5000), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(one_request(), max_size=5), CUTS, st.booleans())
@example([(b"\r\n\nGET / HTTP/1.1\n\n", b"")] * 3, [], True)
def test_requests_are_the_same_in_any_chunking(
    messages: list[tuple[bytes, bytes]], cuts: list[int], bytewise: bool
) -> None:
    data = b"".join(head + body for head, body in messages)
    got = requests(data, None if bytewise else cuts)
    assert not got.lost
    assert [head.raw for head in got.heads] == [head for head, _ in messages]
    assert got.bodies == [body for _, body in messages]
    assert got.complete == len(messages)
    assert got.through == data


@settings(max_examples=300, deadline=None)
@given(st.lists(one_response(), max_size=5), st.binary(max_size=60), CUTS, st.booleans())
def test_responses_are_the_same_in_any_chunking(
    messages: list[tuple[str, bytes, bytes]], last: bytes, cuts: list[int], bytewise: bool
) -> None:
    """The last one goes on until the connection is closed."""
    data = b"".join(head + body for _, head, body in messages)
    final = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n"
    # Interim answers are for the request whose final answer follows.
    asked = [method for method, head, _ in messages if head[9:10] != b"1"]
    got = responses(data + final + last, [*asked, "GET"], None if bytewise else cuts)
    assert not got.lost
    assert [head.raw for head in got.heads] == [*(head for _, head, _ in messages), final]
    assert got.bodies == [*(body for _, _, body in messages), last]
    assert got.complete == len(messages)
    assert got.through == data + final + last


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), CUTS)
def test_anything_at_all_is_read_without_harm(data: bytes, cuts: list[int]) -> None:
    for prefix in (b"", b"GET / HTTP/1.1\r\n", CHUNKED, CHUNKED + b"0\r\n"):
        whole = read(RequestScanner(), prefix + data, [])
        cut = read(RequestScanner(), prefix + data, cuts)
        assert [head.raw for head in cut.heads] == [head.raw for head in whole.heads]
        assert cut.complete == whole.complete
        assert whole.through == cut.through == prefix + data


# --- what is read ---------------------------------------------------------------------------------


def one(text: str) -> Request:
    head = requests(text.replace("\n", "\r\n").encode()).heads[0]
    assert isinstance(head, Request)
    return head


def test_a_request_is_read() -> None:
    request = one("GET /a/b?c=/d HTTP/1.0\nHost: h\nA:  1 \nA: 2\nUpgrade: websocket\n\n")
    assert (request.method, request.target, request.minor) == ("GET", "/a/b?c=/d", 0)
    assert request.headers == (("host", "h"), ("a", "1"), ("a", "2"), ("upgrade", "websocket"))
    assert request.path == "/a/b"
    assert request.may_switch
    assert not request.waits


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a?", "/a"),
        ("http://h:1/a/b?c", "/a/b"),
        ("http://h", "/"),
        ("http://h?q=/x", "/"),
        ("*", "*"),
        ("h:443", "h:443"),
        ("/a:b//c://d", "/a:b//c://d"),
    ],
)
def test_the_path_of_any_form_of_target(target: str, path: str) -> None:
    assert one(f"GET {target} HTTP/1.1\n\n").path == path


@pytest.mark.parametrize(
    ("first", "header", "persists"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: x, Close\n", False),
        ("1.1", "Connection: keep-alive\n", True),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\n", True),
    ],
)
def test_which_connections_persist(first: str, header: str, persists: bool) -> None:
    assert one(f"GET / HTTP/{first}\n{header}\n").persists is persists


def test_a_switch_of_protocols_ends_the_reading() -> None:
    head = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"
    got = responses(head + b"\x00\x01HTTP/1.1 200 OK\r\n\r\n", ["GET"])
    assert got.lost and [one.raw for one in got.heads] == [head]
    tunnel = responses(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", ["CONNECT"])
    assert tunnel.lost and len(tunnel.heads) == 1
    refused = responses(b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nabc", ["CONNECT"])
    assert not refused.lost and refused.bodies == [b"abc"]


def test_nobody_has_asked() -> None:
    assert responses(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", []).lost
    assert not responses(b"\r\n", []).lost


# --- what is not HTTP/1.x, or could be read in two ways ------------------------------------------

CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / http/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"G" * 65 + b" / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"EHLO me\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"GET / HTTP/1.1\r\n Folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\ry\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1" + b"0" * 20 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked;a=b\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1001 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * MOST_HEAD,
        b"GET /" + b"x" * MOST_HEAD,
        b"\r\n" * MOST_HEAD,
        CHUNKED + b"x\r\n",
        CHUNKED + b"3\n",
        CHUNKED + b"3 \r\n",
        CHUNKED + b"0x3\r\n",
        CHUNKED + b"+3\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"3;a\rb\r\n",
        CHUNKED + b"3\r\nabcd",
        CHUNKED + b"3\r\nabc\n",
        CHUNKED + b"f" * 16 + b"\r\n",
        CHUNKED + b"3;" + b"x" * 20_000,
        CHUNKED + b"3;" + b"x" * 20_000 + b"\r\nabc\r\n",
        CHUNKED + b"0\r\nA : b\r\n\r\n",
        CHUNKED + b"0\r\n" + b"A: b\r\n" * 1001,
        CHUNKED + b"0\r\nA: " + b"x" * MOST_HEAD,
    ],
)
def test_what_is_not_clear_is_never_read(data: bytes) -> None:
    for cuts in ([], list(range(0, len(data), max(1, len(data) // 200)))):
        got = requests(data, cuts)
        assert got.lost
        assert got.complete == 0
        again = requests(data + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", cuts)
        assert again.complete == 0 and len(again.heads) == len(got.heads)


@pytest.mark.parametrize("data", [b"\x16", b"\x00\x00", b"GET /\x01", b"GET / HTTP/2", b"A B C"])
def test_what_cannot_become_a_request_is_not_waited_for(data: bytes) -> None:
    """A client that says no more until it is answered must be heard."""
    assert requests(data).lost


@pytest.mark.parametrize("size", [MOST_HEAD - 40, MOST_HEAD - 1, MOST_HEAD])
def test_a_head_may_be_long(size: int) -> None:
    start = b"GET / HTTP/1.1\r\nA: "
    data = start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"
    assert requests(data, [100, 30_000]).complete == 1
    assert requests(data + b"x", []).complete == 1
    assert requests(data.replace(b"A: ", b"A: " + b"x" * (MOST_HEAD - size + 1)), []).lost


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>",
    ],
)
def test_answers_that_are_not_clear(data: bytes) -> None:
    assert responses(data, ["GET"]).lost


def test_framing_means_nothing_where_there_is_no_body() -> None:
    both = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for status, method in ((b"204 x", "GET"), (b"304 x", "GET"), (b"200 OK", "HEAD")):
        got = responses(b"HTTP/1.1 " + status + b"\r\n" + both, [method])
        assert not got.lost and got.complete == 1


def test_an_answer_of_unknown_coding_lasts_until_the_connection_closes() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    got = responses(data, ["GET", "GET"])
    assert len(got.heads) == 1 and got.complete == 0 and got.through == data
