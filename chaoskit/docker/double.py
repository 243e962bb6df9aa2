"""The double of a container: made from its recipe, under a run's mark, before that is removed.

While it stands ready it holds the image and the volumes, and the daemon has taken all that it was
told. To make the container again is to give the double its name and to start it; whoever was killed
in the middle of that has left something that says how far it came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from chaoskit.docker import endpoints, recipe
from chaoskit.docker.client import Daemon
from chaoskit.docker.recipe import Recipe
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.container import ContainerState


class Replaced(Gone):
    """Somebody else has made one of the container's name: there is nothing to make again."""


class Double:
    """kept: the recipe. mark: its name until it takes the container's. note: a file that holds its
    id from just before that."""

    def __init__(self, daemon: Daemon, kept: Recipe, mark: str, note: Path) -> None:
        self._daemon = daemon
        self._kept = kept
        self._name = str(kept["name"])
        self._mark = mark
        self._note = note

    @property
    def was_renamed(self) -> bool:
        return self._note.exists()

    def marked(self, told: Mapping[str, Any]) -> bool:
        """Whether it still has our mark for a name."""
        return bool(told["Name"] == f"/{self._mark}")

    def found(self) -> dict[str, Any] | None:
        """What the daemon tells of it, under either name; None when there is none."""
        if told := self._inspect(self._mark):
            return told
        try:
            return self._inspect(self._note.read_text())
        except OSError:  # No file, or a folder that was lost.
            named = self.namesake()
            return named if named and recipe.looks_like_its_double(self._kept, named) else None

    def namesake(self) -> dict[str, Any] | None:
        """Whoever has the container's name now."""
        told = self._inspect(self._name)
        return told if told and told["Name"] == f"/{self._name}" else None

    def get_ready(self) -> None:
        """Make it, or what is missing of it. Raises ChaoskitError, Gone."""
        told = self.found() or self._make()
        networks: Any = self._kept["networks"]
        for name in recipe.lacks(self._kept, told):
            endpoints.attach(self._daemon, networks[name]["id"], told["Id"], networks[name])
        for name in recipe.strange(self._kept, told):
            self._daemon.do(partial(_disconnect, container=told["Id"], network=name))

    def take_over(self) -> None:
        """It gets the container's name and is started, whatever part of that was done before.
        Raises Replaced, ChaoskitError."""
        try:
            if self.found() is None and self.namesake():
                raise Replaced(f"somebody else has made {self._name} again")
            self.get_ready()
            told = self.found()
            if told is None:
                raise ChaoskitError(f"the double of {self._name} has been removed just now")
            id = str(told["Id"])
            with contextlib.suppress(OSError):  # A folder that was lost, a disk that is full.
                new = self._note.with_suffix(".new")
                new.write_text(id)
                new.rename(self._note)
            if self.marked(told):
                self._rename(id)
            self._daemon.do(lambda api: api.start(id))
            if not (state := ContainerState.of(self._daemon.inspect(id))).runs:
                raise ChaoskitError(
                    f"{self._name} was made and started again and has ended again with exit code "
                    f"{state.exit}: `docker logs` tells why"
                )
        except Replaced:
            raise
        except Gone as error:
            # A network or an image that is gone, not the container: that is to be made.
            raise ChaoskitError(f"{self._name} cannot be made again: {error}") from error

    def discard(self) -> None:
        """It goes; the daemon says no when somebody has started it. Raises ChaoskitError."""
        if told := self._inspect(self._mark):
            with contextlib.suppress(Gone):
                self._daemon.do(lambda api: api.remove_container(told["Id"]))

    def _inspect(self, container: str) -> dict[str, Any] | None:
        try:
            return self._daemon.inspect(container)
        except Gone:
            return None

    def _make(self) -> dict[str, Any]:
        volumes: Any = self._kept["volumes"]
        for volume in volumes:
            # One that is not there any more would be made anew, empty.
            try:
                self._daemon.look(partial(_volume, name=volume))
            except Gone as error:
                raise ChaoskitError(f"its volume {volume} has been removed") from error
        image = self._image()

        def ask(api: Any) -> None:
            config = recipe.creation(self._kept, image, endpoints.own_macs(api))
            api.create_container_from_config(config, self._mark)

        self._daemon.do(ask)
        return self._daemon.inspect(self._mark)

    def _image(self) -> str:
        """The image as its configuration names it while that leads to the same one, else its id."""
        config: Any = self._kept["config"]
        for name in (str(config["Image"]), str(self._kept["image"])):
            with contextlib.suppress(Gone):
                if self._daemon.look(partial(_image, name=name))["Id"] == self._kept["image"]:
                    return name
        raise ChaoskitError(f"its image {config['Image']} has been removed")

    def _rename(self, id: str) -> None:
        try:
            self._daemon.do(lambda api: api.rename(id, self._name))
        except Gone:
            raise
        except ChaoskitError as error:
            if self.namesake() is None:
                raise
            self.discard()
            raise Replaced(f"somebody else has made {self._name} again") from error


def _disconnect(api: Any, container: str, network: str) -> None:
    api.disconnect_container_from_network(container, network)


def _volume(api: Any, name: str) -> None:
    api.inspect_volume(name)


def _image(api: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.inspect_image(name)
    return found
