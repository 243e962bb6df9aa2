"""The market's customers: look at a price and order, at a steady rate, keep their receipts, and ask
after each until it is in the database.

GET /customers  how they have fared in the last two seconds, and for how many seconds the oldest
                order that they have a receipt for has not been written
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from http.client import HTTPConnection, HTTPException
from typing import Any

from serving import Answer, serve

RATE = float(os.environ.get("RATE", "5"))
"""Visits a second: each is a look at a price and an order."""
CUSTOMERS = 6
PATIENCE = 2.0
WINDOW = 2.0
HAPPY = 0.95
EVERY = 0.25
"""Seconds between two rounds of asking after orders."""


class Street:
    """What the customers have met with lately, and the receipts they hold."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, bool, float]] = deque(maxlen=1000)
        self._receipts: dict[str, float] = {}
        self._guard = threading.Lock()
        self._orders = 0

    def visit(self) -> None:
        self._ask("GET", "/item/tea", 200)
        content = self._ask("POST", "/order?item=tea", 202)
        if content:
            with self._guard:
                self._receipts[content["id"]] = time.monotonic()
                self._orders += 1

    def _ask(self, method: str, path: str, wanted: int) -> dict[str, Any] | None:
        began = time.monotonic()
        status, content = ask(method, path)
        ended = time.monotonic()
        with self._guard:
            self._asked.append((ended, status == wanted, ended - began))
        return content if status == wanted else None

    def look_after(self) -> None:
        """Ask for the oldest orders; one that is written is forgotten."""
        with self._guard:
            waiting = list(self._receipts)[:100]
        if not waiting:
            return
        _, content = ask("GET", f"/written?ids={','.join(waiting)}")
        with self._guard:
            for order in content.get("written", ()):
                self._receipts.pop(order, None)

    def report(self) -> dict[str, object]:
        now = time.monotonic()
        with self._guard:
            asked = [one for one in self._asked if one[0] > now - WINDOW]
            oldest = now - min(self._receipts.values(), default=now)
            waiting, orders = len(self._receipts), self._orders
        took = sorted(seconds for _, _, seconds in asked)
        success = sum(good for _, good, _ in asked) / len(asked) if asked else 0.0
        return {
            "happy": success >= HAPPY,
            "success": round(success, 4),
            "p95_ms": round(1000 * took[int(0.95 * (len(took) - 1))], 1) if took else None,
            "orders": orders,
            "unwritten": waiting,
            "oldest_unwritten": round(oldest, 2),
        }


def ask(method: str, path: str) -> tuple[int, dict[str, Any]]:
    """0 for no answer: a customer does not care why."""
    connection = HTTPConnection("front", 80, timeout=PATIENCE)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()


def customer(street: Street, every: float, first: float) -> None:
    """One customer, at fixed moments; those that are missed by waiting are left out."""
    due = time.monotonic() + first
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        street.visit()
        due = max(due + every, time.monotonic())


def main() -> None:
    street = Street()
    every = CUSTOMERS / RATE
    for number in range(CUSTOMERS):
        words = (street, every, number * every / CUSTOMERS)
        threading.Thread(target=customer, args=words, daemon=True).start()
    threading.Thread(target=look_after_all, args=(street,), daemon=True).start()

    def answers(method: str, path: str, words: dict[str, str]) -> Answer:
        return 200, street.report()

    serve(answers)


def look_after_all(street: Street) -> None:
    while True:
        time.sleep(EVERY)
        street.look_after()


if __name__ == "__main__":
    main()
