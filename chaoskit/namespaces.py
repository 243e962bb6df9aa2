"""Working inside the network namespace of a process, from one thread of ours.

A thread enters it, does the work and ends; the rest of us never leaves home. What is opened there
(a netlink socket, a process that is started) stays there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.procfs import Process, processes

R = TypeVar("R")
_CLONE_NEWNET = 0x40000000


def network_of(process: Process) -> str:
    """The network namespace of a process, by its number: `net:[4026531840]`. Raises Gone,
    PermissionError."""
    return process.namespace("net")


def in_network_of(process: Process, work: Callable[[], R]) -> R:
    """What `work` returns or raises, done in that process's network namespace. Raises Gone when the
    process has ended, ChaoskitError when we may not enter."""
    with _opened(process) as namespace:
        return _in_thread(lambda: _enter(namespace), work)


def in_network(number: int, process: Process, work: Callable[[], R]) -> R:
    """The same in the network namespace of that number, whoever is in it: it may be shared, and
    live on when the process by which it is known has ended. Raises Gone when nobody is, and
    ChaoskitError when we may not enter."""
    for path in _ways_into(number, process):
        try:
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise ChaoskitError(f"a network namespace may not be entered: {error}") from error
        except OSError:
            continue
        try:
            # Looked at when it is open: from then on it is that namespace and stays it.
            if os.fstat(namespace).st_ino == number:
                return _in_thread(partial(_enter, namespace), work)
        finally:
            os.close(namespace)
    raise Gone(f"the network namespace of process {process.pid} has ended with it")


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


def members(number: int) -> Iterator[Process]:
    """The processes in the network namespace of that number, as far as we may look."""
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if number_of(process) == number:
                yield process


def networks() -> dict[int, Process]:
    """Every network namespace on this machine that a process is in, by number, with one that is."""
    found: dict[int, Process] = {}
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            found.setdefault(number_of(process), process)
    return found


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


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        error = os.strerror(ctypes.get_errno())
        raise ChaoskitError(f"a network namespace may not be entered: {error}")
