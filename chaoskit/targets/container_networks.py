"""A container's places in Docker networks: left, and had again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chaoskit.docker import endpoints
from chaoskit.docker.client import LISTED, Daemon
from chaoskit.docker.match import name_of
from chaoskit.model.container import ENDED
from chaoskit.model.units import Json
from chaoskit.targets.docker_protect import why_protected, with_chaoskit
from chaoskit.targets.far_network import LABEL


class ContainerNetworks:
    """A container in Docker networks: gives the capability `HasEndpoints`."""

    id: str
    name: str

    if TYPE_CHECKING:

        @property
        def daemon(self) -> Daemon: ...

    def network(self, name: str) -> str:
        """See the capability. Raises Gone, NoDaemon, ChaoskitError."""
        return endpoints.network_of(self.daemon.inspect(self.id), name)

    def endpoint(self, network: str, name: str) -> dict[str, Json] | None:
        return endpoints.endpoint_of(self.daemon.inspect(self.id), network, name)

    def same_endpoint(self, one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
        return endpoints.same(one, other)

    def leave(self, network: str) -> None:
        self.daemon.do(lambda api: api.disconnect_container_from_network(self.id, network))

    def join(self, network: str, endpoint: dict[str, Json]) -> None:
        endpoints.connect(self.daemon, network, self.id, endpoint)

    def why_address_lost(self, network: str, endpoint: dict[str, Json]) -> str | None:
        """See the capability. Its published ports are part of how it is reached, too."""
        told = self.daemon.inspect(self.id)
        if ports := endpoints.loose_ports(told):
            return (
                f"the daemon has chosen which host ports lead to it ({ports}), and would choose "
                "others afterwards: publish fixed ones"
            )
        if (told["NetworkSettings"]["Networks"].get(endpoint["network"]) or {}).get("GwPriority"):
            return "its gw-priority there would not come back"
        return endpoints.why_lost(self._about(network), endpoint, self.id)

    def about_return(self, network: str, endpoint: dict[str, Json]) -> list[str]:
        return endpoints.remarks(self._about(network), endpoint, self.id)

    def sharers(self) -> list[str]:
        """See the capability. Raises NoDaemon."""
        return [name_of(told) for told in self._sharing()]

    def protected_sharer(self) -> str | None:
        """See the capability. Raises NoDaemon."""
        sharing = self._sharing()
        ours = with_chaoskit() if sharing else frozenset()
        for told in sharing:
            if why := why_protected(told, ours):
                return f"{name_of(told)} uses its network and is protected: {why}"
        return None

    def _sharing(self) -> list[dict[str, Any]]:
        """Those that run in its network."""
        modes = (f"container:{self.id}", f"container:{self.name}")
        return [
            told
            for told in self.daemon.containers(LISTED)
            if (told.get("HostConfig") or {}).get("NetworkMode") in modes
            and told.get("State") not in ENDED
            and LABEL not in (told.get("Labels") or {})
        ]

    def _about(self, network: str) -> dict[str, Any]:
        return endpoints.about(self.daemon, network)
