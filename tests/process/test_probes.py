"""The probes against real servers, processes and files that misbehave."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from chaoskit.clock import Cancel, until
from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context
from chaoskit.model.url import Tls
from chaoskit.probes.command import CommandProbe
from chaoskit.probes.file import FileProbe
from chaoskit.probes.http import HttpProbe
from chaoskit.probes.log import LogProbe
from chaoskit.probes.process import ProcessProbe
from chaoskit.probes.tcp import TcpProbe
from chaoskit.procfs import with_environment
from chaoskit.web import CAP


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            time.sleep(0.3)
            self.send_response(302)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b'{"ok": true, "queue": {"length": 7}, "names": ["a", "b"]}'
        self.send_response(200 if self.path == "/" else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def raw(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does one odd thing to whoever connects first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.close()
            thread.join(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_http_reads_status_body_headers_and_json() -> None:
    wants = ("json $.ok", "json $.queue.length", "json $.names[*]", "json $.no",
             "headers content-type", "headers no")  # fmt: skip
    with serving() as port:
        reading = HttpProbe(f"http://127.0.0.1:{port}/", wants=wants).read(Context())
        assert reading["status"] == 200 and '"ok"' in str(reading["body"])
        assert 0 < float(str(reading["latency"])) < 2
        assert reading["json $.ok"] is True and reading["json $.queue.length"] == 7
        assert reading["json $.names[*]"] == ["a", "b"] and reading["json $.no"] == []
        assert reading["headers content-type"] == "application/json"
        assert reading["headers no"] is None
        assert HttpProbe(f"http://127.0.0.1:{port}/x").read(Context())["status"] == 503
        moved = f"http://127.0.0.1:{port}/moved"
        assert HttpProbe(moved).read(Context())["status"] == 302
        followed = HttpProbe(moved, follow=True).read(Context())
        assert followed["status"] == 200
        assert float(str(followed["latency"])) >= 0.3, "the way there is part of it"


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NINE = b"Content-Length: 9\r\n\r\n"


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """The request is read before, so that the end comes as an end and not as a reset."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return serve


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda c: c.sendall(b"SSH-2.0-nonsense\r\n\r\n"), "no HTTP answer"),
        (lambda c: None, None),
        (answering(OK + NINE + b"abc"), "broke off within its body"),
        (answering(CHUNKED + b"3\r\nabc\r\n9\r\nabc"), "broke off within its body"),
        (answering(CHUNKED + b"3\r\nabc\r\n"), "broke off within its body"),
        (answering(CHUNKED + b"003\r\nabc\r\n0"), "broke off within its body"),
        (answering(CHUNKED + b"3\r\nabc\r\n0\r\nChecksum: 1"), "broke off within its body"),
        (answering(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"), "its body makes no sense"),
        (answering(OK + b"Content-Le"), "broke off before its body"),
        (answering(b"HTTP/1.1 200"), "broke off before its body"),
        (answering(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "no HTTP answer"),
        (answering(OK + b"nonsense\r\n" + NINE + b"abc"), "a line of its head is no header"),
        (answering(OK + b"Content-Length: 9, 9\r\n\r\nabc"), "head tells makes no sense"),
        (answering(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"), "head tells makes no sense"),
        (answering(b"HTTP/1.1 103 Early Hints\r\nLink"), "broke off before its body"),
        (answering(OK + b"Content-Length: 3000000\r\n\r\n" + b"x" * 2_000_000), "broke off"),
    ],
)
def test_no_whole_answer_is_no_reading(answer: Callable[[socket.socket], None], told: str) -> None:
    with raw(answer) as port, pytest.raises(ProbeError, match=told):
        HttpProbe(f"http://127.0.0.1:{port}/", timeout=20.0).read(Context())


@pytest.mark.parametrize("answer", [drip, lambda c: time.sleep(1.0)])
def test_an_answer_that_takes_too_long_is_no_reading(
    answer: Callable[[socket.socket], None],
) -> None:
    began = time.monotonic()
    with raw(answer) as port, pytest.raises(ProbeError, match=r"no whole answer within 0\.4s"):
        HttpProbe(f"http://127.0.0.1:{port}/", timeout=0.4).read(Context())
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("answer", "status", "size"),
    [
        (OK + NINE + b"nine char", 200, 9),
        (CHUNKED + b"3\r\nabc\r\n0\r\nChecksum: 1\r\n\r\n", 200, 3),
        (OK + b"\r\nuntil the end", 200, 13),
        (OK + b"Transfer-Encoding: identity\r\n\r\nuntil the end", 200, 13),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, 0),
        (OK + b"Content-Length: %d\r\n\r\n" % (CAP + 1) + b"x" * (CAP + 1), 200, CAP),
        (b"HTTP/1.1 304 Not Modified\r\n" + NINE, 304, 0),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, 0),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + NINE + b"nine char", 200, 9),
    ],
)
def test_an_answer_is_whole_where_it_says_so(answer: bytes, status: int, size: int) -> None:
    with raw(answering(answer)) as port:
        reading = HttpProbe(f"http://127.0.0.1:{port}/", timeout=20.0).read(Context())
    assert reading["status"] == status and len(str(reading["body"])) == size


