"""Containers to hurt, of one daemon for all tests of a pytest process.

A container that is as it was when its test had it goes to the next one: starting one costs as much
as hurting it.
"""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import daemons
import docker
import hosts
import trials

from chaoskit.errors import Gone
from chaoskit.model.fault import Fault
from chaoskit.model.units import Json
from chaoskit.namespaces import in_network_of
from chaoskit.procfs import Process, processes
from chaoskit.qdisc import missing
from chaoskit.targets.docker_protect import container_ids
from chaoskit.testing.conformance import Specimen

NETEM_ONLY = ("corrupt", "reorder", "duplicate")
NEED_NO_NETWORK = ("pause", "limit", "cpu", "memory", "disk-load", "open-files", "disk-fill")
"""A container without one starts faster."""

_OF_ONE_LIFE = {"StartedAt", "FinishedAt", "Pid", "SandboxID", "SandboxKey"}
"""What `inspect` tells that each life of a container has anew."""
_OF_ONE_CONNECTION = {"EndpointID"}
_NUMBERS = (re.compile(r"\beth\d+"), re.compile(r"^\d+:|(?<=@if)\d+|(?<=link-netnsid )\d+"))
"""What a network interface has anew when a container is connected again."""


def left_out(fault: str) -> str | None:
    """Why a fault cannot be tried on containers of this machine; None when it can."""
    return missing() if fault in NETEM_ONLY else None


class DockerSpecimen(Specimen):
    """A container with a process and its child in it, and only a loopback."""

    same_life: ClassVar[bool] = True
    """Undone, it is the same incarnation still."""
    network: ClassVar[str] = "none"
    _free: ClassVar[list[tuple[str, Json]]] = []

    @classmethod
    def takes(cls, kind: type[Fault[Any]]) -> bool:
        return kind.name in NEED_NO_NETWORK

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemon = daemons.shared()
        self.daemon.revive()
        self._api = self.daemon.client.api
        self.id, self._pristine = self._leased() or self._started()

    def _leased(self) -> tuple[str, Json] | None:
        while self._free:
            id, pristine = self._free.pop()
            if self._about(id, ()) == pristine:
                return id, pristine
            self._remove(id)
        return None

    def _started(self) -> tuple[str, Json]:
        options: dict[str, Any] = {"network_mode": "none"}
        if self.network != "none":
            with contextlib.suppress(docker.errors.NotFound):
                self.daemon.client.networks.get(self.network)
                options = {"network": self.network}
            if "network" not in options:
                options = {"network": self.daemon.network(self.network, fixed=True).name}
        made = self.daemon.run(**options)
        return made.id, self._about(made.id, ())

    def target(self) -> Mapping[str, Any]:
        return {"docker": {"id": self.id, "host": self.daemon.url}}

    def variables(self) -> Mapping[str, str]:
        return {"FOLDER": "/data", "NETWORK": self.network}

    def snapshot(self, runs: Sequence[str]) -> Json:
        return self._about(self.id, runs)

    def _about(self, id: str, runs: Sequence[str]) -> Json:
        try:
            told = self._api.inspect_container(id)
        except docker.errors.NotFound:
            return None
        found: dict[str, Any] = {"told": _plain(told, self.same_life), "marked": _marked(runs)}
        pid = told["State"]["Pid"]
        if not pid:
            return found
        with contextlib.suppress(OSError):
            found["limits"] = list(hosts.limits(pid))
            found["network"] = {
                what: [_unnumbered(line) for line in lines]
                for what, lines in hosts.network(pid).items()
            }
            found["files"] = sorted(map(str, Path(f"/proc/{pid}/root").glob("*/*chaoskit*")))
            if not self.same_life:
                found["files"] = [path.partition("/root/")[2] for path in found["files"]]
        found["processes"] = [*_inside(told["Id"])]
        return found

    def vanish(self) -> None:
        self._api.remove_container(self.id, force=True)

    def close(self) -> None:
        if self._about(self.id, ()) == self._pristine:
            self._free.append((self.id, self._pristine))
        else:
            self._remove(self.id)

    def _remove(self, id: str) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            self._api.remove_container(id, force=True)


