"""The shop's front: sells over HTTP, and goes on selling when what it needs is slow or gone.

POST   /buy?item=tea  202 with the order's id; 503 with Retry-After when closed or overrun
GET    /health        200 with "status": ok, degraded (selling at the last known price) or closed
GET    /metrics       numbers, as one JSON object
PUT    /closed        close the shop for a while; DELETE /closed opens it again
"""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from common import HOST, Part, part
from spool import Spool, order_id

CART_TIMEOUT = 0.25
AVOID = 1.0
"""Seconds in which a cart that failed is not asked again."""
MOST_WAITING = 200
"""Orders in the queue beyond which customers are sent away."""


class Carts:
    """Asks one cart, then the other; when neither answers, the last known price has to do."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._ports = list(ports)
        self._avoid = dict.fromkeys(ports, 0.0)
        self._last: dict[str, float] = {}
        self._guard = threading.Lock()
        self.failures = 0
        self.fell_back = 0.0

    def price(self, item: str) -> tuple[float | None, bool]:
        """The price, None when it was never known; and whether a cart said so just now."""
        with self._guard:
            self._ports.append(self._ports.pop(0))
            now = time.monotonic()
            ports = [port for port in self._ports if self._avoid[port] <= now]
        for port in ports:
            try:
                price = self._ask(port, item)
            except (OSError, HTTPException, ValueError):
                with self._guard:
                    self.failures += 1
                    self._avoid[port] = time.monotonic() + AVOID
                continue
            self._last[item] = price
            return price, True
        self.fell_back = time.monotonic()
        return self._last.get(item), False

    @property
    def degraded(self) -> bool:
        """Whether a price had to be remembered within the last second."""
        return bool(self.fell_back) and time.monotonic() - self.fell_back < 1.0

    def _ask(self, port: int, item: str) -> float:
        connection = HTTPConnection(HOST, port, timeout=CART_TIMEOUT)
        try:
            connection.request("GET", f"/price?item={quote(item)}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"the cart answered {answer.status}")
            return float(json.loads(answer.read())["price"])
        finally:
            connection.close()


class Shop:
    """What all requests share."""

    def __init__(self, web: Part) -> None:
        self.part = web
        self.spool = Spool(web.data)
        self.carts = Carts(web.cart_ports)
        self.closed_sign = web.data / "closed"
        self.counts = {"sold": 0, "degraded": 0, "refused": 0}
        self._guard = threading.Lock()

    def count(self, what: str) -> None:
        with self._guard:
            self.counts[what] += 1

    def status(self) -> str:
        if self.closed_sign.exists():
            return "closed"
        return "degraded" if self.carts.degraded else "ok"

    def buy(self, item: str) -> tuple[int, dict[str, Any]]:
        if self.closed_sign.exists():
            return self._refuse("the shop is closed for a moment")
        if len(self.spool.waiting()) >= MOST_WAITING:
            return self._refuse("too many orders are waiting")
        price, fresh = self.carts.price(item)
        if price is None:
            return self._refuse("nobody knows the price")
        order = order_id()
        try:
            self.spool.add(order, json.dumps({"item": item, "price": price}))
        except OSError as error:
            return self._refuse(f"the order cannot be kept: {error.strerror}")
        self.count("sold" if fresh else "degraded")
        return 202, {"order": order, "price": price, "degraded": not fresh}

    def metrics(self) -> dict[str, Any]:
        return {
            "queue": len(self.spool.waiting()),
            "cart_failures": self.carts.failures,
            "status": self.status(),
            **self.counts,
        }

    def _refuse(self, why: str) -> tuple[int, dict[str, Any]]:
        self.count("refused")
        return 503, {"error": why}


class Front(BaseHTTPRequestHandler):
    """Speaks HTTP for the shop."""

    shop: Shop
    timeout = 5

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/health":
            self._answer(200, {"status": self.shop.status(), "shop": self.shop.part.shop})
        elif path == "/metrics":
            self._answer(200, self.shop.metrics())
        else:
            self._answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path != "/buy":
            self._answer(404, {"error": "no such page"})
            return
        self._answer(*self.shop.buy(parse_qs(url.query).get("item", ["tea"])[0]))

    def do_PUT(self) -> None:
        self._sign(closed=True)

    def do_DELETE(self) -> None:
        self._sign(closed=False)

    def _sign(self, closed: bool) -> None:
        if urlsplit(self.path).path != "/closed":
            self._answer(404, {"error": "no such page"})
            return
        if closed:
            self.shop.closed_sign.touch()
        else:
            self.shop.closed_sign.unlink(missing_ok=True)
        self.shop.part.log.line("closed" if closed else "open")
        self._answer(200, {"closed": closed})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: there are too many of them."""


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Customers who hang up are everyday."""


def main() -> None:
    web = part("web", __doc__)
    Front.shop = Shop(web)
    with WebServer((HOST, web.web_port), Front) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