def test_a_body_that_is_not_kept_takes_its_time() -> None:
    def serve(connection: socket.socket) -> None:
        answering(OK + b"Content-Length: %d\r\n\r\n" % (CAP + 1) + b"x" * CAP)(connection)
        time.sleep(0.3)
        connection.sendall(b"x")

    with raw(serve) as port:
        reading = HttpProbe(f"http://127.0.0.1:{port}/", timeout=20.0).read(Context())
    assert float(str(reading["latency"])) >= 0.3


def test_the_answer_to_head_has_no_body() -> None:
    with raw(answering(OK + NINE)) as port:
        reading = HttpProbe(f"http://127.0.0.1:{port}/", method="HEAD").read(Context())
    assert reading["status"] == 200 and reading["body"] == ""


def test_nobody_there_is_no_reading() -> None:
    with pytest.raises(ProbeError, match="refused"):
        HttpProbe(f"http://127.0.0.1:{free_port()}/").read(Context())
    with serving() as port, pytest.raises(ProbeError, match="no JSON"):
        probe = HttpProbe(f"http://127.0.0.1:{port}/moved", wants=("json $.a",))
        probe.read(Context())


def test_tls_is_checked_unless_told_otherwise(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with serving(context) as port:
        url = f"https://127.0.0.1:{port}/"
        with pytest.raises(ProbeError, match="certificate"):
            HttpProbe(url).read(Context())
        trusted = HttpProbe(url, tls=Tls(ca=str(ca))).read(Context())
        assert trusted["status"] == 200
        assert float(str(trusted["certificate-expires-in"])) > 3600
        assert HttpProbe(url, tls=Tls(verify=False)).read(Context())["status"] == 200


@pytest.mark.parametrize("ended", [True, False])
def test_tls_that_is_cut_is_no_end(ended: bool) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answering(OK + b"\r\nuntil the end")(secure)
            if ended:
                secure.unwrap()

    with raw(answer) as port:
        probe = HttpProbe(f"https://127.0.0.1:{port}/", tls=Tls(verify=False))
        if ended:
            assert probe.read(Context())["body"] == "until the end"
        else:
            with pytest.raises(ProbeError, match="broke off: TLS was not ended"):
                probe.read(Context())


def test_a_file_of_tls_that_is_not_there_is_told(tmp_path: Path) -> None:
    with raw(lambda c: None) as port, pytest.raises(ProbeError, match="a file that tls names"):
        HttpProbe(f"https://127.0.0.1:{port}/", tls=Tls(ca=str(tmp_path / "no"))).read(Context())


def test_tcp_tells_whether_one_can_connect() -> None:
    refused = TcpProbe(f"127.0.0.1:{free_port()}").read(Context())
    assert refused["connected"] is False and "refused" in str(refused["error"])
    with raw(lambda c: c.sendall(b"220 ready\r\n")) as port:
        reading = TcpProbe(f"127.0.0.1:{port}", read_banner=True).read(Context())
        assert reading["connected"] is True and "220" in str(reading["banner"])
    with pytest.raises(ProbeError, match="not known"):
        TcpProbe("no-such-host.invalid:1").read(Context())
    assert TcpProbe("nonsense").problems() and not TcpProbe("[::1]:80").problems()


def test_a_command_is_bounded_with_all_that_it_starts() -> None:
    mark = f"PROBE_TEST={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    probe = CommandProbe("sleep 300 & sleep 300", timeout=0.3, env={name: value})
    with pytest.raises(ProbeError, match=r"did not end within 0\.3s"):
        probe.read(Context())
    assert until(lambda: not with_environment(mark.encode()), 5)


def test_a_command_gives_its_exit_code_and_output() -> None:
    context = Context(environment={"WORD": "there"})
    reading = CommandProbe("echo hello $WORD; echo no >&2; exit 3").read(context)
    assert (reading["exit"], reading["output"], reading["errors"]) == (3, "hello there", "no")
    assert CommandProbe(("printf", "%s", "a b")).read(context)["output"] == "a b"
    assert CommandProbe("no-such-command-at-all").read(context)["exit"] == 127
    with pytest.raises(ProbeError, match="cannot be started"):
        CommandProbe(("/no/such/command",)).read(context)
    began = time.monotonic()
    # A daemon that keeps the output open holds nobody up.
    assert CommandProbe("sleep 6 & echo done", timeout=15.0).read(context)["output"] == "done"
    assert time.monotonic() - began < 5


def test_a_command_that_prints_without_end_fills_no_memory() -> None:
    def kept() -> int:
        """Bytes of what lies in files in memory that this process has open."""
        found = 0
        for at in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found += at.stat().st_blocks * 512 if "memfd:" in str(at.readlink()) else 0
        return found

    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.005):
            most = max(most, kept())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with pytest.raises(ProbeError):
            CommandProbe("yes", timeout=1.5).read(Context())
    finally:
        over.set()
        thread.join()
    assert 0 < most < 700 * 2**20, "unbounded it would be several GiB"
    done = CommandProbe("seq 1 200000", timeout=20.0).read(Context())
    assert done["exit"] == 0 and str(done["output"]).startswith("1\n2\n")


