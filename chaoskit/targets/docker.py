"""Containers of a Docker daemon as targets."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.docker.match import ContainerMatch, name_of
from chaoskit.errors import ChaoskitError, Refused
from chaoskit.model.binding import Binding
from chaoskit.model.target import Selector, Target
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.docker_protect import with_chaoskit


@dataclass(frozen=True)
class DockerSelector(ContainerMatch, Selector):
    """Containers of a Docker daemon, or of Podman's compatible socket."""

    helper_image: str | None = field(
        default=None,
        metadata={
            "doc": "an image with nft in it, for network faults where the daemon is on another "
            "machine: a helper container of it does what we cannot do from here"
        },
    )
    kind = "docker"
    target = ContainerTarget

    def find(self, binding: Binding) -> list[Target]:
        daemon = self.daemon()
        try:
            matching = self.matching()
        except ChaoskitError as error:
            raise Refused(str(error)) from error
        running = [told for told in matching if told.get("State") in ("running", "paused")]
        if matching and not running:
            states = ", ".join(f"{name_of(told)} is {told.get('State')}" for told in matching[:4])
            raise Refused(f"{self.describe()} matches nothing that runs: {states}")
        ours = with_chaoskit() if running else frozenset()
        peers = frozenset(str(told["Id"]) for told in running)
        return [
            ContainerTarget(
                daemon.where,
                str(told["Id"]),
                name_of(told),
                str(told.get("Image")),
                binding,
                self,
                peers,
                found=told,
                ours=ours,
                helper_image=self.helper_image,
            )
            for told in running
        ]

    def describe(self) -> str:
        return f"docker {self.written()}"
