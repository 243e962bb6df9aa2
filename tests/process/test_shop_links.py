"""The shop's links can be led another way while it is open, and what comes back is not believed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from shops import Shop

from chaoskit.clock import until

WRONG = b'{"item": "tea", "price": 9.5}'


@contextlib.contextmanager
def cart(body: bytes, checksum: int, pause: float = 0.0) -> Iterator[str]:
    """A cart that answers everybody so, with a pause before each byte; where it listens."""
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\nChecksum: {checksum:08x}\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                pieces = [b"%c" % byte for byte in head.encode() + body]
                for piece in pieces if pause else [b"".join(pieces)]:
                    time.sleep(pause)
                    connection.sendall(piece)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def bought(shop: Shop, times: int = 10) -> set[tuple[float, bool]]:
    orders = [shop.ask("/buy?item=tea", "POST") for _ in range(times)]
    assert {order["http"] for order in orders} == {202}
    return {(order["price"], order["degraded"]) for order in orders}


def lead(shop: Shop, name: str, value: str) -> None:
    assert shop.ask(f"/settings/{name}?value={value}", "PUT")["http"] == 200


def test_an_answer_that_is_not_what_was_sent_is_not_believed(shop: Shop) -> None:
    with cart(WRONG, zlib.crc32(WRONG) ^ 1) as wrong:
        lead(shop, "cart-1", wrong)
        assert until(lambda: bought(shop) == {(3.5, False)}, 20)
        assert shop.ask("/metrics")["cart_failures"] > 0
    assert shop.ask("/settings/cart-1", "DELETE")["http"] == 200


def test_a_link_leads_where_it_was_set_to_and_back(shop: Shop) -> None:
    with cart(WRONG, zlib.crc32(WRONG)) as dear:
        lead(shop, "cart-1", dear)
        lead(shop, "cart-2", dear)
        assert until(lambda: bought(shop) == {(9.5, False)}, 20)
        for name in ("cart-1", "cart-2"):
            shop.ask(f"/settings/{name}", "DELETE")
        assert until(lambda: bought(shop) == {(3.5, False)}, 20)


def test_only_a_deadline_bounds_an_answer_that_trickles(shop: Shop) -> None:
    with cart(WRONG, zlib.crc32(WRONG), pause=0.02) as slow:
        lead(shop, "cart-1", slow)
        lead(shop, "cart-2", slow)

        def sold_late() -> bool:
            began = time.monotonic()
            whole = bought(shop, 1) == {(9.5, False)}
            # More than its time-out of 250 ms.
            return whole and time.monotonic() - began > 0.02 * 80

        assert until(sold_late, 30)
        lead(shop, "cart-deadline", "0.3")
        # At the last price: in the customers' name, the carts were given up.
        assert until(lambda: shop.ask("/metrics")["cart_failures"] > 1, 10)
        assert all(degraded for _, degraded in bought(shop, 3))


def test_the_workers_ask_where_the_ledger_was_set_to_be(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        lead(shop, "ledger", f"127.0.0.1:{nobody.getsockname()[1]}")
        assert until(lambda: shop.queue() > 5, 10)  # It accepts and never answers.
    shop.ask("/settings/ledger", "DELETE")
    assert until(lambda: shop.queue() <= 2, 15)
    assert until(lambda: "lost 0, twice 0" in shop.audit(), 10)


@pytest.mark.parametrize(
    ("setting", "status", "told"),
    [
        ("worker?value=127.0.0.1:1", 404, "there is no setting worker"),
        ("..%2fclosed?value=1", 404, "there is no setting"),
        ("web?value=8470", 400, "web cannot be '8470'"),
        ("ledger?value=127.0.0.1:65536", 400, "ledger cannot be '127.0.0.1:65536'"),
        ("web", 400, "web cannot be ''"),
        ("cart-deadline?value=soon", 400, "cart-deadline cannot be 'soon'"),
    ],
)
def test_what_cannot_be_set_is_told(shop: Shop, setting: str, status: int, told: str) -> None:
    answer = shop.ask(f"/settings/{setting}", "PUT")
    assert answer["http"] == status
    assert told in answer["error"]


def test_a_shop_opens_without_settings(closed_shop: Shop) -> None:
    closed_shop.start()
    lead(closed_shop, "cart-deadline", "0.5")
    assert closed_shop.stop() == []
    closed_shop.start()
    assert list((closed_shop.data / "settings").iterdir()) == []
