"""The proxies that tests ask: ours as a process of its own, and the real Toxiproxy."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chaoskit.clock import until
from chaoskit.engine.guardian import thread_states

CACHE = Path("~/.cache/chaoskit-tests").expanduser()
TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"


class Running(str):
    """The URL of a running server's interface, without a slash at its end."""

    pid: int
    port: int


@contextlib.contextmanager
def frozen(server: Running) -> Iterator[None]:
    """It holds its sockets open and answers nobody."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        # A thread that has no processor now stops when it gets one.
        assert until(lambda: thread_states(server.pid) == {"T"}, 20)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


class Answer(NamedTuple):
    """headers: by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    server: Running,
    method: str,
    path: str,
    body: str | bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read())


@contextlib.contextmanager
def ours(*options: str, errors: Path | None = None) -> Iterator[Running]:
    """`chaoskit proxy` on a free port of its own. errors: where its standard error goes."""
    command = [sys.executable, "-P", "-m", "chaoskit", "proxy", "--listen", "127.0.0.1:0", *options]
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(errors.open("w")) if errors else None
        process = stack.enter_context(
            _ending(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True))
        )
        assert process.stdout
        line = process.stdout.readline()
        assert "http://" in line, f"chaoskit proxy did not start: {line!r}"
        yield _running(int(line.rpartition(":")[2]), process)


@contextlib.contextmanager
def toxiproxy() -> Iterator[Running]:
    """The real server on a free port. Skips when there is none and none can be built."""
    binary = _binary()
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [str(binary), "-host", "127.0.0.1", "-port", str(port), "-proxy-metrics"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with _ending(process):
            if _answers(port, process):
                yield _running(port, process)
                return
    pytest.fail("Toxiproxy did not start")


def _running(port: int, process: subprocess.Popen[str]) -> Running:
    running = Running(f"http://127.0.0.1:{port}")
    running.pid, running.port = process.pid, port
    return running


@contextlib.contextmanager
def _ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout:
            process.stdout.close()


def _answers(port: int, process: subprocess.Popen[str]) -> bool:
    """Whether that very process answers on the port, and not one that took it meanwhile."""
    end = time.monotonic() + 15
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(0.05)
            return process.poll() is None
        time.sleep(0.02)
    return False


def _binary() -> Path:
    if given := os.environ.get("CHAOSKIT_TOXIPROXY"):
        return Path(given)
    if found := shutil.which("toxiproxy-server"):
        return Path(found)
    folder = CACHE / "toxiproxy-2.12.0"
    binary = folder / "server"
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        pytest.skip("no toxiproxy-server and no Go to build it; CHAOSKIT_TOXIPROXY names one")
    with locked("toxiproxy"):
        if not binary.exists():
            built = subprocess.run(
                [go, "install", TOXIPROXY],
                env={**os.environ, "GOBIN": str(folder)},
                capture_output=True,
                text=True,
                timeout=600,
            )
            if built.returncode:
                pytest.skip(f"Toxiproxy cannot be built: {built.stderr.strip()[-300:]}")
    return binary


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one of all test processes is in here at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
