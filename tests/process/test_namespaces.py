"""Network namespaces are entered by number, whoever is in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.namespaces import in_network, in_new_network, members, network_of, number_of
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
        number, (_, child) = number_of(process), inside(process)
        assert in_network(number, process, where) == number
        end(process)
        assert in_network(number, process, where) == number
        end(child)
        with pytest.raises(Gone):
            in_network(number, process, where)


def test_a_process_that_has_gone_elsewhere_is_no_way_into_it() -> None:
    with apart("--net") as process, apart("--net") as other:
        number = number_of(process)
        # By a process that is now in another one: as if it had left, or another had its number.
        assert in_network(number, other, where) == number


def test_it_is_found_where_only_a_mount_holds_it(tmp_path: Path) -> None:
    held = tmp_path / "net"
    held.touch()
    try:
        with apart(f"--net={held}") as process:
            number, (_, child) = number_of(process), inside(process)
            end(process)
            end(child)
            assert in_network(number, process, where) == number
    finally:
        subprocess.run(["umount", str(held)], check=True)
    with pytest.raises(Gone):
        in_network(number, process, where)


def test_the_rest_of_us_stays_at_home() -> None:
    home = where()
    with apart("--net") as process:
        made = in_network(number_of(process), process, lambda: (where(), socket.socket()))
        assert made[0] == number_of(process) != home
        made[1].close()
    assert in_new_network(where) != home
    assert where() == home == int(network_of(Process.at(os.getpid()))[5:-1])
