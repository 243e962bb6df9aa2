"""Faults on containers, made and undone as the engine does it, without an experiment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemons import Daemon
from docker.models.containers import Container

from chaoskit.clock import now, until
from chaoskit.errors import Gone
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.docker import DockerSelector

RUN = f"20261123-053812-{uuid.uuid4().hex[:6]}"
"""All that is hurt here is hurt by this run, which has a guardian of a kind: see `guarding`."""
SOON = 20.0
"""Seconds in which what takes a fraction of one must have happened, on a loaded machine too."""


_reading, _writing = os.pipe()
"""The lifeline of what has none of its own: it ends with this process."""


def binding(step: str = "1", run: str = RUN, **more: Any) -> Binding:
    """As a run binds its targets."""
    given = {"ends_at": now() + 100.0, "lifeline": _reading, "folder": Path("/")} | more
    return Binding(run, step, **given)


@contextlib.contextmanager
def guarding(run: str = RUN) -> Iterator[None]:
    """A process called like the guardian: other tests look for what dead runs left, everywhere."""
    words = ["/bin/sh", "-c", "read nothing", "chaoskit.engine.guardian", f"chaoskit-{run}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE):
        yield


def target(daemon: Daemon, container: Container, bound: Binding | None = None) -> ContainerTarget:
    selector = DockerSelector(name=container.name, host=daemon.url)
    (found,) = selector.find(bound or binding())
    assert isinstance(found, ContainerTarget)
    return found


def inject(fault: Fault[Any], on: ContainerTarget) -> list[Change]:
    """As the engine does it: each change is made before the next one is asked for."""
    done = []
    for change in fault.changes(on):
        fault.make(on, change)
        done.append(change)
    return done


def undo(fault: Fault[Any], on: ContainerTarget, changes: list[Change]) -> None:
    """As the guardian does it, which knows the target from the journal only."""
    again = ContainerTarget.restore(on.ref(), replace(on.binding, lifeline=None, ends_at=None))
    for change in reversed(changes):
        with contextlib.suppress(Gone):
            if fault.look(again, change) == change.put:
                fault.unmake(again, change)

    def back(change: Change) -> bool:
        with contextlib.suppress(Gone):
            return bool(fault.look(again, change) == change.was)
        return True

    for change in changes:
        assert until(lambda c=change: back(c), SOON)  # type: ignore[misc]


@contextlib.contextmanager
def hurt(fault: Fault[Any], on: ContainerTarget) -> Iterator[list[Change]]:
    """While the block runs, the fault is in, and proven at both ends of it."""
    assert fault.refuse(on) is None
    changes = inject(fault, on)
    try:
        assert until(lambda: fault.took(on, changes), SOON)
        yield changes
        assert fault.took(on, changes)
    finally:
        undo(fault, on, changes)


def in_network(on: ContainerTarget, *command: str, told: str = "") -> str:
    """Run a command of this machine in a container's network."""
    done = subprocess.run(
        ["nsenter", "-t", str(on.root.pid), "-n", *command],
        input=told,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rules(on: ContainerTarget) -> str:
    """All rules in its network, byte for byte; without what moves by itself."""
    return in_network(on, "nft", "--stateless", "list", "ruleset")
