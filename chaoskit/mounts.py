"""What is mounted where, as /proc/PID/mountinfo tells it (see proc_pid_mountinfo(5))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chaoskit.errors import Gone


@dataclass(frozen=True, slots=True)
class Mount:
    """One line. top: which folder of the file system is seen there. point: where. kind: of the file
    system. device: `major:minor`. flags: of this mount; settings: of the file system behind it."""

    number: int
    device: str
    top: str
    point: str
    flags: tuple[str, ...]
    kind: str
    source: str
    settings: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.flags or "ro" in self.settings

    def setting(self, name: str) -> str | None:
        """The value of `name=value`."""
        for setting in self.settings:
            if setting.startswith(f"{name}="):
                return setting.partition("=")[2]
        return None


def mounts_of(who: int | str = "self") -> list[Mount]:
    """What a process sees mounted, the newest first: it covers the older ones. Raises Gone when it
    has ended, PermissionError."""
    try:
        with open(f"/proc/{who}/mountinfo", errors="surrogateescape") as file:
            return parsed(file.read())
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Gone(f"process {who} has ended") from error


def parsed(text: str) -> list[Mount]:
    """The lines of a mountinfo, the last one first."""
    return [_parsed(line) for line in reversed(text.splitlines())]


def _parsed(line: str) -> Mount:
    # Between the flags and the separator stand as many tags as there are.
    before, _, after = line.partition(" - ")
    number, _, device, top, point, flags, *_ = before.split(" ")
    kind, source, settings = after.split(" ", 2)
    return Mount(
        int(number),
        device,
        plain(top),
        plain(point),
        tuple(flags.split(",")),
        kind,
        plain(source),
        tuple(plain(setting) for setting in settings.split(",")),
    )


def plain(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def below(path: str, folder: str) -> str | None:
    """What comes after the folder in the path (`/x` or nothing); None when it is not below it."""
    folder = folder.rstrip("/")
    if path.rstrip("/") == folder:
        return ""
    return path[len(folder) :] if path.startswith(f"{folder}/") else None


def mount_at(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that a path without links leads to."""
    found = [mount for mount in mounts if below(path, mount.point) is not None]
    return max(found, key=lambda mount: len(mount.point), default=None)


def mount_number(descriptor: int) -> int:
    """The number of the mount that an open file or folder was reached by."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split()[1])
    raise OSError("the kernel does not tell which mount a file is on")
