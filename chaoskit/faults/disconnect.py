"""Take a container out of a Docker network, as if its cable were pulled there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from chaoskit.capabilities import HasEndpoints
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json

_OUT = "disconnected"


@dataclass(frozen=True)
class Disconnect(Fault[HasEndpoints]):
    """Disconnect a container from a Docker network: for the others in it, it is not there."""

    network: str = field(metadata={"doc": "a Docker network that the container is in"})
    name = "disconnect"
    needs = HasEndpoints
    settle = 2.0
    patience = 15.0
    examples = ({"network": "${NETWORK}"},)

    def problems(self) -> list[tuple[str, str]]:
        return [] if self.network else [("network", "is empty")]

    def way_back(self) -> str:
        return "it is connected again, with its address, aliases and links"

    def refuse(self, target: HasEndpoints) -> str | None:
        try:
            network = target.network(self.network)
            endpoint = target.endpoint(network, self.network)
            if why := target.protected_sharer():
                return why
            if (others := target.sharers()) and not target.binding.allow_shared:
                return (
                    f"{', '.join(others)} use its network and would lose it too: "
                    "`allow-shared: true` in the blast radius allows that"
                )
            return target.why_address_lost(network, endpoint) if endpoint else None
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)

    def remarks(self, target: HasEndpoints) -> tuple[str, ...]:
        try:
            network = target.network(self.network)
        except Gone:
            raise
        except ChaoskitError:
            return ()  # That is told by `refuse`.
        endpoint = target.endpoint(network, self.network)
        others = target.sharers()
        return (
            *(target.about_return(network, endpoint) if endpoint else ()),
            "its interface there has another number afterwards (eth1 for eth0)",
            *([f"{', '.join(others)} use its network and lose it too"] if others else []),
        )

    def changes(self, target: HasEndpoints) -> Iterator[Change]:
        # A restart keeps what a container is connected to: the incarnation is no part of the key.
        try:
            network = target.network(self.network)
            endpoint = target.endpoint(network, self.network)
        except Gone:
            return
        except ChaoskitError as error:
            raise Refused(str(error)) from error
        yield Change(f"{target.key} in network {network}", endpoint or _OUT, _OUT)

    def look(self, target: HasEndpoints, change: Change) -> Json:
        was = cast(dict[str, Json], change.was)
        now = target.endpoint(_network(change), str(was["network"]))
        if now is None:
            return _OUT
        return was if target.same_endpoint(now, was) else now

    def make(self, target: HasEndpoints, change: Change) -> None:
        target.leave(_network(change))

    def unmake(self, target: HasEndpoints, change: Change) -> None:
        target.join(_network(change), cast(dict[str, Json], change.was))

    def overwrite(self, target: HasEndpoints, change: Change) -> None:
        if self.look(target, change) != _OUT:
            target.leave(_network(change))
        self.unmake(target, change)


def _network(change: Change) -> str:
    return change.key.rpartition(" ")[2]
