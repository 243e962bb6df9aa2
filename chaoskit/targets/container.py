"""One container as a target: its incarnation, what it is to the daemon and what it is here."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from chaoskit import nft
from chaoskit.capabilities import Proc
from chaoskit.docker.client import Daemon, Where, daemon
from chaoskit.docker.match import PROJECT, ContainerMatch, name_of, networks_of
from chaoskit.errors import ChaoskitError, Gone, Nobody
from chaoskit.freezer import frozen
from chaoskit.matching import of_chaoskit
from chaoskit.model.binding import Binding
from chaoskit.model.container import ContainerState
from chaoskit.model.target import Claim, Target
from chaoskit.model.units import Json
from chaoskit.namespaces import members, number_of
from chaoskit.procfs import Process
from chaoskit.targets.burdens import Burdens
from chaoskit.targets.container_again import ContainerAgain
from chaoskit.targets.container_clock import ContainerClock
from chaoskit.targets.container_networks import ContainerNetworks
from chaoskit.targets.disturbed import Disturbed
from chaoskit.targets.docker_protect import (
    container_ids,
    container_key,
    why_protected,
    with_chaoskit,
)
from chaoskit.targets.far_network import FarNetwork
from chaoskit.targets.limits import Limits
from chaoskit.targets.resolver import Resolver

_SHOWN = 12
"""Characters of an id that are shown, as `docker ps` does."""


class ContainerTarget(
    Burdens,
    ContainerClock,
    Limits,
    Resolver,
    Disturbed,
    ContainerNetworks,
    ContainerAgain,
    FarNetwork,
    Target,
):
    """One container. It keeps its id when it restarts: what runs in it is another incarnation then.

    place: its daemon. id, name, image: as that knows it. match: the selector that found it.
    peers_then: the ids of all that matched then. started, pid: of the incarnation; looked up when
    asked for the first time, so that listing many costs one request. found: what the list told.
    helper_image: of a helper container, for what cannot be done from here.
    """

    kind = "docker"
    inside = True

    def __init__(
        self,
        place: Where,
        id: str,
        name: str,
        image: str,
        binding: Binding,
        match: ContainerMatch,
        peers_then: frozenset[str] = frozenset(),
        found: Mapping[str, Any] | None = None,
        ours: frozenset[str] = frozenset(),
        incarnation: tuple[str, str] | None = None,
        helper_image: str | None = None,
        native: bool | None = None,
    ) -> None:
        self.place = place
        self.id = id
        self.name = name
        self.image = image
        self.binding = binding
        self.match = match
        self.peers_then = peers_then
        self._found = found or {}
        self._ours = ours
        self._incarnation = incarnation
        self.helper_image = helper_image
        self._native = native
        self._told: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Of the container, not of its incarnation: that is in the keys of its cells."""
        return container_key(self.id)

    @property
    def label(self) -> str:
        # An image without a name is called by its id, which is long.
        named = not self.image.startswith("sha256:")
        image = self.image if named else self.image.removeprefix("sha256:")[:_SHOWN]
        return f"container {self.name} ({image})"

    @property
    def mark(self) -> str:
        """Unique to this container in this step of this run."""
        return f"{self.binding.mark}-{self.id[:_SHOWN]}"

    @property
    def group_name(self) -> str:  # type: ignore[override]
        return self.id

    @property
    def daemon(self) -> Daemon:
        return daemon(self.place)

    @property
    def told(self) -> Mapping[str, Any]:
        """What the daemon knew of it when it was asked first. Raises Gone, NoDaemon."""
        if self._told is None:
            self._told = self.daemon.inspect(self.id)
        return self._told

    @property
    def started(self) -> str:
        """When the incarnation was started, as the daemon writes it."""
        return self._known()[0]

    @property
    def native(self) -> bool:
        if self._native is None:
            self._native = ContainerState.of(self.told).native
        return self._native

    @property
    def restarts(self) -> int:
        return ContainerState.of(self.told).restarts

    @property
    def root(self) -> Process:  # type: ignore[override]  # Looked up when asked for.
        """The first process of the incarnation, as this machine sees it. Raises Gone, and
        ChaoskitError when it is none of this machine's."""
        key = self._known()[1]
        if not key:
            raise ChaoskitError(
                f"the processes of {self.name} are not to be seen from here (the daemon at "
                f"{self.place} is on another machine, we are in a container, or it has a kernel of "
                "its own, as with gVisor): only what the daemon itself does is possible"
            )
        return Process.from_key(key)

    @property
    def here(self) -> bool:
        """Whether its processes are on this machine and to be seen by us."""
        return bool(self._known()[1])

    def _known(self) -> tuple[str, str]:
        """(started, key of the first process or "")."""
        if self._incarnation is None:
            state = ContainerState.of(self.told)
            if not state.runs:
                raise Gone(f"{self.label} does not run")
            self._incarnation = (state.started, self._seen_here(state))
        return self._incarnation

    def _seen_here(self, state: ContainerState) -> str:
        """A pid is a number of the daemon's machine. Here it is that process when it is in a
        control group that is called like the container, and no sandbox around it."""
        with contextlib.suppress(Gone, PermissionError):
            process = Process.at(state.pid)
            if self.id in container_ids(process) and not state.sandboxed:
                return process.key
        return ""

    def state(self) -> ContainerState:
        """What the daemon says of it now, whatever its incarnation. Raises Gone, NoDaemon."""
        return ContainerState.of(self.daemon.inspect(self.id))

    def paused(self) -> bool:
        """Whether its incarnation is frozen. Raises Gone, NoDaemon."""
        if self.here:
            self.root.stat()
            # Seen here it costs the daemon nothing. A sandbox is frozen in a way of its own.
            if (seen := frozen(self.root.pid)) or (seen is False and self.native):
                return seen
        state = self.state()
        if not state.runs or state.started != self.started:
            raise Gone("it was restarted or has ended")
        return state.status == "paused"

    def there(self) -> bool:
        try:
            if self.here:
                return self.root.alive()
            state = self.state()
        except Gone:
            return False
        except ChaoskitError:
            return True  # It does not answer; that is no proof that it is gone.
        return state.runs and state.started == self.started

    def reborn(self) -> ContainerTarget | None:
        if self.here and self.root.alive():
            return None
        state = self.state()
        if not state.runs or state.started == self.started:
            return None
        incarnation = (state.started, self._seen_here(state))
        return type(self)(
            self.place,
            self.id,
            self.name,
            self.image,
            self.binding,
            self.match,
            self.peers_then,
            incarnation=incarnation,
            helper_image=self.helper_image,
        )

    def claim(self) -> Claim:
        """The container, and the network that it may share: two runs must not both hurt that."""
        mode = str((self._found.get("HostConfig") or {}).get("NetworkMode", ""))
        owner = mode.removeprefix("container:") if mode.startswith("container:") else self.id
        return Claim(frozenset({self.key, f"network of container {owner}"}))

    def network_key(self) -> str:
        far = self.helper_image is not None and not self.here
        return self.far_key() if far else super().network_key()

    def nft_runner(self, key: str, *, living: bool = False) -> nft.Runner:
        if key.startswith("network of "):
            return self.far_runner(key)
        return super().nft_runner(key, living=living)

    def network_cannot(self, body: str = "") -> str | None:
        return super().network_cannot(body) if self.here else self.far_cannot(body)

    def network_remarks(self) -> list[str]:
        if self.here:
            return super().network_remarks()
        return [f"by short-lived helper containers of {self.helper_image} in its network"]

    def network_closed(self) -> str | None:
        return super().network_closed() or self._network_shared()

    def _network_shared(self) -> str | None:
        """Why nothing may be done in a network in which other containers are, too."""
        ids = self.sharing_network()
        if not ids:
            return None
        listed = {str(told["Id"]): told for told in self.daemon.containers()}
        others = [listed.get(id, {"Id": id}) for id in ids]
        ours = self._ours or with_chaoskit()
        for told in others:
            if why := why_protected(told, ours):
                return f"it shares its network with {name_of(told)}, which is protected: {why}"
        if self.binding.allow_shared or self.network_is_hosts():
            return None
        return (
            f"it shares its network with {', '.join(map(name_of, others))}: `allow-shared: true` "
            "in the blast radius allows to hurt them with it"
        )

    def sharing_network(self) -> list[str]:
        """The ids of the other containers that have processes in its network. Raises Gone."""
        found: set[str] = set()
        for process in members(number_of(self.root)):
            with contextlib.suppress(Gone, PermissionError):
                if not of_chaoskit(process):
                    found |= container_ids(process)
        return sorted(found - {self.id})

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return why_protected(self._found, self._ours)

    def ref(self) -> Json:
        started, root = self._known()
        match = {f.name: getattr(self.match, f.name) for f in fields(ContainerMatch)}
        return {
            "place": dict(asdict(self.place)),
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "match": {k: list(v) if isinstance(v, tuple) else v for k, v in match.items()},
            "peers": list[Json](sorted(self.peers_then)),
            "started": started,
            "root": root,
            "helper": self.helper_image,
            "native": self.native,
        }

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> ContainerTarget:
        known: Any = ref
        match: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in known["match"].items()}
        return cls(
            Where(**known["place"]),
            known["id"],
            known["name"],
            known["image"],
            binding,
            ContainerMatch(**match),
            frozenset(known["peers"]),
            incarnation=(known["started"], known["root"]),
            helper_image=known["helper"],
            native=known.get("native"),
        )

    def tree(self) -> list[Proc]:
        """All processes in it, those of `docker exec` too: they are no children of its first.
        Helpers of ours in its control groups are none of its own."""
        from chaoskit.procfs import processes

        root = self.root
        if not root.alive():
            return []
        found: list[Proc] = [root]
        for process in processes():
            with contextlib.suppress(Gone, PermissionError):
                if process == root or self.id not in container_ids(process):
                    continue
                if not of_chaoskit(process):
                    found.append(process)
        return found

    def process(self, key: str) -> Process:
        return Process.from_key(key)

    def volumes(self) -> list[str]:
        mounts = self.told.get("Mounts") or []
        return [os.path.realpath(one["Source"]) for one in mounts if one.get("Type") == "volume"]

    def addresses_of(self, peer: str) -> list[str]:
        """The addresses of the containers of its daemon that `container:NAME`, `label:KEY=VALUE` or
        `service:NAME` (of compose, in its own project) names, now. Raises Nobody when there are
        none, NoDaemon, and ChaoskitError for a service when the target is of no project."""
        kind, _, name = peer.partition(":")
        project = (self.told.get("Config", {}).get("Labels") or {}).get(PROJECT)
        match kind:
            case "container":
                wanted = ContainerMatch(name=name)
            case "label":
                wanted = ContainerMatch(label=name)
            case _ if project is None:
                raise ChaoskitError(
                    f"{self.name} is of no compose project, so {peer} could be any project's: say "
                    "`container:NAME` or `label:KEY=VALUE`"
                )
            case _:
                wanted = ContainerMatch(compose_service=name, compose_project=project)
        found = [
            address
            for told in self.daemon.containers()
            if told["Id"] != self.id and wanted.matches(told)
            for network in networks_of(told).values()
            for address in (network.get("IPAddress"), network.get("GlobalIPv6Address"))
            if address
        ]
        if not found:
            raise Nobody(f"no container with an address is {peer}")
        return found

    def pause(self) -> None:
        self.daemon.do(lambda api: api.pause(self.id))

    def unpause(self) -> None:
        self.daemon.do(lambda api: api.unpause(self.id))

    def signal(self, number: signal.Signals) -> None:
        """To its first process: from here where we see it, so that its end is like a crash and its
        restart policy works; else by the daemon, for which that is a wish of ours."""
        if self.here:
            self.root.signal(number)
        else:
            self.daemon.do(lambda api: api.kill(self.id, number.name))

    def stop(self, grace: float) -> None:
        self.daemon.do(lambda api: api.stop(self.id, timeout=round(grace)), longer=grace)

    def restart(self, grace: float) -> None:
        self.daemon.do(lambda api: api.restart(self.id, timeout=round(grace)), longer=grace)

    def start(self) -> None:
        try:
            self.daemon.do(lambda api: api.start(self.id))
        except Gone as error:
            # Its network may be what was not found: somebody removed that while it did not run.
            self.state()
            raise ChaoskitError(f"it cannot be started: {error}") from error
