"""The control interface under visitors who are slow, broken or hostile: the next is answered."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from bytewise import HOST, VERSION, assert_well, connected, inside, sent, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoskit.proxy import visitor
from chaoskit.proxy.api import Api, Request
from chaoskit.proxy.control import MOST_VISITORS, Control
from chaoskit.proxy.origin import stranger
from chaoskit.proxy.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Running]:
    """One server that must outlive everything here, and never show a traceback."""
    errors = tmp_path_factory.mktemp("ours") / "errors"
    with peers.ours(errors=errors) as running:
        yield running
        assert_well(running)
    assert errors.read_text() == ""


# --- the protocol --------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request(server: peers.Running) -> None:
    with connected(server) as side:
        for _ in range(3):
            side.sendall(VERSION)
            assert until(side, b"}\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(server: peers.Running) -> None:
    answer = sent(server, (b"GET /nobody HTTP/1.1\r\n" + HOST + b"\r\n" + VERSION) * 300)
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"404", b"200"] * 300


def test_requests_that_come_byte_by_byte(server: peers.Running) -> None:
    body = b'{"name":"bytes","upstream":"127.0.0.1:9","enabled":false}'
    asked = b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connected(server) as side:
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(asked)):
            side.sendall(asked[at : at + 1])
        assert b'"name":"bytes"' in until(side, b'"toxics":[]}')
    assert peers.ask(server, "DELETE", "/proxies/bytes").status == 204


def test_a_chunked_body(server: peers.Running) -> None:
    asked = b"POST /proxies HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = sent(server, asked + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
    assert b'{"error":"missing required field: name","status":400}\n' in answer


def test_expect_100_continue(server: peers.Running) -> None:
    with connected(server) as side:
        head = b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n"
        side.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert until(side, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        side.sendall(b"{}")
        assert b"missing required field" in until(side, b"}\n")


def test_head_has_no_body(server: peers.Running) -> None:
    answer = sent(server, b"HEAD /metrics HTTP/1.1\r\n" + HOST + b"\r\n" + VERSION)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n"), "the next answer follows at once"


def test_http_1_0_and_connection_close_end_the_connection(server: peers.Running) -> None:
    for asked in (b"GET /version HTTP/1.0\r\n\r\n", VERSION[:-2] + b"Connection: close\r\n\r\n"):
        answer = sent(server, asked, shut=False)
        assert b"200 OK" in answer
        assert b"\r\nConnection: close\r\n" in answer


MALFORMED = {
    "garbage": (b"garbage\r\n\r\n", 400),
    "no host": (b"GET /version HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /version HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "a bad header": (b"GET /version HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n", 400),
    "a bad length": (b"POST /reset HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", 400),
    "a length of digits without end": (
        b"POST /reset HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 9000 + b"\r\n\r\n",
        400,
    ),
    "two lengths": (
        b"POST /reset HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "a bad chunk": (
        b"POST /reset HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "an unknown encoding": (
        b"POST /reset HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
        501,
    ),
    "a body cut short": (b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{", 400),
    "a bad escape": (b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no path": (b"GET version HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tunnel": (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "giant headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 2_000_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: x\r\n" * 200 + b"\r\n", 431),
    "a body declared too large": (
        b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n\r\n",
        413,
    ),
    "a body that is too large": (
        b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n\r\n" + b" " * 1048577,
        413,
    ),
    "chunks that are too large": (
        b"POST /proxies HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"80000\r\n%s\r\n" % (b" " * 0x80000) * 3,
        413,
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_request(case: str, server: peers.Running) -> None:
    data, status = MALFORMED[case]
    answer = sent(server, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    assert_well(server)


def test_the_last_word_can_be_read(server: peers.Running) -> None:
    """Whoever is still sending when it is refused is not cut off with a reset."""
    many = 4 * 1024 * 1024
    with connected(server) as side:
        side.sendall(b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % many)
        side.sendall(b" " * many)
        assert until(side, b"}\n").startswith(b"HTTP/1.1 413 ")
        assert side.recv(1) == b""


def test_a_path_that_is_no_text(server: peers.Running) -> None:
    answer = sent(server, b"GET /proxies/%ff HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"proxy not found" in answer
    answer = sent(server, b"GET //%ff/%0d%0aX:%20y HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"\r\nLocation: /%FF/%0D%0AX:%20y\r\n" in answer


def test_json_that_is_deep_or_odd(server: peers.Running) -> None:
    for body in ("[" * 100_000, '{"a":' * 5000, "1" * 100_000, '{"a":' + "[1,2" * 20_000 + "]"):
        assert peers.ask(server, "POST", "/proxies", body).status == 400
    assert_well(server)


REQUESTS = st.sampled_from(
    [
        VERSION,
        b"POST /proxies HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}",
        b"POST /populate HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
        b"PATCH /proxies/a HTTP/1.0\r\n\r\n",
    ]
)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Requests with bytes put in, taken out, or cut off."""
    data = b"".join(draw(st.lists(REQUESTS, min_size=1, max_size=3)))
    at = draw(st.integers(0, len(data)))
    gone = draw(st.integers(0, 8))
    data = data[:at] + draw(st.binary(max_size=8)) + data[at + gone :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.binary(max_size=300) | broken())
