"""The file system of a container: its own layer, its volumes, and what is the host's."""

from __future__ import annotations

import os
from collections.abc import Sequence

from chaoskit.mounts import below, mount_at, mounts_of
from chaoskit.targets.files import Files
from chaoskit.targets.folders import Folder
from chaoskit.targets.reserve import IN_MEMORY


class ContainerFiles(Files):
    """The capability `HasFiles` of a container whose files are on this machine."""

    def volumes(self) -> Sequence[str]:
        """The folders on this machine that are volumes of its daemon's, and in this container."""
        raise NotImplementedError

    def off_limits(self, folder: Folder) -> str | None:
        if folder.mount is None:
            return self._of_host(folder)
        for volume in self.volumes():
            if below(folder.path, volume) is not None:
                at = mount_at(volume, mounts_of())
                if at is not None and at.point == volume and at.kind not in IN_MEMORY:
                    return _passing(f"volume is a file system of its own ({at.kind})")
                return None
        if folder.mount.point != "/":
            return self._of_host(folder)
        if folder.mount.kind == "overlay" or folder.mount.top != "/":
            return None
        return _passing(f"own file system ({folder.mount.kind}) is mounted while it runs")

    def _of_host(self, folder: Folder) -> str | None:
        if self.binding.allow_host:
            return None
        return (
            f"it is {folder.path} of the host; `allow-host: true` in the blast radius allows that"
        )

    def is_own(self, folder: str | int) -> bool:
        device = os.stat(folder).st_dev
        return any(os.path.ismount(v) and os.stat(v).st_dev == device for v in self.volumes())


def _passing(what: str) -> str:
    return f"its {what}, and nothing could be taken away from there when the container has ended"
