"""Where a folder that a process names lies on this machine.

A process in a container or a chroot calls `/data` what has another path here. The path here stays
valid when the process has ended, which one through /proc/PID/root does not.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from chaoskit.errors import ChaoskitError
from chaoskit.mounts import Mount, below, mount_at, mount_number, mounts_of
from chaoskit.procfs import Process

_LINKS = 40
"""Symbolic links on one path after which the kernel gives up too."""


@dataclass(frozen=True, slots=True)
class Folder:
    """path: on this machine. mount: by which the process sees it; None when it sees what we see."""

    path: str
    mount: Mount | None = None


def on_this_machine(process: Process, path: str) -> Folder:
    """The folder that the process calls `path` (relative to where it works), with its links
    followed as the process follows them. Raises Gone, OSError, and ChaoskitError when the folder
    has no path here: what we leave there could not be taken away once the process has ended."""
    root = f"/proc/{process.pid}/root"
    inner = path if path.startswith("/") else f"{_inside(root, process.cwd())}/{path}"
    if _same_root(process):
        found = Folder(str(Path(inner).resolve(strict=True)))
    else:
        found = _outside(process, followed(root, inner))
    process.stat()  # What was found is of this incarnation if it is alive after the looking.
    return found


def lasting(path: str) -> str:
    """A path of ours that stays when what is mounted there is not mounted any more: what is written
    in a container's overlay lies in a folder of its own, and is there when the container starts
    again."""
    mount = mount_at(path, mounts_of())
    upper = mount.setting("upperdir") if mount and mount.kind == "overlay" else None
    if mount is None or upper is None or not os.path.isdir(upper):
        return path
    return f"{os.path.realpath(upper)}{below(path, mount.point)}"


def reachable(path: str) -> str:
    """The other way: where such a path is to be used now. While an overlay is mounted, nothing may
    be changed in the folders below it."""
    for mount in mounts_of():
        upper = mount.setting("upperdir") if mount.kind == "overlay" else None
        if upper and (inside := below(path, os.path.realpath(upper))) is not None:
            return f"{mount.point.rstrip('/')}{inside}"
    return path


def _same_root(process: Process) -> bool:
    ours, theirs = (f"/proc/{who}" for who in ("self", process.pid))
    if os.readlink(f"{theirs}/ns/mnt") != os.readlink(f"{ours}/ns/mnt"):
        return False
    return os.path.samefile(f"{theirs}/root", f"{ours}/root")


def _inside(root: str, path: str) -> str:
    """A path as /proc shows it, which is from our root, as the process in a chroot calls it."""
    beyond = os.readlink(root).rstrip("/")
    return path.removeprefix(beyond) if path.startswith(f"{beyond}/") or path == beyond else path


def followed(root: str, path: str) -> str:
    """The path without symbolic links: the kernel would follow absolute ones from our own root,
    out of the process's world and into ours."""
    todo, done, links = path.split("/")[::-1], list[str](), 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
        if part in ("", ".", ".."):
            continue
        try:
            link = os.readlink("/".join((root, *done, part)))
        except OSError as error:
            if error.errno != errno.EINVAL:  # It is no link.
                raise
            done.append(part)
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if link.startswith("/"):
            done.clear()
        todo += link.split("/")[::-1]
    return "/" + "/".join(done)


def _outside(process: Process, inner: str) -> Folder:
    """The folder that the process calls `inner`, which has no links in it."""
    folder = os.open(f"/proc/{process.pid}/root{inner}", os.O_PATH | os.O_CLOEXEC)
    try:
        wanted, number = os.fstat(folder), mount_number(folder)
        candidates = [os.readlink(f"/proc/self/fd/{folder}")]
    finally:
        os.close(folder)
    theirs = next((one for one in mounts_of(process.pid) if one.number == number), None)
    if theirs is not None and (inside := below(inner, theirs.point)) is not None:
        at = f"{theirs.top.rstrip('/')}{inside}" or "/"
        for ours in mounts_of():
            if ours.device == theirs.device and (inside := below(at, ours.top)) is not None:
                candidates.append(f"{ours.point.rstrip('/')}{inside}" or "/")
    for candidate in candidates:
        try:
            if os.path.samestat(os.stat(candidate), wanted):
                return Folder(os.path.realpath(candidate), theirs)
        except OSError:
            continue
    raise ChaoskitError(
        "only the process itself can see it, so nothing could be taken away after its end"
    )
