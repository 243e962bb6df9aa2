"""One dockerd for all tests of a pytest process, empty before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import daemons
import pytest


@pytest.fixture
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
