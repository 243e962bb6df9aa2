"""Containers that are never touched, whatever a file says, and why."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from chaoskit.errors import Gone
from chaoskit.matching import of_chaoskit, self_and_ancestors
from chaoskit.procfs import Process, processes
from chaoskit.targets.protect import runs_chaoskit

PROTECT = "chaoskit.protect"
"""The label that protects a container, with the value `true`."""
_HELPERS = ("moby/buildkit", "docker/desktop-", "docker/volumes-backup", "tonistiigi/binfmt")
_ID = re.compile(r"[0-9a-f]{64}")
_MOUNTED = re.compile(
    r"/(?:containers|overlay-containers)/([0-9a-f]{64})/(?:userdata/)?"
    r"(?:hostname|hosts|resolv\.conf) "
)


def why_protected(told: Mapping[str, Any], ours: frozenset[str]) -> str | None:
    """Why this container (as the daemon's list tells of it) must not be touched; None when it may.

    ours: the ids of the containers that chaoskit runs in.
    """
    labels: Mapping[str, str] = told.get("Labels") or {}
    if labels.get(PROTECT, "").lower() in ("true", "1", "yes"):
        return f"its label {PROTECT} says so"
    if str(told["Id"]) in ours:
        return "chaoskit runs in it"
    image = str(told.get("Image", "")).removeprefix("docker.io/")
    if image.startswith(_HELPERS):
        return f"{image} is a helper of the daemon's own"
    if labels.get("io.kubernetes.docker.type") == "podsandbox":
        return "it holds the namespaces of a pod"
    return None


def with_chaoskit() -> frozenset[str]:
    """The ids of the containers on this machine in which chaoskit runs: us, and other runs. (A
    helper that was only put into a container's control groups sees our files, not the container's.)
    """
    own = self_and_ancestors()
    ours = Process.at(os.getpid()).namespace("mnt")
    found = mounted_into_us()
    for process in processes():
        try:
            another = of_chaoskit(process) or runs_chaoskit(process.cmdline())
            if process.pid in own or (another and process.namespace("mnt") != ours):
                found.update(container_ids(process))
        except (Gone, PermissionError):
            continue
    return frozenset(found)


def lodgers(root: Process, id: str, modes: Mapping[str, Any]) -> set[str]:
    """The ids of the other containers that have processes among those of the container of that id,
    or in its shared memory, where both are its own.

    root: its first process. modes: its `HostConfig`. Raises Gone, and PermissionError where some
    process must not be looked at.
    """
    lent = [
        (kind, root.namespace(kind))
        for kind, mode in (("pid", "PidMode"), ("ipc", "IpcMode"))
        if not str(modes.get(mode) or "").startswith(("container:", "host"))
    ]
    found: set[str] = set()
    for process in processes():
        with contextlib.suppress(Gone):
            if any(process.namespace(kind) == own for kind, own in lent):
                inside = container_ids(process)
                found |= inside if id not in inside else set()
    return found


def container_key(id: str) -> str:
    """By what a run holds a container, and what is in it."""
    return f"container {id}"


def mounted_into_us(mounts: str = "/proc/self/mountinfo") -> set[str]:
    """The container that we are in, by the files that its daemon has mounted into it: one with a
    view of its own of the control groups sees no id there."""
    try:
        with open(mounts) as file:
            return set(_MOUNTED.findall(file.read()))
    except OSError:
        return set()


def container_ids(process: Process) -> set[str]:
    """The containers that a process is in, by the names of its control groups; in a container that
    has a view of its own, none is to be seen. Raises Gone."""
    return {found for path in process.cgroups().values() for found in _ID.findall(path)}
