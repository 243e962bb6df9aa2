"""Opens the shop: starts its processes, starts again what ends, and takes all down with itself.
Its customers are started once only: nobody brings those back who have gone.

    python examples/shop/supervisor.py --for 600

Everything is on 127.0.0.1, on four ports in a row from --port, and in the folder --data, which is
emptied of the last shop's things first. Settings may come from the environment too: SHOP, SHOP_DATA
and SHOP_PORT.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import FrameType

from common import HOST, LOCK, Log, arguments, write

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
"""Where all processes work: what a `restart` starts again works there too."""
FIRST_PAUSE, MOST_PAUSE = 0.05, 2.0
"""Seconds before something that ended is started again; doubled each time it ends soon."""
SOON = 5.0
MOST_STARTS = 20
"""How often in a minute one process is started before it is given up."""
GRACE = 1.0
EVERY = 0.02
FOLDERS = ("logs", "pids", "spool", "ledger", "settings")


class Child:
    """One process that shall run."""

    def __init__(self, name: str, words: list[str]) -> None:
        self.name = name
        # Nobody brings customers back who have gone.
        self._once = name == "traffic"
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._starts: list[float] = []
        self._pause = FIRST_PAUSE
        self._due = 0.0
        self.given_up = False

    def start(self, lifeline: int, errors: int) -> None:
        self._starts = [at for at in self._starts if at > time.monotonic() - 60] + [
            time.monotonic()
        ]
        self._process = subprocess.Popen(
            self._words,
            cwd=TOP,
            stdin=lifeline,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )

    def look(self, log: Log) -> bool:
        """Whether it is to be started now."""
        if self._process is None:
            return not self.given_up and time.monotonic() >= self._due
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        lived = time.monotonic() - self._starts[-1]
        self._pause = FIRST_PAUSE if lived > SOON else self._pause
        self._due = time.monotonic() + self._pause
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.given_up = self._once or len(self._starts) >= MOST_STARTS
        what = "given up" if self.given_up else f"again in {self._pause * 1000:.0f} ms"
        log.line(f"{self.name} ended by {how} after {lived:.1f} s; {what}")
        self._pause = min(self._pause * 2, MOST_PAUSE)
        return False

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        if self._process is not None:
            try:
                self._process.wait(max(0.0, seconds))
            except subprocess.TimeoutExpired:
                return False
        return True


class Ended(Exception):
    """Somebody wants the shop to close."""


def main() -> int:
    parser = arguments("supervisor", __doc__)
    parser.set_defaults(seconds=3600.0)
    parser.add_argument("--rate", type=float, default=20.0, help="customers a second; 0 for none")
    words = parser.parse_args()
    data = Path(words.data).absolute()
    try:
        lock = _take(data)
    except OSError as error:
        print(f"supervisor: {data}: {error.strerror or error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    log = Log(data / "logs" / "supervisor.log")
    write(data / "pids" / "supervisor.pid", f"{os.getpid()}\n")
    # Only this process holds the writing end: when it dies, however, all the others end too.
    reading, _writing = os.pipe()
    errors = os.open(data / "logs" / "errors.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    children = [Child(name, line) for name, line in _lines(words, data)]
    try:
        _supervise(children, words, data, log, reading, errors)
    except Ended:
        pass
    finally:
        _close(children)
        (data / "pids" / "supervisor.pid").unlink(missing_ok=True)
        os.close(lock)
    return 0


def _lines(words: Namespace, data: Path) -> list[tuple[str, list[str]]]:
    """The name and the command line of each process."""
    roles = ["ledger", "cart-1", "cart-2", "web", "worker-1", "worker-2"]
    found = []
    for name in [*roles, *(["traffic"] if words.rate else [])]:
        script = HERE.relative_to(TOP) / f"{name.partition('-')[0]}.py"
        line = [sys.executable, "-S", str(script), "--shop", words.shop, "--name", name]
        line += ["--data", str(data), "--port", str(words.port), "--lifeline"]
        found.append((name, line + (["--rate", str(words.rate)] if name == "traffic" else [])))
    return found


def _take(data: Path) -> int:
    """Make the folder ours, and empty it of the shop before. Raises OSError."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data.stat().st_uid != os.geteuid():
        raise OSError("the folder is somebody else's; name another with --data")
    if any(data.iterdir()) and not (data / LOCK).is_file():
        raise OSError("the folder holds something that is no shop; name another with --data")
    lock = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError("there is an open shop in the folder already") from error
    for name in FOLDERS:
        shutil.rmtree(data / name, ignore_errors=True)
        (data / name).mkdir()
    (data / "closed").unlink(missing_ok=True)
    return lock


def _supervise(
    children: list[Child], words: Namespace, data: Path, log: Log, lifeline: int, errors: int
) -> None:
    """Until the time is over. Raises Ended on a signal."""
    began = time.monotonic()
    opened = False
    while not words.seconds or time.monotonic() < began + words.seconds:
        for child in children:
            # Customers come when the shop is open.
            if (opened or child.name != "traffic") and child.look(log):
                child.start(lifeline, errors)
        if not opened and all(_listens(words.port + offset) for offset in range(4)):
            opened = True
            log.line(f"open after {time.monotonic() - began:.2f} s")
            with contextlib.suppress(OSError):
                print(f"the shop is open: http://{HOST}:{words.port}, in {data}", flush=True)
        time.sleep(EVERY)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((HOST, port)) == 0


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended


def _close(children: list[Child]) -> None:
    """End all of them, frozen ones too."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for child in children:
        child.signal(signal.SIGTERM)
    end = time.monotonic() + GRACE
    for child in children:
        if not child.wait(end - time.monotonic()):
            child.signal(signal.SIGKILL)
            child.wait(5.0)


if __name__ == "__main__":
    sys.exit(main())
