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
from typing import TypeVar

from chaoskit.errors import ChaoskitError
from chaoskit.procfs import Process

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
