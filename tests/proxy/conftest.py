"""A proxy of ours and a real Toxiproxy for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import peers
import pytest


@pytest.fixture
def ours() -> Iterator[peers.Running]:
    """The URL of a `chaoskit proxy` process; its `pid` and `port` beside."""
    with peers.ours() as running:
        yield running


@pytest.fixture
def toxiproxy() -> Iterator[peers.Running]:
    """The URL of a real Toxiproxy 2.12; its `pid` and `port` beside."""
    with peers.toxiproxy() as running:
        yield running
