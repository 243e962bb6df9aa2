"""The shop's customers: buy at a steady rate, keep their receipts, and say how they fare.

Writes traffic.json into the shop's folder four times a second, about the last two seconds:
`happy` is true while at least 95% of the customers got what they wanted. With --print it prints
the same once a second.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from http.client import HTTPConnection, HTTPException
from typing import Any

from common import Log, Part, arguments, write

CUSTOMERS = 8
"""How many buy at once, at most: the rate falls when all of them have to wait."""
PATIENCE = 2.0
WINDOW = 2.0
MOST_RATE = 200.0
HAPPY = 0.95


class Street:
    """What the customers have met with lately."""

    def __init__(self, part: Part) -> None:
        self._visits: deque[tuple[float, bool, float]] = deque()
        self._guard = threading.Lock()
        self._receipts = Log(part.data / "logs" / f"receipts-{part.name}.log", stamped=False)
        self._part = part
        self._sent = 0

    def visit(self) -> None:
        """Buy one thing."""
        began = time.monotonic()
        connection = HTTPConnection(*self._part.address("web"), timeout=PATIENCE)
        sold = False
        try:
            connection.request("POST", "/buy?item=tea")
            answer = connection.getresponse()
            content = json.loads(answer.read())
            sold = answer.status == 202
            if sold:
                self._receipts.line(content["order"])
        except (OSError, HTTPException, ValueError):
            pass  # Told by `sold`: a customer does not care why.
        finally:
            connection.close()
        ended = time.monotonic()
        with self._guard:
            self._sent += 1
            self._visits.append((ended, sold, ended - began))

    def report(self) -> dict[str, Any]:
        """How they fared in the last two seconds."""
        with self._guard:
            while self._visits and self._visits[0][0] < time.monotonic() - WINDOW:
                self._visits.popleft()
            visits, sent = list(self._visits), self._sent
        took = sorted(seconds for _, _, seconds in visits)
        success = sum(sold for _, sold, _ in visits) / len(visits) if visits else 0.0
        return {
            "happy": success >= HAPPY,
            "success": round(success, 4),
            "p95_ms": round(1000 * took[int(0.95 * (len(took) - 1))], 1) if took else None,
            "visits": len(visits),
            "visits_in_all": sent,
        }


def customer(street: Street, every: float, first: float) -> None:
    """One customer, at fixed moments; those that are missed by waiting are left out."""
    due = time.monotonic() + first
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        street.visit()
        due = max(due + every, time.monotonic())


def main() -> None:
    parser = arguments("traffic", __doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="customers a second")
    parser.add_argument("--print", action="store_true", help="print how they fare")
    words = parser.parse_args()
    if not 0 < words.rate <= MOST_RATE:
        parser.error(f"--rate: expected more than 0 and at most {MOST_RATE:g}")
    part = Part(words)
    street = Street(part)
    every = CUSTOMERS / words.rate
    for number in range(CUSTOMERS):
        first = number * every / CUSTOMERS
        threading.Thread(target=customer, args=(street, every, first), daemon=True).start()
    for tick in range(1, 2**62):
        time.sleep(0.25)
        text = json.dumps(street.report(), indent=2)
        write(part.data / f"{part.name}.json", text + "\n")
        if words.print and tick % 4 == 0:
            print(" ".join(text.split()), flush=True)


if __name__ == "__main__":
    main()
