"""Counts what the shop owes: orders that a customer has a receipt for and that are nowhere, and
orders that are in the ledger twice. Exit code 0 when there are none, 1 when there are."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from common import arguments
from spool import Spool


def main() -> int:
    data = Path(arguments("audit", __doc__).parse_args().data)
    # In the direction that orders flow, so that one that moves meanwhile is seen behind.
    receipts = [line for path in data.glob("logs/receipts-*") for line in _lines(path)]
    waiting = Spool(data).waiting()
    written = Counter(json.loads(line)["id"] for line in _lines(data / "ledger" / "orders.jsonl"))
    lost = [order for order in receipts if order not in waiting and order not in written]
    twice = [order for order, times in written.items() if times > 1]
    print(f"receipts {len(receipts)}, lost {len(lost)}, twice {len(twice)}")
    return 1 if lost or twice else 0


def _lines(path: Path) -> list[str]:
    """The whole lines of a file that may still be written to."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return text.rpartition("\n")[0].splitlines()


if __name__ == "__main__":
    sys.exit(main())
