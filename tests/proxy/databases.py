"""A real Redis and a real PostgreSQL, each with a folder and a port of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from echoes import free_port

from chaoskit.clock import until

USER = "postgres"
"""As whom PostgreSQL runs when we are root, which it refuses to be."""


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Where a Redis listens. Skips when there is none."""
    for tool in ("redis-server", "redis-cli"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}; Debian's package redis-server has it")
    address = free_address()
    port = address.rpartition(":")[2]
    with _folder() as folder:
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                   "--dir", str(folder)]  # fmt: skip
        with _running(command, signal.SIGTERM):
            assert until(lambda: _says(["redis-cli", "-p", port, "ping"], "PONG"), 20)
            yield address


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Where a PostgreSQL listens that trusts everybody. Skips when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or shutil.which("psql") is None:
        pytest.skip("no PostgreSQL or no psql; Debian's package postgresql has both")
    binaries, address = found[-1].parent, free_address()
    port = address.rpartition(":")[2]
    with _folder() as folder:
        data = folder / "data"
        _run([*_as_user(folder), str(binaries / "initdb"), "--no-sync", "--auth=trust",
              f"--username={USER}", "--encoding=UTF8", "--pgdata", str(data)])  # fmt: skip
        command = [str(binaries / "postgres"), "-D", str(data), "-p", port, "-k", str(folder),
                   "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]  # fmt: skip
        ask = ["psql", f"postgresql://{USER}@{address}/postgres?connect_timeout=2", "-Atc",
               "select 40 + 2"]  # fmt: skip
        # SIGINT is its fast shutdown: it waits for no client.
        with _running([*_as_user(folder), *command], signal.SIGINT):
            assert until(lambda: _says(ask, "42"), 30)
            yield address


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Short, since a socket's path is, and where another user gets to."""
    with tempfile.TemporaryDirectory(prefix="chaoskit-db-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _as_user(folder: Path) -> Sequence[str]:
    """What runs a command as PostgreSQL's user, whose the folder then is."""
    if os.geteuid() != 0:
        return ()
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"there is no user {USER}, and PostgreSQL does not run as root")
    os.chown(folder, user.pw_uid, user.pw_gid)
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ("setpriv", *ids, "--")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _says(command: Sequence[str], answer: str) -> bool:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=20)
    return done.stdout.strip() == answer


@contextlib.contextmanager
def _running(command: Sequence[str], end: signal.Signals) -> Iterator[None]:
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd="/", stdin=nothing, stdout=nothing, stderr=nothing)
    try:
        yield
        assert process.poll() is None, f"{command[0]} ended by itself"
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