def test_a_command_gives_way_to_an_abort() -> None:
    cancel = Cancel()
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(ProbeError):
        CommandProbe("sleep 30", timeout=30.0).read(Context(cancel=cancel))
    assert time.monotonic() - began < 10


def test_processes_are_counted_and_measured() -> None:
    name = f"probe-{os.getpid()}-{time.monotonic_ns()}"
    busy = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done", name]) for _ in range(2)]
    context = Context()
    try:
        probe = ProcessProbe(cmdline=name)
        first = probe.read(context)
        time.sleep(0.5)
        second = probe.read(context)
        assert first["count"] == second["count"] == 2 and second["threads"] == 2
        assert float(str(second["cpu"])) > 0.1 and int(str(second["rss"])) > 10_000
        assert 0 < float(str(second["age"])) < 60
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert probe.read(context) == {"count": 0}, "what is not there uses nothing, not 0 of it"


def test_what_was_spent_before_is_no_use_of_now() -> None:
    name, other = (f"{word}-{os.getpid()}-{time.monotonic_ns()}" for word in ("probe", "other"))
    spend = "import time; e = time.process_time() + 0.5\nwhile time.process_time() < e: pass\n"
    words = [sys.executable, "-I", "-S", "-c", spend + "print(flush=True); time.sleep(60)", other]
    context, probe = Context(), ProcessProbe(cmdline=name)
    idle = subprocess.Popen(["/bin/sh", "-c", "read line", name], stdin=subprocess.PIPE)
    late = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert late.stdout is not None and late.stdout.readline() == b"\n"
        assert until(lambda: probe.read(context)["count"] == 1, 20)
        time.sleep(0.1)
        # It matches only now, and has been there for longer than the last reading.
        wider = dataclasses.replace(probe, cmdline=f"{name}|{other}")
        assert float(str(wider.read(context)["cpu"])) < 1.0
    finally:
        for process in (idle, late):
            process.kill()
            process.communicate()
    # Whoever comes next is not measured over the time in which nobody was there.
    assert probe.read(context) == {"count": 0} and "cpu" not in context.memory


