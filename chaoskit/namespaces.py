"""Working inside the network namespace of a process, from one thread of ours.

A thread enters it, does the work and ends; the rest of us never leaves home. What is opened there
(a netlink socket, a process that is started) stays there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.procfs import Process, processes

R = TypeVar("R")
_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace of this boot. number: of its inode, which the kernel gives to another one
    as soon as it has ended. cookie: which it gives once only; None before Linux 5.14."""

    number: int
    cookie: int | None = None

    def __str__(self) -> str:
        return f"{self.number}" if self.cookie is None else f"{self.number}/{self.cookie}"


def network_of(process: Process) -> str:
    """The network namespace of a process, by its number: `net:[4026531840]`. Raises Gone,
    PermissionError."""
    return process.namespace("net")


def in_network_of(process: Process, work: Callable[[], R]) -> R:
    """What `work` returns or raises, done in that process's network namespace. Raises Gone when the
    process has ended, ChaoskitError when we may not enter."""
    with _opened(process) as namespace:
        return _in_thread(lambda: _enter(namespace), work)


def namespace_of(process: Process) -> Namespace:
    """The network namespace that it is in. Raises as `in_network_of` does."""
    with _opened(process) as namespace:
        cookie = _in_thread(lambda: _enter(namespace), cookie_here)
        return Namespace(os.fstat(namespace).st_ino, cookie)


def cookie_here() -> int | None:
    """That of the network namespace of the calling thread; None when the kernel has none."""
    with socket.socket(socket.AF_UNIX) as inside:
        try:
            told = inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return None
    return int(struct.unpack("=Q", told)[0])


def in_network(
    where: Namespace, process: Process, work: Callable[[], R], *, living: bool = False
) -> R:
    """The same in that network namespace, whoever is in it: it may be shared, and live on when the
    process by which it is known has ended. Raises Gone when nobody is, and ChaoskitError when we
    may not enter.

    living: where the kernel has no cookies, only while that process lives: another namespace may
    have the number by now, and nothing may be put there.
    """
    if living and where.cookie is None:
        with _opened(process) as namespace:
            if os.fstat(namespace).st_ino != where.number:
                raise Gone(f"process {process.pid} is in another network namespace by now")
            return _in_thread(partial(_enter, namespace), work)
    for path in _ways_into(where.number, process):
        try:
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise ChaoskitError(f"a network namespace may not be entered: {error}") from error
        except OSError:
            continue
        try:
            # Looked at when it is open: from then on it is that namespace and stays it.
            if os.fstat(namespace).st_ino == where.number:
                return _in_thread(partial(_enter_that, namespace, where), work)
        finally:
            os.close(namespace)
    raise Gone(f"network namespace {where}, of process {process.pid}, has ended")


def _ways_into(number: int, process: Process) -> Iterator[str]:
    yield f"/proc/{process.pid}/ns/net"
    for member in members(number):
        yield f"/proc/{member.pid}/ns/net"
    for mounted, path in _mounted():
        if mounted == number:
            yield path


def number_of(process: Process) -> int:
    """The number of its network namespace. Raises Gone, PermissionError."""
    return int(network_of(process)[5:-1])  # net:[4026531840]


def pid_namespace() -> str:
    """Among which processes a number is one's own (`pid:[4026531836]`); empty if not known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def members(number: int) -> Iterator[Process]:
    """The processes in the network namespace of that number, as far as we may look."""
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if number_of(process) == number:
                yield process


def networks() -> tuple[dict[int, Process], int]:
    """Every network namespace on this machine that a process is in, by number, with one that is;
    and of how many processes we may not know the network."""
    found: dict[int, Process] = {}
    hidden = 0
    for process in processes():
        try:
            found.setdefault(number_of(process), process)
        except PermissionError:
            hidden += 1
        except Gone:
            continue
    return found, hidden


def _mounted() -> list[tuple[int, str]]:
    """Namespaces that are held by a mount, as dockerd holds those of containers."""
    found = []
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[3].startswith("net:["):
                found.append((int(fields[3][5:-1]), fields[4]))
    return found


def in_new_network(work: Callable[[], R]) -> R:
    """The same in a network namespace of its own, which is gone afterwards: to try out what the
    kernel can do. Raises ChaoskitError when we may not make one."""
    return _in_thread(lambda: _call("unshare", _CLONE_NEWNET), work)


@contextlib.contextmanager
def _opened(process: Process) -> Iterator[int]:
    try:
        namespace = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        process.stat()
        raise
    except PermissionError as error:
        process.stat()
        raise ChaoskitError(f"its network namespace may not be entered: {error}") from error
    try:
        process.stat()  # What was opened is of this incarnation if it is alive after the opening.
        yield namespace
    finally:
        os.close(namespace)


def _in_thread(enter: Callable[[], None], work: Callable[[], R]) -> R:
    done: list[R] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            enter()
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _enter(namespace: int) -> None:
    _call("setns", namespace, _CLONE_NEWNET)


def _enter_that(namespace: int, where: Namespace) -> None:
    """Raises Gone when it only has the number of the one that was meant."""
    _enter(namespace)
    if where.cookie is not None and cookie_here() != where.cookie:
        raise Gone(f"network namespace {where} has ended: another one has its number")


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        error = os.strerror(ctypes.get_errno())
        raise ChaoskitError(f"a network namespace may not be entered: {error}")
