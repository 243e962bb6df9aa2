"""Experiments on a link, in a process of their own, and what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.journal import State
from chaoskit.procfs import with_argument
from chaoskit.targets.proxy_client import Client
from chaoskit.targets.proxy_process import leftover_proxies

CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")
THEIRS = {"name": "theirs", "type": "latency", "attributes": {"latency": 1, "jitter": 0}}


def experiment(folder: Path, *steps: Mapping[str, Any], **more: Any) -> Path:
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
        ],
        "method": list(steps),
        "verify": [{"check": "steady-state", "within": "2s"}],
    }
    path = folder / "experiment.json"
    path.write_text(json.dumps(document | more))
    return path


def chaoskit(*words: str | Path, state: Path) -> subprocess.CompletedProcess[str]:
    command = [CHAOSKIT, "--state", str(state), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


class Run:
    """A run whose fault is in."""

    def __init__(self, file: Path, state: Path, *prefix: str) -> None:
        self.state = State(state)
        self.popen = subprocess.Popen(
            [*(prefix or (CHAOSKIT,)), "--state", str(state), "run", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def injected(self) -> bool:
        return any(
            record["kind"] == "injected" for f in self.state.runs() for record in f.records()
        )

    def end(self, patience: float = 60.0) -> tuple[int, str]:
        """Its exit code and what it said."""
        said, _ = self.popen.communicate(timeout=patience)
        return self.popen.returncode, said

    def kill_both(self) -> None:
        """The guardian, and the runner before it can notice."""
        self.popen.send_signal(signal.SIGSTOP)
        for guardian in with_argument(f"chaoskit-{self.state.find().id}"):
            guardian.signal(signal.SIGKILL)
        self.popen.kill()
        self.popen.wait(10)

    def settled(self) -> bool:
        """Whether nothing of it is left to undo and nobody is at it."""
        return not self.state.unsettled()


@contextlib.contextmanager
def running(file: Path, state: Path, *prefix: str) -> Iterator[Run]:
    made = Run(file, state, *prefix)
    try:
        assert until(lambda: made.injected() or made.popen.poll() is not None, 30)
        assert made.popen.poll() is None, made.end()
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.popen.pid, signal.SIGCONT)
        made.popen.kill()
        made.popen.communicate()
        until(made.settled, 3)
        for mark, process in leftover_proxies():
            if any(folder.id in mark for folder in made.state.runs()):
                with contextlib.suppress(Gone):
                    process.signal(signal.SIGKILL)


def make_link(url: str, upstream: str, name: str = "hurt") -> tuple[str, int]:
    """A link with a toxic of somebody else's on it; where it listens."""
    client = Client(url)
    document = {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
    host, _, port = client.ask("POST", "/proxies", document)["listen"].rpartition(":")
    client.add(name, dict(THEIRS))
    return host, int(port)


def toxics(url: str, name: str = "hurt") -> list[str]:
    """The names of all that is on the link."""
    return [toxic["name"] for toxic in Client(url).link(name)["toxics"]]


def step(fault: str, url: str, hold: str = "30s", **params: Any) -> dict[str, Any]:
    return {
        "fault": fault,
        "target": {"proxy": {"name": "hurt", "url": url}},
        "for": hold,
        **params,
    }


def echoed(address: tuple[str, int], data: bytes = b"x", timeout: float = 10.0) -> float:
    """Seconds until what was sent through the link was back; OSError when it was not."""
    with socket.create_connection(address, timeout) as connection:
        began = time.monotonic()
        connection.sendall(data)
        got = b""
        while len(got) < len(data):
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError("the connection ended")
            got += part
        assert got == data
        return time.monotonic() - began
