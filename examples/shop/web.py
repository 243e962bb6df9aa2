"""The shop's front: sells over HTTP, and goes on selling when what it needs is slow or gone.

POST   /buy?item=tea  202 with the order's id; 503 with Retry-After when closed or overrun
GET    /health        200 with "status": ok, degraded (selling at the last known price) or closed
GET    /metrics       numbers, as one JSON object
PUT    /closed        close the shop for a while; DELETE /closed opens it again
PUT    /settings/NAME?value=...  and DELETE: what NAME is until the shop closes, or is no more
       web, cart-1, cart-2, ledger  host:port where that one is asked, such as a proxy in front
       cart-deadline                seconds that a cart's whole answer may take
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from common import DIRECT, HOST, Part, part, write
from spool import Spool, order_id

CART_TIMEOUT = 0.25
"""Seconds of silence after which a cart is given up. An answer that trickles is never silent for so
long: only `cart-deadline` bounds the whole of it, and it is not set when the shop opens."""
AVOID = 1.0
"""Seconds in which a cart that failed is not asked again."""
MOST_WAITING = 200
"""Orders in the queue beyond which customers are sent away."""
_PORT = r"([1-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
SETTINGS = {
    **dict.fromkeys(DIRECT, rf"[\w.-]+:{_PORT}"),
    "cart-deadline": r"\d{1,4}(\.\d{1,3})?",
}
"""What may be set while the shop is open, and what it looks like."""


class Carts:
    """Asks one cart, then the other; when neither answers, the last known price has to do."""

    def __init__(self, web: Part) -> None:
        self._part = web
        self._carts = ["cart-1", "cart-2"]
        self._avoid = dict.fromkeys(self._carts, 0.0)
        self._last: dict[str, float] = {}
        self._guard = threading.Lock()
        self.failures = 0
        self.fell_back = 0.0

    def price(self, item: str) -> tuple[float | None, bool]:
        """The price, None when it was never known; and whether a cart said so just now."""
        with self._guard:
            self._carts.append(self._carts.pop(0))
            now = time.monotonic()
            carts = [cart for cart in self._carts if self._avoid[cart] <= now]
        for cart in carts:
            try:
                price = self._ask(cart, item)
            except (OSError, HTTPException, ValueError):
                with self._guard:
                    self.failures += 1
                    self._avoid[cart] = time.monotonic() + AVOID
                continue
            self._last[item] = price
            return price, True
        self.fell_back = time.monotonic()
        return self._last.get(item), False

    @property
    def degraded(self) -> bool:
        """Whether a price had to be remembered within the last second."""
        return bool(self.fell_back) and time.monotonic() - self.fell_back < 1.0

    def _ask(self, cart: str, item: str) -> float:
        connection = HTTPConnection(*self._part.address(cart), timeout=CART_TIMEOUT)
        try:
            connection.connect()
            with self._within_deadline(connection.sock):
                connection.request("GET", f"/price?item={quote(item)}")
                answer = connection.getresponse()
                body = answer.read()
            if answer.status != 200:
                raise ValueError(f"the cart answered {answer.status}")
            if answer.headers["Checksum"] != f"{zlib.crc32(body):08x}":
                raise ValueError("the answer is not what the cart sent")
            return float(json.loads(body)["price"])
        finally:
            connection.close()

    @contextmanager
    def _within_deadline(self, connection: socket.socket) -> Iterator[None]:
        """Hang up when the deadline, if there is one, has passed: then the answer is incomplete."""
        deadline = self._part.setting("cart-deadline")
        if deadline is None:
            yield
            return
        timer = threading.Timer(float(deadline), _hang_up, [connection])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Shop:
    """What all requests share."""

    def __init__(self, web: Part) -> None:
        self.part = web
        self.spool = Spool(web.data)
        self.carts = Carts(web)
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

    def set(self, name: str, value: str | None) -> tuple[int, dict[str, Any]]:
        """Set something, or (None) have it again as it was when the shop opened."""
        if name not in SETTINGS:
            return 404, {"error": f"there is no setting {name}", "there are": list(SETTINGS)}
        path = self.part.data / "settings" / name
        if value is None:
            path.unlink(missing_ok=True)
        elif re.fullmatch(SETTINGS[name], value):
            write(path, value)
        else:
            return 400, {"error": f"{name} cannot be {value!r}"}
        self.part.log.line(f"{name} is set to {value}" if value else f"{name} is as it was")
        return 200, {name: value}

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
        self._change(on=True)

    def do_DELETE(self) -> None:
        self._change(on=False)

    def _change(self, on: bool) -> None:
        url = urlsplit(self.path)
        if url.path == "/closed":
            self._sign(closed=on)
        elif (name := url.path.removeprefix("/settings/")) != url.path:
            value = parse_qs(url.query).get("value", [""])[0]
            self._answer(*self.shop.set(name, value if on else None))
        else:
            self._answer(404, {"error": "no such page"})

    def _sign(self, closed: bool) -> None:
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
    with WebServer((HOST, web.port + DIRECT["web"]), Front) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
