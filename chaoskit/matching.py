"""Which processes are meant: the keys that a target and the `process` probe share."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from chaoskit.errors import Gone, Refused
from chaoskit.model.units import Regex
from chaoskit.procfs import Process, listening, processes

_OURS = re.compile(r"chaoskit-\d{8}-\d{6}-[0-9a-f]{6}(-.*)?")
"""An argument that only a guardian or a helper of ours has."""
_PID_FILE = 64
"""Bytes of a pid file that are read."""
_PROBE = re.compile(rb"CHAOSKIT_COMMAND=chaoskit-\d{8}-\d{6}-[0-9a-f]{6}-probe")


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@dataclass(frozen=True)
class ProcessMatch:
    """Processes by what they are; several keys mean and. chaoskit's own never match: this
    process, its ancestors, every guardian and every helper."""

    name: str | None = field(
        default=None, metadata=_doc("the command's name, or the file name of its program")
    )
    cmdline: Regex | None = field(
        default=None,
        metadata=_doc("is searched for in the command line, its words joined by one space"),
    )
    pid: int | None = field(default=None, metadata=_doc("one process by its number"))
    pidfile: str | None = field(default=None, metadata=_doc("a file with the process's number"))
    port: int | None = field(
        default=None, metadata=_doc("the TCP port it listens on, or the UDP port it is bound to")
    )
    user: str | None = field(default=None, metadata=_doc("the user it runs as, a name or a number"))
    cgroup: str | None = field(
        default=None, metadata=_doc("a control group it is in: its path, or one above it")
    )
    children_of: int | Regex | None = field(
        default=None, metadata=_doc("its parent, by number or by a search in its command line")
    )

    def __post_init__(self) -> None:
        # Whoever undoes this run may work in another folder.
        if isinstance(self.pidfile, str):
            object.__setattr__(self, "pidfile", os.path.abspath(self.pidfile))

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong between the keys, as (key, message)."""
        if all(getattr(self, f.name) is None for f in fields(ProcessMatch)):
            return [("", "say which processes: name, cmdline, pid, pidfile, port, user, cgroup "
                         "or children-of")]  # fmt: skip
        found = []
        if self.pid is not None and self.pid < 1:
            found.append(("pid", "a process number is 1 or more"))
        if self.port is not None and not 1 <= self.port <= 65535:
            found.append(("port", "a port is between 1 and 65535"))
        return found

    def written(self) -> str:
        """As a file would write it, on one line."""
        parts = []
        for item in fields(ProcessMatch):
            if (value := getattr(self, item.name)) is not None:
                parts.append(f"{item.name.replace('_', '-')}={value}")
        return " ".join(parts)

    def find_processes(self, spare: Collection[str] = ()) -> list[Process]:
        """All that match now, by pid. Raises Refused when one cannot look: a port whose owner is
        hidden from us, a pid file that holds no number.

        spare: keys of processes that are left out as well.
        """
        tests = list(self._tests())
        spared = self_and_ancestors()
        found = []
        for process in self._candidates():
            if process.pid in spared:
                continue
            with contextlib.suppress(Gone, PermissionError):
                wanted = process.key not in spare and all(test(process) for test in tests)
                if wanted and not of_chaoskit(process):
                    found.append(process)
        return found

    def _candidates(self) -> list[Process]:
        pid = self.pid
        if pid is None and self.pidfile is not None:
            pid = _pid_in(Path(self.pidfile))
            if pid is None:
                return []
        if pid is not None:
            try:
                process = Process.at(pid)
            except Gone:
                return []
            return [process] if process.alive() else []
        if self.port is not None:
            found, whole = listening(self.port)
            if not whole:
                raise Refused(
                    f"something listens on port {self.port}, and whose it is cannot be seen "
                    f"without being root"
                )
            return found
        return processes()

    def _tests(self) -> Iterator[Callable[[Process], bool]]:
        if (name := self.name) is not None:
            yield lambda process: name in _names(process)
        if self.cmdline is not None:
            wanted = re.compile(self.cmdline)
            yield lambda process: bool(wanted.search(" ".join(process.cmdline())))
        if self.pid is not None:
            yield lambda process: process.pid == self.pid
        if self.port is not None and (self.pid is not None or self.pidfile is not None):
            listeners = {process.pid for process in listening(self.port)[0]}
            yield lambda process: process.pid in listeners
        if (user := self.user) is not None:
            yield lambda process: user in (process.user(), str(process.uid()))
        if (group := self.cgroup) is not None:
            inside = re.compile(re.escape(group.strip("/")) + r"(/|$)")
            yield lambda process: any(
                inside.match(path.lstrip("/")) or path.endswith("/" + group.strip("/"))
                for path in process.cgroups().values()
            )
        if (above := self.children_of) is not None:
            yield lambda process: _is_child(process, above)


def self_and_ancestors() -> set[int]:
    """The pids of this process and of all above it, but pid 1."""
    own = Process.at(os.getpid())
    return {own.pid, *(p.pid for p in own.ancestors() if p.pid != 1)}


def of_chaoskit(process: Process) -> bool:
    """Whether it is a guardian or a helper of some run."""
    if any(_OURS.fullmatch(word) for word in process.cmdline()):
        return True
    # Nor is a command that a probe has just started what anybody means.
    with contextlib.suppress(PermissionError):
        return any(_PROBE.fullmatch(entry) for entry in process.environ())
    return False


def _names(process: Process) -> set[str]:
    names = {process.name()}
    words = process.cmdline()
    if words:
        names.add(Path(words[0]).name)
    with contextlib.suppress(PermissionError):
        names.add(Path(process.exe()).name)
    return names


def _is_child(process: Process, above: int | str) -> bool:
    parent = process.parent()
    if parent is None:
        return False
    if isinstance(above, int):
        return parent.pid == above
    return bool(re.search(above, " ".join(parent.cmdline()))) and not of_chaoskit(parent)


def _pid_in(path: Path) -> int | None:
    """The number in a pid file; None when there is no file. Raises Refused when it is no number."""
    try:
        # A named pipe would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            text = (file.read(_PID_FILE) or b"").decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"the pid file {path} cannot be read: {error.strerror}") from error
    number = text.split()[0] if text else ""
    if not number.isdecimal():
        raise Refused(f"the pid file {path} holds no number: {number[:40]!r}")
    return int(number)
