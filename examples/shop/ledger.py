"""Writes each order down once, for good, on a small disk; refuses politely when that is full.

A line in, a line out, over TCP:
APPEND ID JSON  ->  OK 17, written and synced (or it was there already); FULL ...; ERROR ...
HEALTH          ->  OK 17 orders; FULL 17 orders

Its folder counts as a disk of --quota bytes, whatever lies in it: a folder on your own disk can
be full without your disk being so.
"""

from __future__ import annotations

import errno
import json
import os
import socketserver
import threading
from pathlib import Path

from common import DIRECT, HOST, Part, arguments

QUOTA = 32 * 1024 * 1024


class Full(Exception):
    """There is no room for another order."""


class Book:
    """The file of orders."""

    def __init__(self, ledger: Part, quota: int) -> None:
        self._folder = ledger.data / "ledger"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._quota = quota
        self._log = ledger.log
        self._guard = threading.Lock()
        self._was_full = False
        self._file = os.open(self._folder / "orders.jsonl", os.O_RDWR | os.O_CREAT, 0o600)
        self._known, self._end = _read(self._folder / "orders.jsonl")
        os.ftruncate(self._file, self._end)

    def append(self, order: str, content: str) -> int:
        """Write an order; how many there are. Raises Full, and ValueError for what is no order."""
        line = json.dumps({"id": order, **json.loads(content)}).encode() + b"\n"
        with self._guard:
            if order in self._known:
                return len(self._known)
            if self._used() + len(line) > self._quota:
                raise self._full()
            try:
                written = os.pwrite(self._file, line, self._end)
                os.fdatasync(self._file)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise self._full() from error
                raise
            if written < len(line):
                # The next line goes over this torn one.
                raise self._full()
            self._end += len(line)
            self._known.add(order)
            self._tell(full=False)
            return len(self._known)

    def health(self) -> str:
        with self._guard:
            word = "FULL" if self._used() >= self._quota else "OK"
            return f"{word} {len(self._known)} orders"

    def _full(self) -> Full:
        self._tell(full=True)
        return Full(f"FULL {self._used()} of {self._quota} bytes are used")

    def _tell(self, full: bool) -> None:
        if full != self._was_full:
            self._log.line("full: orders are refused" if full else "there is room again")
            self._was_full = full

    def _used(self) -> int:
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
        return used


def _read(path: Path) -> tuple[set[str], int]:
    """The ids of all whole orders, and where the last of them ends."""
    known, end = set(), 0
    with path.open("rb") as file:
        for line in file:
            try:
                known.add(json.loads(line)["id"])
            except (ValueError, KeyError):
                break
            end += len(line)
    return known, end


class Talk(socketserver.StreamRequestHandler):
    """One connection: many lines."""

    book: Book

    def handle(self) -> None:
        while line := self.rfile.readline(64 * 1024):
            self.wfile.write(self._answer(line.decode(errors="replace").strip()).encode() + b"\n")

    def _answer(self, line: str) -> str:
        match line.split(" ", 2):
            case ["APPEND", order, content]:
                try:
                    return f"OK {self.book.append(order, content)}"
                except Full as full:
                    return str(full)
                except (ValueError, TypeError, OSError) as error:
                    return f"ERROR {error}"
            case ["HEALTH"]:
                return self.book.health()
        return "ERROR say APPEND ID JSON or HEALTH"


class LedgerServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Workers that hang up are everyday."""


def main() -> None:
    parser = arguments("ledger", __doc__)
    parser.add_argument("--quota", type=int, default=QUOTA, help="bytes that its folder may use")
    words = parser.parse_args()
    ledger = Part(words)
    Talk.book = Book(ledger, words.quota)
    with LedgerServer((HOST, ledger.port + DIRECT["ledger"]), Talk) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
