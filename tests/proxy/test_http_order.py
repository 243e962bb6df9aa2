"""Whatever requests come, cut in whatever way, and whenever the toxics go: each request reaches the
upstream whole or not at all, and each gets exactly one answer, in order."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inline import Inline, inline

ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
LURE = b"GET /good/lure HTTP/1.1\r\n\r\n"
"""A body that looks like a request, wherever it is cut."""

TOXICS: dict[str, dict[str, Any]] = {
    "http_error": {"body": "busy", "path": "/bad/.*"},
    "http_delay": {"delay": 2, "jitter": 2, "path": "/.*/[02468]"},
    "latency": {"latency": 1},
    "slicer": {"average_size": 7},
}


def request(number: int, kind: str, form: str, size: int) -> bytes:
    line = f"/{kind}/{number} HTTP/1.1\r\nHost: h\r\n".encode()
    body = (LURE * (size // len(LURE) + 1))[:size]
    if form == "length":
        return b"POST " + line + b"Content-Length: %d\r\n\r\n" % size + body
    if form == "chunked":
        parts = [body[at : at + 40] for at in range(0, size, 40)]
        made = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return b"POST " + line + b"Transfer-Encoding: chunked\r\n\r\n" + made + b"0\r\n\r\n"
    return (b"HEAD " if form == "head" else b"GET ") + line + b"\r\n"


def answer(number: int, form: str) -> bytes:
    """The upstream's, of several forms; each names its request."""
    name = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\n" % number
    if form == "head":
        return name + b"Content-Length: 500\r\n\r\n"
    match number % 4:
        case 0:
            return name + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x\r\nHTTP/\r\n0\r\n\r\n"
        case 1:
            return name.replace(b"200 OK", b"204 None") + b"\r\n"
        case 2:
            return b"HTTP/1.1 100 Continue\r\n\r\n" + name + b"Content-Length: 0\r\n\r\n"
    return name + b"Content-Length: 700\r\n\r\n" + ERROR * 10 + bytes(700 - 10 * len(ERROR))


class Play:
    """One connection: what the client sends, and a service that answers all that it gets."""

    def __init__(self, made: Inline, plan: list[tuple[str, str, int]]) -> None:
        self.made = made
        self.client, self.service = made.connect()
        self.forms = [form for _, form, _ in plan]
        self.kinds = [kind for kind, _, _ in plan]
        self.raw = [request(number, *one) for number, one in enumerate(plan)]
        self.heard = bytearray()
        self.reached: list[int] = []
        self.told = bytearray()
        self.got = bytearray()

    def serve(self, most: int) -> None:
        """The service reads all, and says so many bytes of what it has to say."""
        with contextlib.suppress(BlockingIOError):
            while data := self.service.recv(1 << 16):
                self.heard += data
        found = True
        while found:
            found = False
            for number in range(self.reached[-1] + 1 if self.reached else 0, len(self.raw)):
                if self.heard.startswith(self.raw[number]):
                    del self.heard[: len(self.raw[number])]
                    self.reached.append(number)
                    self.told += answer(number, self.forms[number])
                    found = True
                    break
        if self.told and most:
            sent = self.service.send(self.told[:most])
            del self.told[:sent]

    def listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self.client.recv(1 << 16):
                self.got += data

    def expected(self, upto: int) -> bytes:
        error = ERROR.replace(b"busy", b"")
        return b"".join(
            answer(number, self.forms[number])
            if number in self.reached
            else (error if self.forms[number] == "head" else ERROR)
            for number in range(upto)
        )


MESSAGES = st.tuples(
    st.sampled_from(["good", "bad", "bad"]),
    st.sampled_from(["none", "head", "length", "chunked"]),
    st.sampled_from([0, 1, 60, 900]),
)
STEPS = st.tuples(
    st.integers(1, 300), st.sampled_from(["", "", "", "remove", "serve"]), st.integers(0, 200)
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(MESSAGES, min_size=1, max_size=8),
    st.lists(STEPS, max_size=25),
    st.permutations(sorted(TOXICS)).flatmap(
        lambda names: st.sampled_from([names[:n] for n in (1, 2, 4)])
    ),
    st.booleans(),
)
@example(  # What a toxic lets go of is answered at once by another one behind it.
    [("bad", "none", 0), ("good", "none", 0), ("good", "none", 0)],
    [(95, "", 0), (3, "remove", 1), (1, "remove", 0)],
    ["http_delay", "latency", "http_error", "slicer"],
    False,
)
def test_one_answer_for_each_request_in_order(
    plan: list[tuple[str, str, int]],
    steps: list[tuple[int, str, int]],
    toxics: list[str],
    later: bool,
) -> None:
    with inline() as made:
        names = [] if later else [made.add(kind, "upstream", **TOXICS[kind]) for kind in toxics]
        play = Play(made, plan)
        if later:  # The connection is there already, and nobody has said anything.
            names = [made.add(kind, "upstream", **TOXICS[kind]) for kind in toxics]
        data = b"".join(play.raw)
        for size, what, number in steps:
            if later and len(data) == len(b"".join(play.raw)):
                size = max(size, 60)  # The first line comes whole.
            made.send(play.client, data[:size])
            data = data[size:]
            if what == "remove" and names:
                made.link.remove(names.pop(number % len(names)))
            elif what == "serve":
                play.serve(number)
            made.turn()
        made.send(play.client, data)

        def done() -> bool:
            play.serve(1 << 16)
            play.listen()
            return not play.told and len(play.got) >= len(play.expected(len(plan)))

        assert made.until(done, 5), (play.reached, bytes(play.got), bytes(play.heard))
        made.turn(0.005)
        play.listen()
        assert play.got == play.expected(len(plan))
        assert play.heard == b"", "a part of a request that went nowhere"
        assert {n for n, kind in enumerate(play.kinds) if kind == "good"} <= set(play.reached)
        if not later and len(names) == len(toxics) and "http_error" in toxics:
            assert all(play.kinds[number] == "good" for number in play.reached)
        for name in names:
            made.link.remove(name)
        made.turn()
        assert made.server.memory.used == 0
        ends = [*(made.link.connections())]
        assert not any(stream.stages for one in ends for stream in (one.up, one.down) if stream)
        play.client.shutdown(socket.SHUT_WR)
        assert made.read(play.service) == b""
