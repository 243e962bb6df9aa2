"""Containers as the conformance properties take them: with a snapshot from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from daemons import Daemon

from chaoskit.model.units import Json
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Specimen, Trial

_OF_ONE_LIFE = {"Id", "Created", "StartedAt", "FinishedAt", "Pid", "ResolvConfPath", "HostnamePath",
                "HostsPath", "LogPath", "GraphDriver", "EndpointID", "SandboxID", "SandboxKey",
                "ExecIDs"}  # fmt: skip


class ContainerSpecimen(Specimen):
    """A container by its name, with whatever else of the daemon's is to be as it was."""

    def __init__(self, folder: Path, daemon: Daemon, name: str, **variables: str) -> None:
        self.folder = folder
        self.daemon = daemon
        self.name = name
        self._variables = variables

    def target(self) -> Mapping[str, Any]:
        return {"docker": {"name": self.name, "host": self.daemon.url}}

    def variables(self) -> Mapping[str, str]:
        return {"FOLDER": str(self.folder), **self._variables}

    def snapshot(self, runs: Sequence[str]) -> Json:
        with docker.APIClient(self.daemon.url, version="auto") as api:
            every = sorted(name for one in api.containers(all=True) for name in one["Names"])
            return {
                "container": about(api, self.name),
                "containers": list[Json](every),
                "volumes": sorted(one["Name"] for one in api.volumes()["Volumes"] or []),
            }

    def vanish(self) -> None:
        self.daemon.client.api.remove_container(self.name, force=True)

    def close(self) -> None:
        pass


def about(api: Any, name: str) -> Json:
    """All that `inspect` tells of a container but what every new life of one has anew, its id as
    an alias and a host name among that."""
    try:
        told = api.inspect_container(name)
    except docker.errors.NotFound:
        return None
    for one in told["NetworkSettings"]["Networks"].values():
        one["Aliases"] = sorted({*(one["Aliases"] or [])} - {told["Config"]["Hostname"]})
    return _plain(told, told["Id"])


def _plain(value: Any, id: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v, id) for k, v in sorted(value.items()) if k not in _OF_ONE_LIFE}
    if isinstance(value, list):
        # A daemon that has been away tells an empty list of what was nothing before.
        return [_plain(item, id) for item in value if item != id[:12]] or None
    return value


def dying(make: Callable[[Path], Trial], folder: Path, few: int = 0) -> Iterator[str]:
    """The fault is undone after SIGKILL at every exact point, by the guardian and by `recover` in
    turn. few: at that many of them only, spread over all."""
    (folder / "points").mkdir()
    points = conformance.points(make(folder / "points"))
    step = max(1, len(points) // few) if few else 1
    for number, point in enumerate(points[::step]):
        by = "guardian" if number % 2 else "recover"
        at = folder / f"{number}"
        at.mkdir()
        conformance.undone_after_death_at(make(at), point, by)
        yield point
