"""The example shop as tests drive it: started, asked, hurt, and closed without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from chaoskit.clock import until

HOME = Path(__file__).parents[2] / "examples" / "shop"


class Shop:
    """One shop of examples/shop. `variables` is what the experiments want in the environment."""

    def __init__(self, folder: Path) -> None:
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.data = folder / "shop"
        self.output = folder / "supervisor.out"
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.choose_ports()

    def choose_ports(self) -> None:
        self.port = free_ports(4)
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger = f"127.0.0.1:{self.port + 3}"
        link = free_ports(2)
        self.links = [f"127.0.0.1:{link}", f"127.0.0.1:{link + 1}"]

    @property
    def variables(self) -> dict[str, str]:
        return {
            "SHOP": self.name,
            "SHOP_URL": self.url,
            "SHOP_CART": f"127.0.0.1:{self.port + 1}",
            "SHOP_CART_2": f"127.0.0.1:{self.port + 2}",
            "SHOP_LEDGER": self.ledger,
            "SHOP_LINK": self.links[0],
            "SHOP_LINK_2": self.links[1],
            "SHOP_PORT": str(self.port),
            "SHOP_DATA": str(self.data),
            "SHOP_HOME": str(HOME),
            "PYTHON": sys.executable,
        }

    def command(self, script: str, *words: str) -> list[str]:
        return [sys.executable, str(HOME / script), "--shop", self.name, *words,
                "--data", str(self.data), "--port", str(self.port)]  # fmt: skip

    def start(self, *words: str, wait: bool = True) -> None:
        with self.output.open("ab") as output:
            self.supervisor = subprocess.Popen(
                self.command("supervisor.py", "--for", "300", *words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if wait:
            assert until(self.is_open, 20), self.told()

    def is_open(self) -> bool:
        """Everybody is there; with customers, one of them has bought something."""
        with contextlib.suppress(OSError, ValueError):
            happy = "--rate" in self._words() or '"happy": true' in self.text("traffic.json")
            return happy and self.ask("/health")["status"] == "ok" and self.wrote() > 0
        return False

    def _words(self) -> list[str]:
        assert self.supervisor is not None
        return [str(word) for word in self.supervisor.args]  # type: ignore[union-attr]

    def stop(self) -> list[int]:
        """Close it, whatever state it is in; what was left alive (and was then killed)."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.supervisor.wait(15)
        until(lambda: not self.pids(), 5)
        left = self.pids()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.supervisor is not None:
            self.supervisor.wait()
        return left

    def pids(self, name: str = "") -> list[int]:
        """The processes of this shop; only those whose --name begins so, if one is given."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if _after(words, "--shop") == self.name and (
                    _after(words, "--name") or "supervisor"
                ).startswith(name):
                    found.append(int(folder.name))
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        for pid in self.pids(name):
            os.kill(pid, number)

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        """The JSON that the shop answers; `http` is the status. Raises OSError."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return {"http": answer.status, **json.load(answer)}
        except urllib.error.HTTPError as error:
            with error:
                again = error.headers["Retry-After"]
                return {"http": error.code, "again": again, **json.load(error)}

    def tell_ledger(self, line: str) -> str:
        host, _, port = self.ledger.partition(":")
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(line.encode() + b"\n")
            return connection.recv(4096).decode().strip()

    def wrote(self) -> int:
        """How many orders are in the ledger."""
        return self.text("ledger/orders.jsonl").count("\n")

    def queue(self) -> int:
        return int(self.ask("/metrics")["queue"])

    def audit(self) -> str:
        done = subprocess.run(self.command("audit.py"), capture_output=True, text=True, timeout=30)
        return done.stdout.strip() + done.stderr

    def text(self, path: str) -> str:
        try:
            return (self.data / path).read_text()
        except FileNotFoundError:
            return ""

    def told(self) -> str:
        """Everything that may say why something went wrong."""
        logs = [self.output, *sorted(self.data.glob("logs/*.log"))]
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in logs
            if not path.name.startswith("receipts")
        )


def _after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1] if option in words else ""


def free_ports(many: int) -> int:
    """The first of so many ports in a row that nobody uses, nor is handed out by the system."""
    while True:
        first = random.SystemRandom().randrange(10000, 32000, 4)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + many):
                    taken = stack.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
