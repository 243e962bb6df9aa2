"""The market of examples/compose on a daemon of its own: made, opened, watched and closed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import daemons
import pytest
from daemons import Daemon

from chaoskit.clock import until

HOME = Path(__file__).parents[2] / "examples" / "compose"
SERVICES = {"front", "web-blue", "web-green", "worker", "customers", "cache", "database"}


class Market:
    """An open market."""

    def __init__(self, daemon: Daemon, compose: list[str]) -> None:
        self.daemon = daemon
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.variables = {
            "DOCKER_HOST": daemon.url,
            "COMPOSE_PROJECT_NAME": "market",
            "MARKET": "market",
            "MARKET_URL": self.url,
            "MARKET_PORT": str(port),
            "MARKET_SUBNET": str(daemon.ranges.subnet(127)),
        }
        self._compose = compose

    def open(self) -> None:
        self._run([sys.executable, str(HOME / "build.py")])
        self._run([*self._compose, "up", "-d"])
        assert until(self.is_well, 120), self.told()

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=HOME,
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, path: str) -> dict[str, Any]:
        """Its answer, whatever its status; empty when there is none."""
        connection = HTTPConnection("127.0.0.1", int(self.variables["MARKET_PORT"]), timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
            connection.request("GET", path)
            content: dict[str, Any] = json.load(connection.getresponse())
            return content
        return {}

    def is_well(self) -> bool:
        """All run, customers are happy, and no order waits for long."""
        if self.states() != dict.fromkeys(SERVICES, "running"):
            return False
        told = self.ask("/customers")
        return bool(told.get("happy") and told["oldest_unwritten"] < 2 and told["orders"])

    def states(self) -> dict[str, str]:
        found = self.daemon.client.api.containers(all=True)
        return {one["Labels"]["com.docker.compose.service"]: one["State"] for one in found}

    def execute(self, service: str, *command: str) -> str:
        done = self.daemon.client.containers.get(f"market-{service}").exec_run(list(command))
        assert done.exit_code == 0, done.output
        return str(done.output.decode())

    def logs(self, service: str) -> str:
        container = self.daemon.client.containers.get(f"market-{service}")
        return str(container.logs(tail=100).decode(errors="replace"))

    def told(self) -> str:
        """What can be said of it when something went wrong."""
        with contextlib.suppress(Exception):
            logs = [
                f"{one.name}: {one.logs(tail=5).decode(errors='replace')}"
                for one in self.daemon.client.containers.list(all=True)
            ]
            return f"{self.states()}\n{self.ask('/customers')}\n" + "\n".join(logs)
        return "the market does not answer"


@contextlib.contextmanager
def market() -> Iterator[Market]:
    """Skips where a part is missing."""
    compose = _compose()
    for tool in ("docker", "redis-server", "ldd"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}; Debian has docker-cli, redis-server and libc-bin")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("no PostgreSQL; Debian's package postgresql has it")
    with daemons.running() as daemon:
        opened = Market(daemon, compose)
        opened.open()
        yield opened


def _compose() -> list[str]:
    if found := shutil.which("docker-compose"):
        return [found]
    if docker := shutil.which("docker"):
        done = subprocess.run([docker, "compose", "version"], capture_output=True)
        if done.returncode == 0:
            return [docker, "compose"]
    pytest.skip("no docker-compose; Debian's package of that name has it")
