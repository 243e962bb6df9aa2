"""What may be asked of a container and its daemon."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from chaoskit.model.binding import Binding
from chaoskit.model.container import ContainerState, Standing
from chaoskit.model.units import Json


@runtime_checkable
class IsContainer(Protocol):
    """A container: can be paused, ended and started by its daemon."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run."""

    @property
    def key(self) -> str:
        """The container, whatever its incarnation."""

    @property
    def started(self) -> str:
        """When the incarnation that is hurt was started: with the key it names it. Raises Gone."""

    @property
    def restarts(self) -> int:
        """How often its restart policy had started it by then."""

    @property
    def here(self) -> bool:
        """Whether its processes are on this machine and to be seen by us."""

    def state(self) -> ContainerState:
        """What its daemon says of it now. Raises Gone when it was removed, ChaoskitError when the
        daemon does not answer."""

    def guests(self) -> Sequence[str]:
        """The names of the containers that run in its network, among its processes or in its shared
        memory. Raises ChaoskitError."""

    def successors(self) -> Sequence[str]:
        """For people: those that match now and were not there when this target was found."""

    def replaced(self) -> bool:
        """Whether an orchestrator that manages it has put others in its place. Raises Gone,
        ChaoskitError."""

    def paused(self) -> bool:
        """Whether the incarnation is frozen. Raises Gone when it has ended."""

    def pause(self) -> None: ...

    def unpause(self) -> None: ...

    def signal(self, number: signal.Signals) -> None:
        """To its first process."""

    def stop(self, grace: float) -> None:
        """As its daemon stops it: its stop signal, and SIGKILL after so many seconds."""

    def restart(self, grace: float) -> None: ...

    def start(self) -> None:
        """Nothing when it runs."""


@runtime_checkable
class HasEndpoints(Protocol):
    """Is in Docker networks, each of which it can leave."""

    binding: Binding

    @property
    def key(self) -> str:
        """The container, whatever its incarnation: its networks stay when it restarts."""

    def network(self, name: str) -> str:
        """The id of the network of that name that it is in. Raises ChaoskitError when it is in none
        that it could leave, Gone when it was removed."""

    def endpoint(self, network: str, name: str) -> dict[str, Json] | None:
        """Its endpoint in the network of that id and name, `told` in it for people; None when it is
        not connected. Raises Gone when it was removed."""

    def same_endpoint(self, one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
        """Whether nobody in the network could tell them apart."""

    def leave(self, network: str) -> None: ...

    def join(self, network: str, endpoint: dict[str, Json]) -> None:
        """Connect it as that endpoint was, with another address when somebody else has its own by
        now. Raises ChaoskitError when the network was removed."""

    def why_address_lost(self, network: str, endpoint: dict[str, Json]) -> str | None:
        """Why it would not get its address back; None when it would, unless somebody takes it."""

    def about_return(self, network: str, endpoint: dict[str, Json]) -> Sequence[str]:
        """What a person should know of its way back, for the plan."""

    def sharers(self) -> Sequence[str]:
        """The names of the containers that run in its network."""

    def protected_sharer(self) -> str | None:
        """Which of these must not be touched, and why; None when there is none."""


@runtime_checkable
class CanBeMadeAgain(IsContainer, Protocol):
    """A container that can be removed, and made again by others or from what was kept of it."""

    @property
    def made_by(self) -> str:
        """Who makes it again when it is gone, as its labels say; empty when nobody does."""

    @property
    def has_role(self) -> bool:
        """Whether a successor could be told: a container named by its id has none."""

    def newcomers(self) -> Sequence[str]:
        """For people: those that have come since, once as many match and run as did then. Raises
        ChaoskitError when the daemon does not answer."""

    def kept(self) -> dict[str, Json]:
        """All that it takes to make it again, `told` in it for people. Raises Gone."""

    def why_not_again(self, kept: Mapping[str, Json]) -> str | None:
        """Why it could not be made again as it is; None when it could."""

    def lost(self, kept: Mapping[str, Json]) -> Sequence[str]:
        """What will be otherwise when it is made again, for the plan."""

    def get_ready(self, kept: dict[str, Json]) -> None:
        """Make a double of it that is not started: it holds the image and the volumes, and what
        the daemon does not take is known before anything is removed."""

    def remove(self) -> None:
        """Remove it, running or not. Its volumes stay. An undo that finds it soon afterwards knows
        that it is doomed. Raises Gone."""

    def standing(self, kept: dict[str, Json]) -> tuple[Standing, str]:
        """What has become of it, and for people what is otherwise. Raises Gone when somebody else
        has removed it, or made one of its name, or removed the one that was made again."""

    def make_again(self, kept: dict[str, Json]) -> None:
        """Its double takes its name and is started, whatever part of that was done before; the
        double of one that was never removed goes. Raises ChaoskitError, Gone."""
