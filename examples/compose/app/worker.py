"""Takes orders from the cache's queue, and writes each into the database, once.

An order that it has taken stays in the list of those taken until it is written. So whoever kills
the worker loses none: it begins with those that were taken and not written.
"""

from __future__ import annotations

import contextlib
import threading
import time

import orders
import pg
import resp
from serving import end_on_signals

PATIENCE = 2.0
REST = 0.2
"""Seconds after a failure in which nobody is asked."""
MOST = 200
"""Orders that are written at once."""
FORGET = 60.0
"""Seconds between two looks for orders of long ago."""


def main() -> None:
    end_on_signals()
    threading.Thread(target=_forget, daemon=True).start()
    told = ""
    while True:
        try:
            with resp.Connection("cache", PATIENCE) as cache:
                _put_back(cache)
                if told:
                    print("all is well again", flush=True)
                told = ""
                while True:
                    _work(cache)
        except (OSError, pg.Refused, resp.Refused) as error:
            if (now := f"{type(error).__name__}: {error}") != told:
                print(f"waits: {now}", flush=True)
            told = now
            time.sleep(REST)


def _put_back(cache: resp.Connection) -> None:
    """What was taken and not written, to where the oldest are."""
    while cache.ask("LMOVE", orders.TAKEN, orders.WAITING, "LEFT", "RIGHT") is not None:
        pass


def _work(cache: resp.Connection) -> None:
    """Wait a second for an order, and write it with those that have come with it."""
    first = cache.ask("BLMOVE", orders.WAITING, orders.TAKEN, "RIGHT", "LEFT", 1)
    more = cache.ask_all([_TAKE] * MOST) if first else []
    texts = [text for text in (first, *more) if isinstance(text, str)]
    if texts:
        orders.write([orders.from_text(text) for text in texts], PATIENCE)
        cache.ask_all([("LREM", orders.TAKEN, 1, text) for text in texts])


_TAKE = ("LMOVE", orders.WAITING, orders.TAKEN, "RIGHT", "LEFT")


def _forget() -> None:
    """The disk is small: what is old goes, where that is possible just now."""
    while True:
        time.sleep(FORGET)
        with contextlib.suppress(OSError, pg.Refused):
            orders.forget(PATIENCE)


if __name__ == "__main__":
    main()
