"""The queue of orders, as files: an order is moved by renaming it, so it is never lost nor halved.

new/ID            nobody has it yet; IDs sort by age
taken/WORKER/ID   that worker has it
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from common import write


class Spool:
    """The queue in a folder. Any number of processes may use it at once."""

    def __init__(self, data: Path) -> None:
        self._new = data / "spool" / "new"
        self._taken = data / "spool" / "taken"
        self._new.mkdir(parents=True, exist_ok=True)
        self._taken.mkdir(parents=True, exist_ok=True)

    def add(self, order: str, text: str) -> None:
        write(self._new / order, text)

    def take(self, worker: str) -> Path | None:
        """The oldest order, now that worker's; None when there is none."""
        folder = self._taken / worker
        folder.mkdir(exist_ok=True)
        for order in _orders(self._new):
            try:
                return (self._new / order).rename(folder / order)
            except FileNotFoundError:
                continue  # Another worker was faster.
        return None

    def put_back(self, order: Path) -> None:
        order.rename(self._new / order.name)

    def recover(self, worker: str) -> int:
        """Put back what that worker had when it died; how many these were."""
        left = _orders(self._taken / worker)
        for order in left:
            self.put_back(self._taken / worker / order)
        return len(left)

    def waiting(self) -> set[str]:
        """Every order that is in the queue, taken or not."""
        # An order that is put back while we look is seen in one of the two looks at new/.
        seen = set(_orders(self._new))
        for worker in self._taken.iterdir():
            seen.update(_orders(worker))
        return seen | set(_orders(self._new))


def order_id() -> str:
    """Unique, and in the order of time."""
    return f"{time.time_ns():020d}-{os.urandom(3).hex()}"


def _orders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
