"""Links to hurt: of a real Toxiproxy, of a proxy of ours, and of one that stands for the run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peers
from echoes import Echo, free_port

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.model.units import Json
from chaoskit.targets.proxy_client import Client
from chaoskit.targets.proxy_process import leftover_proxies
from chaoskit.testing.conformance import Specimen


class _LinkSpecimen(Specimen):
    suits: tuple[str, ...] = ()
    """The faults that are tried on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = contextlib.ExitStack()
        self.echo = self.stack.enter_context(contextlib.closing(Echo()))

    def close(self) -> None:
        self.stack.close()

    @abstractmethod
    def target(self) -> Mapping[str, Any]: ...


class _ServerSpecimen(_LinkSpecimen):
    """Two links on a server that runs, and a toxic of somebody else's on the one that is hurt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            self.server = self.stack.enter_context(self.serve())
        except BaseException:
            self.stack.close()
            raise
        self.client = Client(str(self.server))
        for name in ("hurt", "other"):
            document = {"name": name, "listen": "127.0.0.1:0", "upstream": self.echo.address}
            self.client.ask("POST", "/proxies", document | {"enabled": True})
        theirs = {"name": "theirs", "type": "latency", "attributes": {"latency": 1}}
        self.client.add("hurt", theirs)

    @abstractmethod
    def serve(self) -> contextlib.AbstractContextManager[peers.Running]: ...

    def target(self) -> Mapping[str, Any]:
        return {"proxy": {"name": "hurt", "url": str(self.server)}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        return [
            {"name": link["name"], "enabled": link["enabled"], "toxics": link["toxics"]}
            for link in self.client.links()
        ]

    def vanish(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)


class ToxiproxySpecimen(_ServerSpecimen):
    suits = ("latency", "bandwidth", "drop-network", "reset", "slow-close", "slice", "limit-data")

    def serve(self) -> contextlib.AbstractContextManager[peers.Running]:
        return peers.toxiproxy()


class OurProxySpecimen(_ServerSpecimen):
    suits = (*ToxiproxySpecimen.suits, "loss", "corrupt", "http-error", "http-delay")

    def serve(self) -> contextlib.AbstractContextManager[peers.Running]:
        return peers.ours()


class OwnProxySpecimen(_LinkSpecimen):
    """What it stands for comes and goes with the run: its process, its port and its socket."""

    suits = ("latency", "drop-network", "loss")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    def target(self) -> Mapping[str, Any]:
        return {"proxy": {"listen": f"127.0.0.1:{self.port}", "upstream": self.echo.address}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        marks = [mark for mark, _ in leftover_proxies() if any(run in mark for run in runs)]
        sockets = sorted(path.name for path in self.folder.glob("state/runs/*/*.sock"))
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", self.port)) == 0
        return {"processes": list[Json](marks), "sockets": list[Json](sockets), "port": taken}

    def vanish(self) -> None:
        for mark, process in leftover_proxies():
            if any(path.name in mark for path in self.folder.glob("state/runs/*")):
                with contextlib.suppress(Gone):
                    process.signal(signal.SIGKILL)
                until(lambda process=process: not process.alive(), 5.0)
