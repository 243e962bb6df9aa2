"""The network of a container whose processes are not to be seen from here: nft runs in a helper
container of an image that the user names, which its daemon puts into that network for a moment.

A helper carries the mark of its step in a label, and is removed when it has ended. One whose runner
died is removed, and so ended, before anybody looks at what it may have done.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from chaoskit import nft
from chaoskit.docker.client import Daemon
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.container import ContainerState

LABEL = "chaoskit.helper"
"""On every helper container: the mark of its target in its step."""
_KEY = re.compile(r"network of container ([0-9a-f]+) started (\S+)")


class FarNetwork:
    """What a container's `Network` needs where its namespace cannot be entered."""

    id: str
    binding: Binding
    helper_image: str | None

    if TYPE_CHECKING:

        @property
        def daemon(self) -> Daemon: ...
        @property
        def mark(self) -> str: ...
        @property
        def here(self) -> bool: ...
        @property
        def started(self) -> str: ...
        def state(self) -> ContainerState: ...
        def sharers(self) -> list[str]: ...
        def protected_sharer(self) -> str | None: ...

    def far_key(self) -> str:
        return f"network of container {self.id} started {self.started}"

    def far_cannot(self, body: str) -> str | None:
        """Why nft cannot put that there by a helper; None when it can. body: a table's, which is
        only checked, in a network where nobody is."""
        image = self.helper_image
        if image is None:
            return (
                "its network cannot be entered from here; `helper-image:` in the target names an "
                "image with nft in it, of which a helper container could do it"
            )
        told = self.daemon.inspect(self.id)
        mode = str((told.get("HostConfig") or {}).get("NetworkMode"))
        if mode == "host" and not self.binding.allow_host:
            return (
                "its network is that of its machine: `allow-host: true` in the blast radius "
                "allows that"
            )
        if mode == "none":
            return "it has no network but its own loopback, which is never touched"
        if mode.startswith("container:"):
            return "it uses the network of another container: take that one"
        if why := self.protected_sharer():
            return why
        if (sharing := self.sharers()) and not self.binding.allow_shared:
            return (
                f"it shares its network with {', '.join(sharing)}: `allow-shared: true` in the "
                "blast radius allows to hurt them with it"
            )
        try:
            self.daemon.look(lambda api: api.inspect_image(image))
        except Gone:
            return f"the daemon has no image {image}, which `helper-image` names"
        commands = f"create table {nft.FAMILY} trial\ntable {nft.FAMILY} trial {{\n{body}\n}}\n"
        try:
            self._nft_helper("none", ["-c", commands])
        except ChaoskitError as error:
            return f"a helper container of {image} cannot do that: {error}"
        return None

    def far_runner(self, key: str) -> nft.Runner:
        """nft by a helper in the network of that key. Raises Gone when it has ended."""
        return partial(self._far, key)

    def _far(self, key: str, arguments: Sequence[str], commands: str) -> str:
        if not (found := _KEY.fullmatch(key)):
            raise ChaoskitError(f"{key!r} is no network of a container")
        for mark, end in leftover_helper_containers(self.daemon):
            if mark == self.mark:
                end()
        state = self.state()
        if not state.runs or state.started != found[2]:
            raise Gone("its network has ended with it")
        # nft takes commands as an argument, too: nothing has to be sent to the helper.
        words = [commands] if list(arguments) == ["-f", "-"] else list(arguments)
        return self._nft_helper(f"container:{self.id}", words)

    def _nft_helper(self, network: str, words: Sequence[str]) -> str:
        image, daemon = self.helper_image, self.daemon

        def make(api: Any) -> Any:
            host = api.create_host_config(
                network_mode=network, cap_drop=["ALL"], cap_add=["NET_ADMIN"]
            )
            labels = {LABEL: self.mark, "chaoskit.protect": "true"}
            return api.create_container(
                image, command=list(words), entrypoint=["nft"], labels=labels, host_config=host
            )

        helper = str(daemon.do(make)["Id"])
        try:
            daemon.do(lambda api: api.start(helper))
            code = daemon.do(lambda api: api.wait(helper, timeout=nft.TIMEOUT))["StatusCode"]
            said = daemon.look(lambda api: api.logs(helper, stderr=False))
            told = daemon.look(lambda api: api.logs(helper, stdout=False))
        finally:
            with contextlib.suppress(Gone):
                daemon.do(lambda api: api.remove_container(helper, force=True))
        return nft.checked(int(code), said.decode(), told.decode(errors="replace"))


def _remove(daemon: Daemon, id: str) -> None:
    with contextlib.suppress(Gone):
        daemon.do(lambda api: api.remove_container(id, force=True))


def leftover_helper_containers(daemon: Daemon) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every helper container that a daemon has: its mark, and how to remove it. None where there is
    no daemon. Raises ChaoskitError when there is one that does not answer."""
    scheme, _, place = daemon.where.url.partition("://")
    if scheme == "unix" and not os.path.exists(place):
        return
    for told in daemon.containers():
        if mark := (told.get("Labels") or {}).get(LABEL):
            yield str(mark), partial(_remove, daemon, str(told["Id"]))
