"""How much of a file system always stays free, whatever a fault wants."""

from __future__ import annotations

import os

from chaoskit.cgroups import memory_free, own_groups
from chaoskit.mounts import mounts_of

SHARE = 0.05
DISK_BYTES = 256 * 1024 * 1024
"""Of a disk of the machine that share or so many bytes stay free, whichever is more."""
OWN_BYTES = 1024 * 1024
"""The same of a file system that is a container's own (a small volume in memory): nobody else's
files are on it, and more would leave nothing to fill."""
IN_MEMORY = ("tmpfs", "ramfs")


def kept_free(folder: str | int, free: int, whole: int, own: bool) -> int:
    """Bytes that stay free where that folder lies (a path, or open), of which so many are free now.
    own: nothing but the target's files are there. What lies in memory keeps the memory's reserve
    as well."""
    kept = max(int(whole * SHARE), OWN_BYTES if own else DISK_BYTES)
    if _kind(folder) in IN_MEMORY:
        # Who writes is who pays for the memory, and that are we.
        kept = max(kept, free - memory_free(own_groups())[1])
    return kept


def _kind(folder: str | int) -> str:
    """The kind of file system."""
    device = os.stat(folder).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    return next((mount.kind for mount in mounts_of() if mount.device == name), "")
