"""One side of the market's web: prices from the cache, orders into its queue. Where the cache does
not answer, the database has to do for both.

GET  /health          200 and this side's colour; it asks nobody
GET  /item/tea        the price, and where it is `from`: cache, database, or stale
POST /order?item=tea  202 and the order's id, and who keeps it; times=100 orders so many at once
GET  /written?ids=A,B which of these orders are in the database
GET  /sales           how many orders there are, and how many without a price
503 whenever nobody who is needed answers.
"""

from __future__ import annotations

import json
import os
import uuid
from time import time

import orders
import pg
import resp
from serving import Answer, serve

SIDE = os.environ.get("SIDE", "blue")
CACHE_PATIENCE = 0.25
DATABASE_PATIENCE = 0.6
"""Together less than the front's patience: it is better to say no than to be given up."""
FRESH = 2.0
"""Seconds in which a price is told without asking the database again."""
KEPT = 60
"""Seconds in which a price may still be told when the database does not answer."""
FAILURES = (OSError, pg.Refused, resp.Refused)


def answers(method: str, path: str, words: dict[str, str]) -> Answer:
    _, kind, *rest = path.split("/")
    if kind == "health":
        return 200, {"side": SIDE}
    try:
        if kind == "item" and rest:
            return item(rest[0])
        if kind == "order" and method == "POST":
            return order(words.get("item", "tea"), int(words.get("times", 1)))
        if kind == "written":
            ids = words.get("ids", "").split(",")
            return 200, {"written": orders.written(ids, DATABASE_PATIENCE)}
        if kind == "sales":
            return sales()
    except FAILURES as error:
        return 503, {"error": f"not now: {error}", "side": SIDE}
    return 404, {"error": "no such thing"}


def item(name: str) -> Answer:
    """From the cache while fresh, else from the database; an old price if that does not answer."""
    found = None
    try:
        found = resp.ask("cache", CACHE_PATIENCE, "GET", f"price:{name}")
    except FAILURES:
        cached = False
    else:
        cached = True
    old = json.loads(found) if isinstance(found, str) else None
    if old and time() - old["at"] < FRESH:
        return 200, {"item": name, "price": old["price"], "from": "cache", "side": SIDE}
    try:
        price = orders.price(name, DATABASE_PATIENCE)
    except FAILURES:
        if old is None:
            raise
        return 200, {"item": name, "price": old["price"], "from": "stale", "side": SIDE}
    if price is None:
        return 404, {"error": "no such item"}
    if cached:
        _remember(name, price)
    return 200, {"item": name, "price": price, "from": "database", "side": SIDE}


def _remember(name: str, price: str) -> None:
    try:
        value = json.dumps({"price": price, "at": time()})
        resp.ask("cache", CACHE_PATIENCE, "SET", f"price:{name}", value, "EX", KEPT)
    except FAILURES:
        pass  # The price is known all the same.


def order(name: str, times: int) -> Answer:
    """Into the queue; straight into the database when the queue does not answer.

    A queue that was asked and did not answer may have it too: an id is written only once.
    """
    made = [orders.Order(uuid.uuid4().hex, name, SIDE) for _ in range(min(times, 2000))]
    try:
        resp.ask("cache", CACHE_PATIENCE, "LPUSH", orders.WAITING, *map(orders.to_text, made))
    except FAILURES:
        orders.write(made, DATABASE_PATIENCE)
        by = "database"
    else:
        by = "queue"
    return 202, {"id": made[-1].id, "by": by, "side": SIDE}


def sales() -> Answer:
    count, unpriced = orders.sales(DATABASE_PATIENCE)
    return 200, {"orders": count, "unpriced": unpriced}


if __name__ == "__main__":
    serve(answers)
