"""One dockerd for all tests of a pytest process, empty before each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cells
import daemons
import pytest

PROCESS = str(Path(__file__).parent.parent / "process")
"""What is done to a container is injected and proven as the tests on processes do it."""

if PROCESS not in sys.path:
    sys.path.append(PROCESS)


@pytest.fixture(scope="session")
def session_daemon() -> daemons.Daemon:
    return daemons.shared()


@pytest.fixture
def daemon(session_daemon: daemons.Daemon) -> Iterator[daemons.Daemon]:
    """A dockerd that runs and has nothing in it but images; it may be stopped, killed, frozen."""
    session_daemon.revive()
    session_daemon.empty()
    try:
        yield session_daemon
    finally:
        session_daemon.revive()
        session_daemon.empty()


@pytest.fixture
def own_daemon() -> Iterator[daemons.Daemon]:
    """A dockerd of this test alone, whose containers outlive it (`live-restore`)."""
    with daemons.running(live_restore=True) as daemon:
        yield daemon


@pytest.fixture(scope="session", autouse=True)
def guarding() -> Iterator[None]:
    with cells.guarding():
        yield
