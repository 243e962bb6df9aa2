"""The HTTP toxics before a real service, as ordinary clients meet them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import peers
import pytest


class _Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, int]]

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self.seen.append((self.path, len(self.rfile.read(size))))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


class Shop:
    """A service, and a link of a running proxy before it."""

    def __init__(self, proxy: peers.Running, service: http.server.HTTPServer) -> None:
        self.proxy = proxy
        self.seen: list[tuple[str, int]] = []
        handler: Any = service.RequestHandlerClass
        handler.seen = self.seen
        upstream = f"127.0.0.1:{service.server_address[1]}"
        made = {"name": "shop", "listen": "127.0.0.1:0", "upstream": upstream}
        answer = peers.ask(proxy, "POST", "/proxies", json.dumps(made))
        assert answer.status == 201, answer
        self.address = json.loads(answer.body)["listen"]

    def add(self, kind: str, **attributes: Any) -> None:
        toxic = {"name": kind, "type": kind, "stream": "upstream", "attributes": attributes}
        answer = peers.ask(self.proxy, "POST", "/proxies/shop/toxics", json.dumps(toxic))
        assert answer.status == 200, answer

    def remove(self, kind: str) -> None:
        assert peers.ask(self.proxy, "DELETE", f"/proxies/shop/toxics/{kind}").status == 204

    def received(self) -> int:
        """Bytes that clients have sent."""
        told = peers.ask(self.proxy, "GET", "/metrics").body.decode()
        name = 'toxiproxy_proxy_received_bytes_total{direction="upstream"'
        return sum(int(line.split()[-1]) for line in told.splitlines() if line.startswith(name))

    @contextlib.contextmanager
    def client(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        with contextlib.closing(connection):
            yield connection


@pytest.fixture
def shop(ours: peers.Running) -> Iterator[Shop]:
    handler = type("Service", (_Service,), {})
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    service.daemon_threads = True
    service.block_on_close = False
    thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Shop(ours, service)
    service.shutdown()
    thread.join(5)
    service.server_close()


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: Any = None, **more: Any
) -> tuple[int, bytes]:
    client.request(method, path, body, **more)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_one_kept_connection_sees_errors_and_answers(shop: Shop) -> None:
    with shop.client() as client:
        assert ask(client, "GET", "/cart") == (200, b"ok")
        kept: Any = client.sock
        shop.add("http_error", status=429, body="slow down", path="/cart.*")
        shop.seen.clear()
        assert ask(client, "GET", "/cart?x=1") == (429, b"slow down")
        assert ask(client, "HEAD", "/cart") == (429, b"")
        assert ask(client, "POST", "/cart", b"x" * 100_000) == (429, b"slow down")
        pieces = iter([b"x" * 70_000] * 20)
        assert ask(client, "PUT", "/cart/1", pieces, encode_chunked=True) == (429, b"slow down")
        assert ask(client, "POST", "/order", b"y" * 1000) == (200, b"ok")
        shop.remove("http_error")
        assert ask(client, "GET", "/cart") == (200, b"ok")
        assert client.sock is kept, "it was one connection all the time"
    assert shop.seen == [("/order", 1000), ("/cart", 0)]


def test_removing_in_the_middle_of_an_upload(shop: Shop) -> None:
    shop.add("http_error", path="/cart")
    with shop.client() as client:
        client.putrequest("POST", "/cart")
        client.putheader("Content-Length", "200000")
        client.endheaders(b"x" * 100_000)
        deadline = time.monotonic() + 10
        while shop.received() < 100_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        shop.remove("http_error")
        client.send(b"x" * 100_000)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (503, b"")
        assert ask(client, "GET", "/cart") == (200, b"ok")
    assert shop.seen == [("/cart", 0)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), "503 200"),
        (("--http1.0",), "503 200"),
        (("--http2",), "503 200"),
        (("-I",), "503 200"),
        (("-d", "a=b"), "503 200"),
        (("-H", "Expect: 100-continue", "-d", "a=b"), "503 200"),
        (("-H", "Transfer-Encoding: chunked", "-d", "a=b"), "503 200"),
        (("-H", "Connection: close"), "503 200"),
    ],
)
def test_curl_gets_the_error_and_then_the_answer(
    shop: Shop, options: tuple[str, ...], status: str
) -> None:
    if "Transfer-Encoding: chunked" in options:
        shop.add("http_error", path="/(cart|order)", method="POST", share=1)
        status = "503 503"  # The service of this test reads no chunks.
    else:
        shop.add("http_error", path="/cart")
    urls = [f"http://{shop.address}/cart", f"http://{shop.address}/order"]
    command = ["curl", "-s", "-S", "-m", "20", "-o", "/dev/null", "-o", "/dev/null"]
    command += ["-w", "%{http_code} ", *options, *urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (status, "")
    assert {path for path, _ in shop.seen} <= {"/order"}


def test_the_interface_answers_while_many_small_requests_and_chunks_come(shop: Shop) -> None:
    """Scanning has its turn, as all others have."""
    shop.add("http_error", path="/cart")
    host, port = shop.address.rsplit(":", 1)
    stop = threading.Event()

    def flood(data: bytes) -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as one:
            one.sendall(b"POST /cart HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not stop.is_set():
                one.sendall(data)

    threads = [threading.Thread(target=flood, args=(b"1\r\nx\r\n" * 10_000,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        for _ in range(20):
            assert peers.ask(shop.proxy, "GET", "/proxies").status == 200
        assert time.monotonic() - began < 4, "of a share of 100 ms each, and a busy machine"
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    with shop.client() as client:
        assert ask(client, "GET", "/cart")[0] == 503
