"""A container that is removed, and made again by others or exactly from what was kept of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaoskit.clock import now, until
from chaoskit.docker import endpoints, recipe
from chaoskit.docker.client import LISTED, Daemon
from chaoskit.docker.double import Double
from chaoskit.docker.match import PROJECT, ContainerMatch, name_of
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import LOST, Binding
from chaoskit.model.container import ENDED, ContainerState, Standing
from chaoskit.model.units import Json
from chaoskit.procfs import Process, boot_id
from chaoskit.targets.docker_protect import lodgers
from chaoskit.targets.far_network import LABEL

RECREATED = "chaoskit.recreated"
"""The label that says, with the value `true`, that others make the container again."""
_SWARM = "com.docker.swarm.service.name"
_ORCHESTRATORS = ("com.docker.swarm.", "io.kubernetes.", "com.hashicorp.nomad.")
"""How the labels begin that those put on containers who replace them."""
_REMOVAL = 30.0
"""Seconds in which a removal that was asked for is over."""


class ContainerAgain:
    """A container that can be removed: gives the capability `CanBeMadeAgain`."""

    id: str
    name: str
    binding: Binding
    match: ContainerMatch
    peers_then: frozenset[str]
    _asked = False
    """Its removal has been asked for, by us."""

    if TYPE_CHECKING:

        @property
        def mark(self) -> str: ...
        @property
        def daemon(self) -> Daemon: ...
        @property
        def told(self) -> Mapping[str, Any]: ...
        @property
        def here(self) -> bool: ...
        @property
        def root(self) -> Process: ...
        def sharers(self) -> list[str]: ...

    @property
    def made_by(self) -> str:
        return _maker(self.told["Config"].get("Labels") or {})

    @property
    def has_role(self) -> bool:
        return self.match.id is None

    @property
    def complement(self) -> int:
        """How many matched when it was found."""
        return len(self.peers_then)

    def successors(self) -> list[str]:
        """The labels of those that match and run now and did not then. Raises NoDaemon."""
        new = [
            told
            for told in self.daemon.containers(LISTED)
            if told.get("State") == "running"
            and told["Id"] not in self.peers_then
            and self.match.matches(told)
        ]
        new.sort(key=lambda told: told.get("Created", 0))
        return [f"container {name_of(told)} ({told.get('Image')})" for told in new]

    def replaced(self) -> bool:
        """Whether an orchestrator that manages it has put others in its place, as many as matched
        before: it would start one too many. Raises Gone, NoDaemon."""
        labels = self.told.get("Config", {}).get("Labels") or {}
        if not any(label.startswith(_ORCHESTRATORS) for label in labels):
            return False
        running = [
            told["Id"]
            for told in self.daemon.containers(LISTED)
            if told.get("State") == "running" and self.match.matches(told)
        ]
        return len(running) >= self.complement and not self.peers_then.issuperset(running)

    def newcomers(self) -> list[str]:
        running = [
            told
            for told in self.daemon.containers(LISTED)
            if told.get("State") == "running" and self.match.matches(told)
        ]
        if len(running) < len(self.peers_then):
            return []
        new = [told for told in running if told["Id"] not in self.peers_then]
        found = []
        for told in sorted(new, key=lambda told: told.get("Created", 0)):
            by = _maker(told.get("Labels") or {})
            found.append(f"container {name_of(told)} ({told.get('Image')}){by and f' of {by}'}")
        return found

    def kept(self) -> dict[str, Json]:
        found = recipe.recipe_of(self.daemon.inspect(self.id))
        networks: Any = found["networks"]
        for words in networks.values():
            about = endpoints.about(self.daemon, words["id"])
            words["wish"] = endpoints.wish(about, words, self.id)
        return found

    def why_not_again(self, kept: Mapping[str, Json]) -> str | None:
        if ContainerState.of(self.daemon.inspect(self.id)).status == "paused":
            return "it is paused: made again, it would run for a moment"
        if _SWARM in (self.told["Config"].get("Labels") or {}):
            return "the swarm makes it again, and would then have one too many"
        if others := self._parts(living=False):
            return f"{', '.join(others)} could not start again: part of this very container"
        networks: Any = kept["networks"]
        for words in networks.values():
            about = endpoints.about(self.daemon, words["id"])
            if why := endpoints.why_lost(about, words, self.id):
                return why
        return None

    def lost(self, kept: Mapping[str, Json]) -> list[str]:
        found = ["what it has written outside of volumes is lost, and its log; it has another id"]
        if kept["unnamed"]:
            found.append(
                "volumes that were made for it have names afterwards: `docker rm -v` spares them"
            )
        if recipe.has_chance_ports(kept):
            found.append("the daemon chooses those of its ports anew that it has chosen")
        networks: Any = kept["networks"]
        for words in networks.values():
            about = endpoints.about(self.daemon, words["id"])
            found += endpoints.remarks(about, words, self.id)
        found.append("the run's journal, which is private, keeps what is in its environment")
        return found

    def get_ready(self, kept: dict[str, Json]) -> None:
        self._double(kept).get_ready()

    def remove(self) -> None:
        self._doom.write_text(f"{boot_id()} {now()}")
        self._asked = True
        try:
            self._remove()
        except Gone:
            # Somebody else was faster, so it is not ours to make again.
            self._doom.unlink(missing_ok=True)
            self._asked = False
            raise

    def standing(self, kept: dict[str, Json]) -> tuple[Standing, str]:
        double = self._double(kept)
        told = double.found()
        if self._there():
            if self._being_removed():
                return Standing.GOING, ""
            return (Standing.READY if told else Standing.THERE), ""
        if not self._removed_by_us():
            if told:
                return Standing.READY, ""
            raise Gone(f"somebody else has removed {kept['name']}")
        if told is None:
            if double.namesake():
                raise Gone(f"somebody else has made {kept['name']} again")
            if double.was_renamed:
                raise Gone(f"somebody has removed {kept['name']}, which was made again")
            return Standing.AWAY, ""
        fresh = recipe.never_started(told)
        if double.marked(told):
            return (Standing.AWAY if fresh else Standing.TAKEN), ""
        # It ran before: one that has ended at once is not what was there.
        if fresh or not ContainerState.of(told).runs or recipe.lacks(kept, told):
            return Standing.PART, ""
        differs = recipe.differs(kept, told)
        return (Standing.OTHERWISE if differs else Standing.AGAIN), differs

    def make_again(self, kept: dict[str, Json]) -> None:
        double = self._double(kept)
        if self._there():
            if not self._being_removed():
                double.discard()
                return
            with contextlib.suppress(Gone):
                self._remove()
        if self._removed_by_us():
            double.take_over()
        else:
            double.discard()

    def _double(self, kept: dict[str, Json]) -> Double:
        note = self.binding.folder / f"{self.mark}.again"
        return Double(self.daemon, kept, self.mark, note)

    @property
    def _doom(self) -> Path:
        """Is there once its removal has been asked for, and says when."""
        return self.binding.folder / f"{self.mark}.removed"

    @property
    def _lost(self) -> Path:
        """Is there when nobody knows what else was written down."""
        return self.binding.folder / LOST

    def _removed_by_us(self) -> bool:
        """Whether we have asked for it, so that it is our doing when it is not there."""
        return self._asked or self._doom.exists() or self._lost.exists()

    def _being_removed(self) -> bool:
        """Whether that may still be on its way. Not for ever: one that is there long after that
        was never reached by it."""
        with contextlib.suppress(OSError):
            if time.time() - self._lost.stat().st_mtime < _REMOVAL:
                return True
        try:
            boot, at = self._doom.read_text().split()
        except (OSError, ValueError):
            return self._doom.exists()  # It has only just been made.
        return boot == boot_id() and now() - float(at) < _REMOVAL

    def _there(self) -> bool:
        try:
            self.daemon.inspect(self.id)
        except Gone:
            return False
        return True

    def _remove(self) -> None:
        try:
            self.daemon.do(lambda api: api.remove_container(self.id, v=False, force=True))
        except Gone:
            raise
        except ChaoskitError as error:
            # It says no when it is at it already, for a runner that is dead by now.
            if not until(lambda: not self._there(), _REMOVAL):
                raise ChaoskitError(f"it cannot be removed: {error}") from error

    def guests(self) -> list[str]:
        """See the capability. By the namespaces of all processes where these can be seen: to ask
        the daemon takes a request for each of its containers. Raises Gone, NoDaemon."""
        if self.here:
            with contextlib.suppress(PermissionError):
                lodging = lodgers(self.root, self.id, self.told["HostConfig"])
                told = self.daemon.containers(LISTED) if lodging else []
                found = {name_of(one) for one in told if one["Id"] in lodging}
                return sorted(found.union(self.sharers()))
        return self._parts(living=True)

    def _parts(self, living: bool) -> list[str]:
        """The names of the containers that were started as part of this one: in its network, among
        its processes or in its shared memory. living: of those that run."""
        others = [
            told
            for told in self.daemon.containers(LISTED)
            if told["Id"] != self.id
            and LABEL not in (told.get("Labels") or {})
            and not (living and told.get("State") in ENDED)
        ]
        hosts = self.daemon.hosts_of(told["Id"] for told in others)
        me = {self.id, self.name}
        return sorted(name_of(told) for told in others if me & hosts.get(told["Id"], frozenset()))


def _maker(labels: Mapping[str, str]) -> str:
    if service := labels.get(_SWARM):
        return f"the swarm service {service}"
    if project := labels.get(PROJECT):
        return f"the compose project {project}"
    marked = labels.get(RECREATED, "").lower() in ("true", "1", "yes")
    return f"those whom its label {RECREATED} means" if marked else ""
