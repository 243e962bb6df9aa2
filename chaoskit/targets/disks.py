"""Which disk a folder lies on, as the kernel numbers it where it limits reading and writing."""

from __future__ import annotations

import os
from pathlib import Path

from chaoskit.errors import ChaoskitError
from chaoskit.mounts import mount_at, mounts_of

_LAYERS = 8
"""Overlays that may lie on one another."""


def disk_of(folder: str) -> str:
    """`major:minor` of the whole disk under a folder of this machine. Raises ChaoskitError when
    there is none: what lies in memory or on another machine has no disk here."""
    at, mounts = folder, mounts_of()
    mount = mount_at(at, mounts)
    for _ in range(_LAYERS):
        upper = mount.setting("upperdir") if mount and mount.kind == "overlay" else None
        if upper is None:
            break
        at, mount = upper, mount_at(os.path.realpath(upper), mounts)
    device = os.stat(at).st_dev
    if not os.major(device):
        # Some file systems number themselves; what they are mounted from is the disk.
        source = mount.source if mount else ""
        if not (source.startswith("/") and Path(source).is_block_device()):
            raise ChaoskitError(f"{folder} lies on no disk ({mount.kind if mount else 'unknown'})")
        device = os.stat(source).st_rdev
    return _whole(f"{os.major(device)}:{os.minor(device)}")


def _whole(number: str, devices: Path = Path("/sys/dev/block")) -> str:
    """The disk that a partition is a part of: limits are the whole disk's."""
    at = devices / number
    if not (at / "partition").exists():
        return number
    return (at.resolve().parent / "dev").read_text().strip()
