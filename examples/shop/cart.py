"""A backend of the shop: says what an item costs."""

from __future__ import annotations

import errno
import json
import socket
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from common import DIRECT, HOST, Part, arguments

PRICES = {"tea": 3.5, "bread": 4.2, "soap": 2.8}


class Prices(BaseHTTPRequestHandler):
    """GET /price?item=tea and GET /health."""

    timeout = 5

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        item = parse_qs(url.query).get("item", ["tea"])[0]
        if url.path == "/health":
            self._answer(200, {"status": "ok"})
        elif url.path == "/price" and item in PRICES:
            self._answer(200, {"item": item, "price": PRICES[item]})
        else:
            self._answer(404, {"error": "no such thing"})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # TCP's own sum does not outlive a proxy: whoever sells at this price has to be sure of it.
        self.send_header("Checksum", f"{zlib.crc32(body):08x}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: there are too many of them."""


class CartServer(ThreadingHTTPServer):
    """A server that bears to have no descriptors left."""

    daemon_threads = True
    part: Part

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno == errno.EMFILE:
                self.part.log.line("too many open files: a customer has to wait")
                time.sleep(0.1)  # The connection is still there: asking at once would only burn.
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are everyday."""


def main() -> None:
    parser = arguments("cart-1", __doc__)
    words = parser.parse_args()
    cart = Part(words)
    CartServer.part = cart
    with CartServer((HOST, cart.port + DIRECT[cart.name]), Prices) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
