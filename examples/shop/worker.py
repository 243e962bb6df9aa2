"""Takes orders from the queue and has the ledger write them down, each at least once.

An order that cannot be written (the ledger is full, frozen or gone) goes back to the queue. The
ledger knows each order by its id, so that one that comes twice is written once.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

from common import Part, part
from spool import Spool

PATIENCE = 0.5
"""Seconds that the ledger may take to answer."""
IDLE = 0.02
MOST_PAUSE = 0.5


class NotWritten(Exception):
    """The ledger did not take the order; it says why, or nothing."""


class Ledger:
    """The connection to the ledger, made when it is needed."""

    def __init__(self, worker: Part) -> None:
        self._part = worker
        self._address = ("", 0)
        self._connection: socket.socket | None = None

    def append(self, order: str, content: str) -> None:
        """Have it written. Raises NotWritten; the connection is made anew after trouble."""
        try:
            if self._address != (address := self._part.address("ledger")):
                self._close()
                self._address = address
            if self._connection is None:
                self._connection = socket.create_connection(address, PATIENCE)
            self._connection.sendall(f"APPEND {order} {content}\n".encode())
            answer = self._line(self._connection)
        except OSError as error:
            self._close()
            raise NotWritten(str(error) or type(error).__name__) from error
        if not answer.startswith("OK"):
            raise NotWritten(answer)

    def _line(self, connection: socket.socket) -> str:
        answer = b""
        while not answer.endswith(b"\n"):
            part = connection.recv(4096)
            if not part:
                raise ConnectionError("the ledger hung up")
            answer += part
        return answer.decode().strip()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Worker:
    """Drains the queue for ever."""

    def __init__(self, worker: Part) -> None:
        self._part = worker
        self._spool = Spool(worker.data)
        self._ledger = Ledger(worker)
        self._in_trouble = False

    def run(self) -> None:
        if left := self._spool.recover(self._part.name):
            self._part.log.line(f"put back {left} orders that I had when I died")
        pause = IDLE
        while True:
            order = self._spool.take(self._part.name)
            if order is None:
                time.sleep(IDLE)
            elif self._write(order):
                pause = IDLE
            else:
                time.sleep(pause)
                pause = min(pause * 2, MOST_PAUSE)

    def _write(self, order: Path) -> bool:
        """Whether the order is in the ledger now; if not, it is back in the queue."""
        try:
            self._ledger.append(order.name, json.dumps(json.loads(order.read_text())))
        except NotWritten as error:
            if not self._in_trouble:
                self._part.log.line(f"the ledger takes no orders: {error}")
            self._in_trouble = True
            self._spool.put_back(order)
            return False
        if self._in_trouble:
            self._part.log.line("the ledger takes orders again")
        self._in_trouble = False
        with contextlib.suppress(FileNotFoundError):
            order.unlink()
        return True


def main() -> None:
    Worker(part("worker-1", __doc__)).run()


if __name__ == "__main__":
    main()
