"""A container as a fault sees it: the target of a step, with what a runner ties to it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cells
import keeper
from beside import SOON
from daemons import Daemon
from docker.models.containers import Container

from chaoskit.clock import now, until
from chaoskit.errors import Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process
from chaoskit.targets.burdens import leftover_helpers
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.docker import DockerSelector


class Box(ContainerTarget):
    """The target, held as a runner holds it. Made by `box`."""

    def hold(self) -> None:
        self._reading, self._writing = os.pipe()
        self.binding = self.bind()

    def bind(self, **more: Any) -> Binding:
        """As the runner binds it."""
        given = {"lifeline": self._reading, "ends_at": now() + 100.0} | more
        return Binding(self.binding.run, "1", self.binding.folder, **given)

    def undoing(self) -> None:
        """From now on as the guardian and `recover` bind it."""
        self.binding = Binding(self.binding.run, "1", self.binding.folder)

    def helpers(self) -> list[Process]:
        """The processes of its helpers: the one that works and the one that stays outside."""
        return [process for mark, process in leftover_helpers() if mark.startswith(self.mark)]

    def cut(self) -> None:
        """The runner is gone: nobody holds the lifeline any more."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def close(self) -> None:
        self.cut()
        for process in self.helpers():
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        assert until(lambda: not self.helpers(), SOON)
        os.close(self._reading)

    # --- what its control groups count, of either version

    def group(self, controller: str) -> Path:
        """The folder of its control group."""
        places = [keeper.CGROUPS / controller, keeper.CGROUPS]
        found = [at for place in places for at in place.glob(f"chaoskit-*/{self.id}")]
        return found[0]

    def count(self, name: str, *files: str) -> int:
        """The number in the first of these files that there is; of `file:word`, that line's."""
        for place in files:
            file, _, word = place.partition(":")
            at = self.group(name) / file
            if not at.exists():
                continue
            if not word:
                return int(at.read_text())
            lines = [line.split() for line in at.read_text().splitlines()]
            return sum(int(line[-1]) for line in lines if word in line)
        raise AssertionError(f"no {files} in {self.group(name)}")

    def cpu(self) -> float:
        """Seconds that it has used."""
        v1 = self.group("cpuacct") / "cpuacct.usage"
        if v1.exists():
            return int(v1.read_text()) / 1e9
        return self.count("cpu", "cpu.stat:usage_usec") / 1e6

    def memory(self) -> int:
        return self.count("memory", "memory.usage_in_bytes", "memory.current")

    def written(self) -> int:
        """Bytes that it has sent to disks."""
        v1 = self.group("blkio") / "blkio.throttle.io_service_bytes"
        if v1.exists():
            return self.count("blkio", "blkio.throttle.io_service_bytes:Write")
        fields = (self.group("io") / "io.stat").read_text().split()
        return sum(int(field[7:]) for field in fields if field.startswith("wbytes="))


@contextlib.contextmanager
def box(daemon: Daemon, container: Container) -> Iterator[Box]:
    """The container as it runs now."""
    run = f"20261123-053812-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="chaoskit-test-") as folder, cells.guarding(run):
        binding = Binding(run, "1", Path(folder))
        (found,) = DockerSelector(id=container.id, host=daemon.url).find(binding)
        made = Box.restore(found.ref(), binding)
        assert isinstance(made, Box)
        made.hold()
        try:
            yield made
        finally:
            made.close()
