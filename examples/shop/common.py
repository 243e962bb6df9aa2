"""What every process of the shop has: a name, a place, a log, a pid file, and a lifeline.

Each is started as `python .../shop/ROLE.py --shop NAME --name ROLE-1 --data DIR --port BASE`, so
that a search in the command line finds a role, a shop, or one process of it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

HOST = "127.0.0.1"
SHOP = "demo"
DATA = "/tmp/chaoskit-shop"
PORT = 8470
"""The first of four ports in a row: web, two carts, ledger."""

DIRECT = {"web": 0, "cart-1": 1, "cart-2": 2, "ledger": 3}
"""Who is asked over the network, and on which of the four ports."""

LOCK = ".shop"
"""Marks a folder as a shop's; locked while that is open."""

LOG_BYTES = 256 * 1024
"""A log that grows beyond this is moved to `NAME.1`, over the one before."""


class Log:
    """Lines in a file that is rotated. One file stays open: a process that may open no more files
    can still say so."""

    def __init__(self, path: Path, stamped: bool = True) -> None:
        self._path = path
        self._stamped = stamped
        self._guard = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def line(self, text: str) -> None:
        """Append one line. What cannot be written (a full disk) is lost, and nobody hurt."""
        now = time.time()
        stamp = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03d} "
        with self._guard, contextlib.suppress(OSError):
            if self._file.tell() > LOG_BYTES:
                self._rotate()
            self._file.write(f"{stamp if self._stamped else ''}{text}\n".encode())

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        file = new.open("ab", buffering=0)
        self._path.replace(f"{self._path}.1")
        new.replace(self._path)
        self._file.close()
        self._file = file


class Part:
    """One process of the shop: who it is, and where the others are."""

    def __init__(self, words: argparse.Namespace) -> None:
        self.words = words
        self.shop: str = words.shop
        self.name: str = words.name
        self.data = Path(words.data)
        self.port: int = words.port
        self.log = Log(self.data / "logs" / f"{self.name}.log")
        self._pid_file = self.data / "pids" / f"{self.name}.pid"
        write(self._pid_file, f"{os.getpid()}\n")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        waits = self._until_alone if words.lifeline else self._until_closed
        threading.Thread(target=waits, daemon=True).start()
        if words.seconds:
            threading.Timer(words.seconds, self._leave).start()
        self.log.line(f"started as {os.getpid()}")

    def setting(self, name: str) -> str | None:
        """What it was set to while the shop is open; None when it was not. See `web.py`."""
        try:
            return (self.data / "settings" / name).read_text()
        except FileNotFoundError:
            return None

    def address(self, name: str) -> tuple[str, int]:
        """Where to ask that process: directly, unless it was set to a proxy's address. It is read
        each time, so that a link can be led another way while the shop is open."""
        host, _, port = (self.setting(name) or f"{HOST}:{self.port + DIRECT[name]}").rpartition(":")
        return host, int(port)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        """At once, from any thread: all of the shop may be killed at any moment anyway."""
        with contextlib.suppress(OSError, ValueError):
            if int(self._pid_file.read_text()) == os.getpid():
                self._pid_file.unlink()
        os._exit(0)

    def _until_alone(self) -> None:
        """The supervisor holds the other end of our standard input: it closes when that dies."""
        while os.read(0, 1):
            pass
        self._leave()

    def _until_closed(self) -> None:
        """Started by hand, not by the supervisor: that holds a lock for as long as it lives."""
        with (self.data / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        self.log.line("the shop is closed")
        self._leave()


def arguments(role: str, about: str | None) -> argparse.ArgumentParser:
    """What all processes of the shop take, with the environment's values as defaults."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--shop", default=os.environ.get("SHOP", SHOP), help="the shop's name")
    parser.add_argument("--name", default=role, help="this process's name in the shop")
    parser.add_argument("--data", default=os.environ.get("SHOP_DATA", DATA), help="a folder")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("SHOP_PORT", PORT)), help="first of four"
    )
    parser.add_argument(
        "--for", type=float, dest="seconds", metavar="SECONDS", help="end by itself after these"
    )
    parser.add_argument("--lifeline", action="store_true", help="end when standard input closes")
    return parser


def part(role: str, about: str | None) -> Part:
    """This process as its command line says."""
    return Part(arguments(role, about).parse_args())


def write(path: Path, text: str) -> None:
    """Put a whole file in place at once: a reader sees the old one or the new one."""
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        new.write_text(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
