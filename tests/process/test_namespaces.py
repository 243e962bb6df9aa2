"""Network namespaces are entered by number, whoever is in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.namespaces import (
    Namespace,
    cookie_here,
    in_network,
    in_network_of,
    in_new_network,
    members,
    namespace_of,
    network_of,
    number_of,
)
from chaoskit.procfs import Process

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"
)
SOON = 20.0


def where() -> int:
    """The number of the network namespace of the calling thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


@contextlib.contextmanager
def apart(*words: str) -> Iterator[Process]:
    """A process in a network namespace of its own, with a child in it."""
    code = "sleep 300 & exec sleep 300"
    made = subprocess.Popen(
        ["unshare", *words, "/bin/sh", "-c", code], start_new_session=True, stdin=subprocess.DEVNULL
    )
    process = Process.at(made.pid)
    try:
        assert until(lambda: len(inside(process)) == 2, SOON)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(made.pid, signal.SIGKILL)
        made.wait()


def inside(process: Process) -> list[Process]:
    number = number_of(process)
    return [] if number == where() else list(members(number))


def end(process: Process) -> None:
    process.signal(signal.SIGKILL)
    assert until(lambda: not process.alive(), SOON)


def test_it_is_found_by_whoever_is_still_in_it() -> None:
    with apart("--net") as process:
        it, (_, child) = namespace_of(process), inside(process)
        assert in_network(it, process, where) == it.number
        end(process)
        assert in_network(it, process, where) == it.number
        end(child)
        with pytest.raises(Gone):
            in_network(it, process, where)


def test_a_process_that_has_gone_elsewhere_is_no_way_into_it() -> None:
    with apart("--net") as process, apart("--net") as other:
        it = namespace_of(process)
        # By a process that is now in another one: as if it had left, or another had its number.
        assert in_network(it, other, where) == it.number


def test_another_one_that_has_its_number_by_now_is_another_one() -> None:
    with apart("--net") as process:
        it = namespace_of(process)
        if it.cookie is None:
            pytest.skip("before Linux 5.14 a network namespace has no cookie")
        before = Namespace(it.number, it.cookie + 1)
        with pytest.raises(Gone, match="another one has its number"):
            in_network(before, process, where)


def test_without_a_cookie_nothing_is_put_there_when_its_process_has_ended() -> None:
    with apart("--net") as process:
        it = Namespace(number_of(process))
        assert in_network(it, process, where, living=True) == it.number
        end(process)
        assert in_network(it, process, where) == it.number  # To take away what is ours.
        with pytest.raises(Gone):
            in_network(it, process, where, living=True)


def test_it_is_found_where_only_a_mount_holds_it(tmp_path: Path) -> None:
    held = tmp_path / "net"
    held.touch()
    try:
        with apart(f"--net={held}") as process:
            it, (_, child) = namespace_of(process), inside(process)
            end(process)
            end(child)
            assert in_network(it, process, where) == it.number
    finally:
        subprocess.run(["umount", str(held)], check=True)
    with pytest.raises(Gone):
        in_network(it, process, where)


def test_the_rest_of_us_stays_at_home() -> None:
    home = where()
    with apart("--net") as process:
        number, made, cookie = in_network_of(
            process, lambda: (where(), socket.socket(), cookie_here())
        )
        assert number == number_of(process) != home
        # What was opened there stays there.
        told = made.getsockopt(socket.SOL_SOCKET, 71, 8) if cookie is not None else b""
        assert cookie is None or int.from_bytes(told, sys.byteorder) == cookie != cookie_here()
        made.close()
    assert in_new_network(where) != home
    assert where() == home == int(network_of(Process.at(os.getpid()))[5:-1])