def test_a_log_is_followed_over_rotation_and_truncation(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("ERROR old\n")
    probe, context = LogProbe(str(log), "ERROR"), Context()

    def count() -> object:
        return probe.read(context)["count"]

    try:
        assert count() == 0
        with log.open("a") as file:
            file.write("fine\nERROR one\nERROR tw")
        assert count() == 1
        with log.open("a") as file:
            file.write("o\nERROR last before the rotation")
        log.rename(tmp_path / "app.log.1")
        log.write_text("ERROR in the new one\n")
        assert count() == 3
        log.write_text("")
        assert count() == 0
        log.write_bytes(b"\xff\xfe ERROR not text\n")
        reading = probe.read(context)
        assert reading["count"] == 1 and reading["total"] == 5
        assert "not text" in str(reading["line"])
    finally:
        context.close()


def test_more_than_one_reading_takes_is_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chaoskit.probes import log as module

    monkeypatch.setattr(module, "BURST", 1000)
    path = tmp_path / "log"
    path.touch()
    probe, context = LogProbe(str(path), "ERROR"), Context()
    try:
        assert probe.read(context)["count"] == 0
        path.write_text("fine\n" * 300 + "ERROR\n")
        with pytest.raises(ProbeError, match="more new lines"):
            probe.read(context)
        assert probe.read(context)["count"] == 1
    finally:
        context.close()


def test_a_log_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    """A service that restarts with `> app.log` may have written more by now than it had before."""
    log = tmp_path / "app.log"
    log.write_text("it begins\n")
    probe, context = LogProbe(str(log), "ERROR"), Context()
    try:
        assert probe.read(context)["count"] == 0
        log.write_text("ERROR one\nERROR two\n")
        assert probe.read(context)["count"] == 2
        log.write_text("ERROR one\nERROR two\nERROR three\n")
        assert probe.read(context)["count"] == 1, "which looks as if it had grown"
        with log.open("r+b") as file:  # Who does not append leaves a hole when it is truncated.
            file.seek(0, os.SEEK_END)
            os.truncate(log, 0)
            file.write(b"ERROR after the hole\nfine\n")
        assert probe.read(context)["count"] == 1
    finally:
        context.close()


def test_the_first_look_at_a_log_is_a_look(tmp_path: Path) -> None:
    """Of no time nothing can be said: of what is written all the while some is seen."""
    log, done = tmp_path / "app.log", threading.Event()

    def write() -> None:
        with log.open("a") as file:
            while not done.wait(0.02):
                file.write("ERROR\n")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    context = Context()
    try:
        assert until(log.exists, 20)
        assert int(str(LogProbe(str(log), "ERROR").read(context)["count"])) > 0
    finally:
        done.set()
        writer.join()
        context.close()


def test_a_log_is_text(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("")
    probe, context = LogProbe(str(log), r"(?i)\u00fcberlastet|^\wé?$"), Context()
    assert probe.read(context) == {"count": 0, "total": 0}
    with log.open("a") as file:
        file.write("FEHLER: ÜBERLASTET\nñé\n")
    assert probe.read(context) == {"count": 2, "total": 2, "line": "ñé"}
    context.close()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_log_that_is_no_file_is_told_at_once(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "pipe")
    with pytest.raises(ProbeError, match="is no file"):
        LogProbe(str(tmp_path / "pipe"), "x").read(Context())


def test_an_address_that_this_machine_cannot_use_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, resolve = socket.socket, socket.getaddrinfo

    def without(family: int = -1, *words: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return made(family, *words, **more)

    def both(host: str, port: int, **more: Any) -> Any:
        if host != "svc.test":
            return resolve(host, port, **more)
        if more.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "it is a name")
        return resolve("::1", port, **more) + resolve("127.0.0.1", port, **more)

    with serving() as port:
        monkeypatch.setattr(socket, "socket", without)
        monkeypatch.setattr(socket, "getaddrinfo", both)
        assert TcpProbe(f"svc.test:{port}").read(Context())["connected"] is True


def test_a_name_that_nobody_resolves_takes_no_longer_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's resolver asks on for many seconds, and knows of no time-out of ours."""
    resolve, let_go = socket.getaddrinfo, threading.Event()

    def silent(host: str, *words: Any, **more: Any) -> Any:
        if host == "svc.test" and not more.get("flags"):
            let_go.wait(60)
        return resolve(host, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    began = time.monotonic()
    try:
        for probe in (TcpProbe("svc.test:80", timeout=0.2),
                      HttpProbe("http://svc.test/", timeout=0.2)):  # fmt: skip
            # It may well listen: nothing is known of it.
            with pytest.raises(ProbeError, match="not known: it is not looked up in time"):
                probe.read(Context())
        assert time.monotonic() - began < 30
    finally:
        let_go.set()


def test_a_log_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="no log"):
        LogProbe(str(tmp_path / "no"), "x").read(Context())
    context = Context()
    probe = LogProbe(str(tmp_path / "later"), "x", missing=True)
    assert probe.read(context)["count"] == 0
    (tmp_path / "later").write_text("x\n")
    assert probe.read(context)["count"] == 1
    context.close()


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "file"
    probe = FileProbe(str(path))
    assert probe.read(Context()) == {"exists": False}
    path.write_text("one\ntwo")
    reading = probe.read(Context())
    assert (reading["exists"], reading["size"], reading["lines"]) == (True, 7, 2)
    assert reading["text"] == "one\ntwo" and float(str(reading["age"])) < 60
    path.write_text("line\n" * 300_000 + "last")
    lines = FileProbe(str(path), wants=("lines",))
    assert lines.read(Context())["lines"] == 300_001
    hasty = dataclasses.replace(lines, timeout=0.0)
    with pytest.raises(ProbeError, match="too long to count its lines"):
        hasty.read(Context())
    # Whoever asks only whether it is there is not kept waiting, nor told half of its lines.
    some = dataclasses.replace(hasty, wants=("exists",)).read(Context())
    assert some["exists"] and "lines" not in some
    os.mkfifo(tmp_path / "pipe")
    assert FileProbe(str(tmp_path / "pipe")).read(Context())["exists"] is True
