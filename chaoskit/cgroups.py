"""The control groups of a process, of version 1, of version 2 or of both side by side: where their
folders are on this machine, and what is in their files. See cgroups(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaoskit.errors import ChaoskitError
from chaoskit.mounts import Mount, below, mounts_of
from chaoskit.procfs import Process

UNIFIED = ""
"""What stands for version 2 as a whole where else the name of a controller stands."""

LOAD = ("cpu", "cpuacct", "cpuset", "memory", "blkio")
"""The hierarchies of version 1 in which a helper counts as load. Not `freezer`: one that is frozen
does not die before it is thawed. Not `devices`: those in it are what a container runtime takes for
the container's processes. Not `pids`: a helper must be no reason that the target cannot fork."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of one hierarchy. top: where the hierarchy is mounted. version: 1 or 2."""

    folder: str
    top: str
    version: int

    def read(self, name: str) -> str | None:
        """What is in that file, without the newline; None when there is no such file."""
        try:
            with open(f"{self.folder}/{name}") as file:
                return file.read().rstrip("\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENODEV:  # It was removed while the file was open.
                return None
            raise

    def write(self, name: str, text: str, owner: Process) -> None:
        """Put that in the file, while `owner` lives in the group: a container that is started
        again has the same folder, and what is opened before its end is not in the new one. Raises
        Gone when it has ended, ChaoskitError when the kernel does not take it."""
        try:
            file = os.open(f"{self.folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            owner.stat()
            raise ChaoskitError(f"there is no {self.folder}/{name}") from None
        except PermissionError as error:
            raise ChaoskitError(f"we may not write {self.folder}/{name}: be root") from error
        try:
            owner.stat()
            os.write(file, text.encode())
        except OSError as error:
            owner.stat()
            raise ChaoskitError(f"the kernel does not take {text!r} as {name}: {error}") from error
        finally:
            os.close(file)

    def may_write(self, name: str) -> bool:
        return os.access(f"{self.folder}/{name}", os.W_OK)

    def counters(self, name: str) -> dict[str, int]:
        """The lines `name number` of that file; empty when there is none."""
        pairs = (line.split(" ", 1) for line in (self.read(name) or "").splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def with_those_above(self) -> list[Group]:
        """Itself first, the whole hierarchy last: a limit of each of them holds for it."""
        found, at = [self], self.folder
        while at != self.top and below(at, self.top) is not None:
            at = os.path.dirname(at)
            found.append(Group(at, self.top, self.version))
        return found

    def named(self, name: str) -> Group:
        """That one of these whose folder's name has `name` in it, the outermost; itself when none
        has: the first process of a container may have made itself a group inside."""
        fitting = [
            group for group in self.with_those_above() if name in group.folder.split("/")[-1]
        ]
        return fitting[-1] if name and fitting else self


def groups_of(process: Process) -> dict[str, Group]:
    """The groups that a process is in, by controller; `UNIFIED` too where version 2 is mounted.
    Raises Gone."""
    return placed(process.cgroups(), mounts_of())


def own_groups() -> dict[str, Group]:
    return groups_of(Process.at(os.getpid()))


def placed(paths: Mapping[str, str], mounts: Sequence[Mount]) -> dict[str, Group]:
    """The same from what /proc/PID/cgroup says (controllers, joined by commas -> path) and from
    what is mounted here. A group that cannot be seen from here is left out."""
    found: dict[str, Group] = {}
    for names, path in paths.items():
        for mount in mounts:
            inside = below(path, mount.top)
            if not _holds(mount, names) or inside is None or ".." in inside.split("/"):
                continue
            folder = mount.point.rstrip("/") + inside.rstrip("/")
            group = Group(folder, mount.point.rstrip("/"), 1 if names else 2)
            if names:
                found |= dict.fromkeys(names.split(","), group)
            else:
                # What is not listed there has a hierarchy of version 1, or is not switched on.
                usable = (group.read("cgroup.controllers") or "").split()
                found |= dict.fromkeys((UNIFIED, *usable), group)
            break
    return found


def _holds(mount: Mount, names: str) -> bool:
    if not names:
        return mount.kind == "cgroup2"
    return mount.kind == "cgroup" and set(names.split(",")) <= set(mount.settings)


def to_join(groups: Mapping[str, Group]) -> list[Group]:
    """Those that a helper joins so that what it uses counts there."""
    found = [groups[name] for name in LOAD if name in groups] or [
        group for group in groups.values() if group.version == 2
    ]
    return list(dict.fromkeys(found))


def time_group(groups: Mapping[str, Group]) -> Group | None:
    """The one that processor time is counted in: version 2 does so whatever is switched on."""
    return groups.get("cpu") or groups.get(UNIFIED)


def memory_free(groups: Mapping[str, Group]) -> tuple[int, int]:
    """Bytes that a process in these groups can take before the OOM killer is called, and those that
    it can while the reserve stays."""
    # A helper asks the same before each part that it takes: who refuses and who stops agree.
    from chaoskit.helpers import burden

    return burden.memory_free(groups["memory"].folder if "memory" in groups else "")


def held_back(group: Group | None) -> tuple[float, float]:
    """Seconds for which the quotas of that group and of those above it have kept processes of
    theirs from a processor, added up over the processors, and the longest period of these quotas:
    of what goes on just now, so much may not be counted yet."""
    total, longest = 0.0, 0.0
    for at in group.with_those_above() if group is not None else ():
        counted = at.counters("cpu.stat")
        total += counted.get("throttled_time", 0) / 1e9 + counted.get("throttled_usec", 0) / 1e6
        if at.version == 1:
            period = at.read("cpu.cfs_period_us") or "0"
        else:
            period = (at.read("cpu.max") or "max 0").split()[-1]
        longest = max(longest, int(period) / 1e6)
    return total, longest


def take_out(process: Process) -> None:
    """Bring a process into our own group as far as processor time goes, if we may: one whose group
    has used up its quota would wait for a new period even to die."""
    own = time_group(own_groups())
    with contextlib.suppress(OSError, ChaoskitError):
        if own is not None:
            own.write("cgroup.procs", str(process.pid), process)