class EndedSpecimen(DockerSpecimen):
    """One that does not live through it: another incarnation of it runs afterwards."""

    same_life = False
    _free: ClassVar[list[tuple[str, Json]]] = []

    @classmethod
    def takes(cls, kind: type[Fault[Any]]) -> bool:
        return kind.ends_target and kind.name != "remove"


class RemovedSpecimen(DockerSpecimen):
    """One in whose place another of its name stands afterwards."""

    same_life = False
    _free: ClassVar[list[tuple[str, Json]]] = []

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = str(self._api.inspect_container(self.id)["Name"]).lstrip("/")

    @classmethod
    def takes(cls, kind: type[Fault[Any]]) -> bool:
        return kind.name == "remove"

    def target(self) -> Mapping[str, Any]:
        return {"docker": {"name": self.name, "host": self.daemon.url}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        return {"told": trials.about(self._api, self.name), "marked": [*_marked(runs)]}

    def vanish(self) -> None:
        self._remove(self.name)

    def close(self) -> None:
        self._remove(self.name)


class NetworkedSpecimen(DockerSpecimen):
    """One with a network."""

    network = "chaoskit-conformance"
    _free: ClassVar[list[tuple[str, Json]]] = []

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        told = self._api.inspect_container(self.id)
        self.peer = str(told["NetworkSettings"]["Networks"][self.network]["Gateway"])
        self._over = threading.Event()
        process = Process.at(told["State"]["Pid"])
        talking = partial(in_network_of, process, partial(self._talk, process))
        threading.Thread(target=talking, daemon=True).start()

    def _talk(self, process: Process) -> None:
        """It calls somebody again and again: what meets nobody has tried nothing."""
        while not self._over.wait(0.05) and process.alive():
            with socket.socket() as side:
                side.setblocking(False)
                side.connect_ex((self.peer, 5432))

    def variables(self) -> Mapping[str, str]:
        return {**super().variables(), "PEER": self.peer}

    def close(self) -> None:
        self._over.set()
        super().close()

    @classmethod
    def takes(cls, kind: type[Fault[Any]]) -> bool:
        return not kind.ends_target and kind.name not in (*NEED_NO_NETWORK, "clock", "remove")


class ClockSpecimen(DockerSpecimen):
    """One whose programs are told the time by libfaketime. Skips where that is missing."""

    _free: ClassVar[list[tuple[str, Json]]] = []

    @classmethod
    def takes(cls, kind: type[Fault[Any]]) -> bool:
        return kind.name == "clock"

    def _started(self) -> tuple[str, Json]:
        made = self.daemon.faketime()
        made.exec_run(["/bin/bash", "-c", "echo +5 > /data/rc"])
        return made.id, self._about(made.id, ())

    def _about(self, id: str, runs: Sequence[str]) -> Json:
        found = super()._about(id, runs)
        if isinstance(found, dict):
            pid = self._api.inspect_container(id)["State"]["Pid"]
            with contextlib.suppress(OSError):
                found["clock"] = Path(f"/proc/{pid}/root/data/rc").read_text()
        return found


def _plain(value: Any, same_life: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _plain(item, same_life)
            for key, item in value.items()
            if key not in _OF_ONE_CONNECTION and (same_life or key not in _OF_ONE_LIFE)
        }
    return [_plain(item, same_life) for item in value] if isinstance(value, list) else value


def _unnumbered(line: str) -> str:
    for number in _NUMBERS:
        line = number.sub("N", line)
    return line


def _marked(runs: Sequence[str]) -> list[str]:
    """All processes and tables of this machine that carry the mark of a step of these runs."""
    found = [line for line in hosts.tables() if _of(runs, line)]
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = " ".join(process.cmdline())
            if _of(runs, words):
                found.append(words)
    return found


def _of(runs: Sequence[str], text: str) -> bool:
    return any(f"chaoskit-{run}-" in text for run in runs)


def _inside(id: str) -> list[Json]:
    """The processes of a container: what each is called, and its limit of open files."""
    found: list[Json] = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if id in container_ids(process):
                limit = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                found.append([process.name(), process.state(), list(limit)])
    return found
