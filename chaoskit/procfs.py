"""A thin reader of /proc: processes by incarnation, their trees, their sockets, their limits.

Ours because everything hangs on the incarnation (pid, start time and boot), which must never be
confused with a successor of the same pid. See proc(5) for the fields.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal as signals
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from chaoskit.errors import ChaoskitError, Gone

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATE, _PPID, _FLAGS, _UTIME, _STIME, _THREADS, _START, _RSS = 0, 1, 6, 11, 12, 17, 19, 21
# Positions in /proc/PID/stat, counted after the command's closing parenthesis.
_ARGS_END, _ENV_END = 46, 48
_KERNEL_THREAD = 0x00200000
_EXEC = 5.0
"""Seconds that one exec may take on a machine that has no time for it."""


@cache
def boot_id() -> str:
    """This boot's id: a key of another boot names a process that is surely gone."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip().replace("-", "")[:8]


@dataclass(frozen=True, slots=True)
class Process:
    """One incarnation. Every method but `key` and `alive` raises Gone once it has ended, and
    PermissionError where the kernel does not let us see. start: clock ticks since the boot."""

    pid: int
    start: int
    boot: str

    @classmethod
    def at(cls, pid: int) -> Process:
        """The process that has this pid now. Raises Gone when there is none."""
        return cls(pid, int(_stat(pid)[_START]), boot_id())

    @classmethod
    def from_key(cls, key: str) -> Process:
        """The process of a key; does no look-up. Raises ValueError when it is no key."""
        pid, start, boot = key.split(":")
        return cls(int(pid), int(start), boot)

    @property
    def key(self) -> str:
        return f"{self.pid}:{self.start}:{self.boot}"

    def stat(self) -> list[str]:
        """The fields of /proc/PID/stat after the command. A zombie has ended: Gone."""
        fields = _stat(self.pid)
        if self.boot != boot_id() or int(fields[_START]) != self.start or fields[_STATE] in "ZX":
            raise Gone(f"process {self.pid} has ended")
        return fields

    def alive(self) -> bool:
        try:
            self.stat()
        except Gone:
            return False
        return True

    def state(self) -> str:
        return {"T": "stopped", "t": "traced"}.get(self.stat()[_STATE], "running")

    def stopping(self) -> bool:
        """Whether it has stopped or is about to: SIGSTOP waits for it (a busy machine delivers a
        signal late), or another of its threads has stopped already and the first has not yet."""
        # In this order: a signal that waits no more has stopped somebody, who is then seen.
        pending = 0
        for line in self._read("status").splitlines():
            if line.startswith((b"SigPnd:", b"ShdPnd:")):
                pending |= int(line.split()[1], 16)
        if pending & 1 << (signals.SIGSTOP - 1):
            return True
        fields = self.stat()
        if fields[_STATE] == "T" or fields[_THREADS] == "1":
            return fields[_STATE] == "T"
        for thread in self._list("task"):
            with contextlib.suppress(Gone):
                if _stat(f"{self.pid}/task/{thread}")[_STATE] == "T":
                    return True
        return False

    def signal(self, number: signals.Signals) -> None:
        """Send to this incarnation and to no successor of its pid: the descriptor is of whoever
        has the pid when it is opened, and that is looked at before the signal goes."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} has ended") from error
        try:
            self.stat()
            signals.pidfd_send_signal(descriptor, number)
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} has ended") from error
        finally:
            os.close(descriptor)

    def kill(self, patience: float) -> None:
        """SIGKILL, and wait until all of it is gone: its memory too, which its threads may still be
        freeing when the first of them is a zombie. Raises Gone, PermissionError, ChaoskitError when
        it has not ended so many seconds later."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} has ended") from error
        try:
            self.signal(signals.SIGKILL)
            ended = select.poll()  # select() knows no descriptor above 1023.
            ended.register(descriptor, select.POLLIN)
            if not ended.poll(patience * 1000):
                raise ChaoskitError(f"process {self.pid} was sent SIGKILL and has not ended")
        finally:
            os.close(descriptor)

    def parent(self) -> Process | None:
        """Its parent; None for pid 1 and kernel threads' root."""
        pid = int(self.stat()[_PPID])
        return Process.at(pid) if pid else None

    def ancestors(self) -> list[Process]:
        """Its parents, the nearest first, as far as they live."""
        found: list[Process] = []
        with contextlib.suppress(Gone):
            at = self.parent()
            while at is not None:
                found.append(at)
                at = at.parent()
        return found

    def cmdline(self) -> list[str]:
        """Its arguments; empty for a kernel thread."""
        data = self._begun("cmdline", _ARGS_END)
        return [os.fsdecode(part) for part in data.rstrip(b"\0").split(b"\0")] if data else []

    def name(self) -> str:
        return os.fsdecode(self._read("comm").rstrip(b"\n"))

    def uid(self) -> int:
        """Its effective user id."""
        for line in self._read("status").splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[2])
        raise Gone(f"process {self.pid} has ended")

    def user(self) -> str:
        import pwd

        try:
            return pwd.getpwuid(self.uid()).pw_name
        except KeyError:
            return str(self.uid())

    def kernel_thread(self) -> bool:
        return bool(int(self.stat()[_FLAGS]) & _KERNEL_THREAD)

    def environ(self) -> list[bytes]:
        """What it was started with, `NAME=value` each."""
        return self._begun("environ", _ENV_END).split(b"\0")

    def _begun(self, name: str, ends: int) -> bytes:
        """What a program is given when it begins. In the middle of an exec the kernel shows nothing
        for a moment: the end of that is waited for, or somebody would be overlooked."""
        end = time.monotonic() + _EXEC
        found = self._read(name)
        while not found:
            before = self.stat()
            if int(before[_FLAGS]) & _KERNEL_THREAD:
                break
            found = self._read(name)
            # The same program all the while really has none.
            if found or self.stat()[ends] == before[ends] != "0" or time.monotonic() > end:
                break
            time.sleep(0.0005)
        return found

    def cgroups(self) -> dict[str, str]:
        """The paths of its control groups, by their controllers (`cpu,cpuacct`; nothing stands for
        version 2)."""
        lines = os.fsdecode(self._read("cgroup")).splitlines()
        parts = (line.split(":", 2) for line in lines if line.count(":") >= 2)
        return {controllers: path for _, controllers, path in parts}

    def mapped(self) -> set[str]:
        """The paths of the files that are mapped into its memory, its libraries among them."""
        lines = os.fsdecode(self._read("maps")).splitlines()
        return {parts[5] for line in lines if len(parts := line.split(None, 5)) == 6}

    def cwd(self) -> str:
        return self._link("cwd")

    def exe(self) -> str:
        return self._link("exe")

    def namespace(self, kind: str) -> str:
        """Which namespace of that kind (`net`, `pid`, `mnt`) it is in: `net:[4026531840]`."""
        return self._link(f"ns/{kind}")

    def cpu_seconds(self) -> float:
        fields = self.stat()
        return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS

    def age(self) -> float:
        """Seconds since it was started."""
        self.stat()
        return max(0.0, _uptime() - self.start / _TICKS)

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(self.stat()[_RSS]) * _PAGE

    def shared(self) -> int:
        """Resident memory in bytes that is of no file and shared with its children; nothing that
        an interpreter has of itself is."""
        for line in self._read("status").splitlines():
            if line.startswith(b"RssShmem:"):
                return int(line.split()[1]) * 1024
        return 0

    def io(self) -> dict[str, int]:
        """Its counters in /proc/PID/io, `rchar` and `wchar` among them."""
        lines = self._read("io").decode().splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}

    def scheduled(self) -> tuple[float, float]:
        """Seconds that it ran, and seconds that it wanted to and waited for a processor."""
        ran, waited, _ = self._read("schedstat").split()
        return int(ran) / 1e9, int(waited) / 1e9

    def threads(self) -> int:
        return int(self.stat()[_THREADS])

    def open_files(self) -> int:
        return len(self._list("fd"))

    def file_limit(self) -> tuple[int, int]:
        """RLIMIT_NOFILE as (soft, hard)."""
        self.stat()
        try:
            return resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} has ended") from error

    def set_file_limit(self, soft: int) -> None:
        hard = self.file_limit()[1]
        try:
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} has ended") from error

    def socket_inodes(self) -> set[str]:
        inodes = set()
        for name in self._list("fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{self.pid}/fd/{name}")
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
        return inodes

    def _read(self, name: str) -> bytes:
        try:
            with open(f"/proc/{self.pid}/{name}", "rb") as file:
                data = file.read()
        except PermissionError:
            self.stat()  # A zombie hides what is still there of it: it is gone, not forbidden.
            raise
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {self.pid} has ended") from error
        self.stat()  # What was read is of this incarnation if it is alive after the reading.
        return data

    def _link(self, name: str) -> str:
        try:
            target = os.readlink(f"/proc/{self.pid}/{name}")
        except PermissionError:
            self.stat()  # A zombie hides what is still there of it: it is gone, not forbidden.
            raise
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {self.pid} has ended") from error
        self.stat()
        return target

    def _list(self, name: str) -> list[str]:
        try:
            found = os.listdir(f"/proc/{self.pid}/{name}")
        except PermissionError:
            self.stat()  # A zombie hides what is still there of it: it is gone, not forbidden.
            raise
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {self.pid} has ended") from error
        self.stat()
        return found


