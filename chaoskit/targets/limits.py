"""The limits of a container, in the files of its control groups: nothing else can undo one.

Docker's own `update` cannot take a limit away again, and reads back what it was told rather than
what is. So the files are written, and its daemon knows nothing of it.
"""

from __future__ import annotations

import os

from chaoskit.cgroups import Group, groups_of
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.limited import Limited
from chaoskit.procfs import Process
from chaoskit.targets.limit_files import DISKS, Knob, controller, knob, used
from chaoskit.targets.rooted import Rooted

_WORD = "limit"
_V1_WRITES = (
    "of what is written only that is slowed which the writer waits for (fsync, O_DIRECT): control "
    "groups of version 1 do not count the rest as its own"
)


class Limits(Rooted):
    """Gives the capability `HasLimits`."""

    group_name = ""
    """What is in the name of the target's own group; without it, the group of its root is meant."""

    def limited(self, what: str, path: str) -> Limited:
        group, at = self._place(what, path)
        text = at.read(group)
        if text is None:
            raise ChaoskitError(f"the control group {group.folder} has no {at.file}")
        if not group.may_write(at.file):
            raise ChaoskitError(f"we may not write {group.folder}/{at.file}: be root")
        # A group above may have no file (the topmost of version 2), or a tighter limit.
        found = [(one, at.read(one)) for one in group.with_those_above()]
        most = min(at.number(text, one) for one, text in found if text is not None)
        if what == "cpu":
            most = min(most, len(self.cpus()))
        if what == "memory":
            most = min(most, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        return Limited(
            key=" ".join(filter(None, (_WORD, self.root.key, what, at.file, at.part))),
            text=text,
            most=most,
            used=used(what, group),
            remark=_V1_WRITES if what == "write" and group.version == 1 else "",
        )

    def cpus(self) -> list[int]:
        """The processors that the target may run on."""
        raise NotImplementedError

    def limit_text(self, what: str, path: str, most: float) -> str:
        group, at = self._place(what, path)
        return at.text(most, group)

    def limit_now(self, key: str) -> str:
        process, group, at = self._of_key(key)
        text = at.read(group)
        process.stat()  # What was read is of this incarnation if it is alive after the reading.
        if text is None:
            raise Gone(f"the control group {group.folder} is gone")
        return text

    def set_limit(self, key: str, text: str) -> None:
        process, group, at = self._of_key(key)
        group.write(at.file, at.line(text), process)

    def _place(self, what: str, path: str) -> tuple[Group, Knob]:
        from chaoskit.targets.disks import disk_of
        from chaoskit.targets.folders import on_this_machine

        group = self._group(self.root, what)
        try:
            disk = disk_of(on_this_machine(self.root, path).path) if what in DISKS else ""
        except OSError as error:
            self.root.stat()
            raise ChaoskitError(f"there is no folder {path}: {error.strerror}") from error
        except Gone:
            raise
        except ChaoskitError as error:
            raise ChaoskitError(f"{path} lies on no disk that could be limited: {error}") from error
        return group, knob(what, group.version, disk)

    def _of_key(self, key: str) -> tuple[Process, Group, Knob]:
        _, process_key, what, _, *part = key.split(" ")
        process = Process.from_key(process_key)
        group = self._group(process, what)
        return process, group, knob(what, group.version, *part[:1])

    def _group(self, process: Process, what: str) -> Group:
        groups = self.groups(process)
        for version in (2, 1):
            group = groups.get(controller(what, version))
            if group is not None and group.version == version:
                return group.named(self.group_name)
        raise ChaoskitError(f"no control group on this machine limits that ({what})")

    def groups(self, process: Process) -> dict[str, Group]:
        """The control groups of a process, by controller. Raises Gone."""
        return groups_of(process)