def test_no_bytes_end_the_server(server: peers.Running, data: bytes) -> None:
    answer = sent(server, data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert_well(server)


# --- slow and many -------------------------------------------------------------------------------


def test_visitors_that_do_not_ask_make_room(server: peers.Running) -> None:
    """The one who has waited longest leaves; sending a byte now and then is no asking."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(connected(server)) for _ in range(MOST_VISITORS)]
        for side in sides:
            side.sendall(b"GET /version HTT")
        assert_well(server)
        more = [stack.enter_context(connected(server)) for _ in range(50)]
        assert_well(server)
        for side in sides[:50]:
            side.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert side.recv(1) == b""
        for side in more:
            side.sendall(VERSION)
            assert b"200 OK" in until(side, b"}\n")


def test_a_visitor_that_does_not_read_holds_up_nobody(server: peers.Running) -> None:
    with connected(server) as side:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        side.settimeout(0.2)
        asked = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
        with pytest.raises(TimeoutError):  # At last it is not read from any more.
            while True:
                side.sendall(asked * 100)
        assert_well(server)


@pytest.mark.parametrize("most", [48, 49])  # A connection takes two: once, none is left over.
def test_no_descriptor_left_for_the_traffic(most: int) -> None:
    """The traffic may use up all descriptors, and the interface still answers."""
    with (
        peers.ours() as running,
        socket.create_server(("127.0.0.1", 0)) as upstream,
        contextlib.ExitStack() as stack,
    ):
        body = {"name": "r", "upstream": f"127.0.0.1:{upstream.getsockname()[1]}"}
        made = json.loads(peers.ask(running, "POST", "/proxies", json.dumps(body)).body)
        port = int(made["listen"].rpartition(":")[2])
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (most, most))
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
        for _ in range(5):
            assert_well(running)
        peers.ask(running, "DELETE", "/proxies/r")
        for _ in range(20):
            assert_well(running)


def test_proxies_are_counted() -> None:
    with peers.ours() as running:
        many = [{"name": str(n), "upstream": "127.0.0.1:9", "enabled": False} for n in range(1000)]
        assert peers.ask(running, "POST", "/populate", json.dumps(many)).status == 201
        one = json.dumps({"name": "more", "upstream": "127.0.0.1:9", "enabled": False})
        assert peers.ask(running, "POST", "/proxies", one).status == 409
        assert peers.ask(running, "POST", "/populate", f"[{one}]").status == 409
        assert peers.ask(running, "POST", "/populate", json.dumps([*many, {}])).status == 409
        for number in range(101):
            toxic = json.dumps({"type": "noop", "name": str(number)})
            status = peers.ask(running, "POST", "/proxies/1/toxics", toxic).status
            assert status == (200 if number < 100 else 409)


def test_names_are_not_endless(server: peers.Running) -> None:
    body = json.dumps({"name": "n" * 1001, "upstream": "127.0.0.1:9", "enabled": False})
    assert peers.ask(server, "POST", "/proxies", body).status == 400


def test_a_slow_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps nothing open: a request has its time as a whole."""
    monkeypatch.setattr(visitor, "TO_ASK", 0.5)
    with inside() as (_, port, _do):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 20) as side:
            side.settimeout(0.1)
            while time.monotonic() - began < 20:
                try:
                    side.sendall(b"G")
                    assert side.recv(1) == b""
                    break
                except TimeoutError:
                    continue
                except OSError:
                    break
        assert 0.4 < time.monotonic() - began < 15


def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with inside() as (server, _, do):
        control = Control(server)
        do(lambda: control.listen(f"unix:{path}"))
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as side:
            side.settimeout(20)
            side.connect(str(path))
            side.sendall(VERSION)
            assert b'"chaoskit"' in until(side, b"}\n")
        do(control.close)
        assert not path.exists()


# --- who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "fine"),
    [
        ("localhost", None, True),
        ("LOCALHOST:8474", None, True),
        ("127.0.0.1:1", None, True),
        ("[::1]:8474", None, True),
        ("10.1.2.3", None, True),
        ("chaos.internal:8474", None, True),
        (None, None, True),
        ("evil.example", None, False),
        ("localhost.evil.example", None, False),
        ("127.0.0.1.evil.example:8474", None, False),
        ("localhost:8474:8474", None, False),
        ("evil@localhost", None, False),
        ("localhost:8474", "http://localhost:8474", True),
        ("localhost", "http://localhost:80", True),
        ("localhost:8474", "http://localhost:3000", False),
        ("localhost:8474", "https://localhost:8474", False),
        ("localhost:8474", "http://127.0.0.1:8474", False),
        ("localhost:8474", "null", False),
        ("localhost:8474", "", False),
        ("localhost:8474", "http://[", False),
        (None, "http://", False),
    ],
)
def test_strangers(host: str | None, origin: str | None, fine: bool) -> None:
    assert (stranger(host, origin, "/proxies", "chaos.internal") == "") == fine


def test_what_nobody_expected_is_a_500(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    try:
        api = Api(server)
        server.reset = None  # type: ignore[method-assign, assignment]
        answer = api.answer(Request("POST", "/reset"))
        assert (answer.status, json.loads(answer.body)["status"]) == (500, 500)
        assert b"internal error: TypeError" in answer.body
        assert "Traceback" in capsys.readouterr().err
        assert api.answer(Request("GET", "/proxies")).status == 200
    finally:
        server.close()