def _uptime() -> float:
    """Seconds since the boot. Not by /proc/uptime, which is the container's own where lxcfs makes
    it, but for a clock that libfaketime tells: that knows no such clock."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except OSError:
        with open("/proc/uptime") as file:
            return float(file.read().split()[0])


def _stat(pid: int | str) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Gone(f"process {pid} has ended") from error
    return data.rpartition(b")")[2].decode().split()


@cache
def machine_id() -> str:
    """What stays over reboots and differs between machines (see machine-id(5)); empty where there
    is none, as in many containers."""
    try:
        with open("/etc/machine-id") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def processes() -> list[Process]:
    """Every living process, by pid."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(Gone):
                fields = _stat(int(name))
                if fields[_STATE] not in "ZX":
                    found.append(Process(int(name), int(fields[_START]), boot_id()))
    return sorted(found, key=lambda process: process.pid)


def tree(root: Process) -> list[Process]:
    """The process and all below it, parents first; empty when it has ended."""
    if not root.alive():
        return []
    children: dict[int, list[Process]] = {}
    for process in processes():
        with contextlib.suppress(Gone):
            children.setdefault(int(process.stat()[_PPID]), []).append(process)
    found = [root]
    for process in found:
        found.extend(children.get(process.pid, ()))
    return found


def not_inherited() -> list[tuple[int, int]]:
    """For posix_spawn: closes what whoever called chaoskit has left open for it, whose pipe would
    hang on the child, and which would count as the child's."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # What is above it, it refuses to close.
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if 2 < number < most and os.get_inheritable(number):
                found.append((os.POSIX_SPAWN_CLOSE, number))
    return found


def with_argument(text: str) -> list[Process]:
    """The living processes that have exactly this among their arguments."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if text in process.cmdline():
                found.append(process)
    return found


def with_environment(assignment: bytes) -> list[Process]:
    """The living processes, as far as we may look, that were started with `NAME=value`."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if assignment in process.environ():
                found.append(process)
    return found


def listening(port: int) -> tuple[list[Process], bool]:
    """The processes that listen on a TCP port or are bound to a UDP port, and whether that is all
    there is to see: False when a socket's owner is hidden from us."""
    wanted = set(_inodes(port))
    found, seen = [], set()
    for process in processes() if wanted else ():
        with contextlib.suppress(Gone, PermissionError):
            if mine := process.socket_inodes() & wanted:
                found.append(process)
                seen |= mine
    return found, seen == wanted


def _inodes(port: int) -> Iterable[str]:
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        try:
            with open(f"/proc/net/{name}") as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == state:
                yield fields[9]
