"""The plug-in of tests/plugin is installed for these tests, here and in every child process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoskit import registry

PLUGIN = str(Path(__file__).parent.parent / "plugin")
PEERS = str(Path(__file__).parent.parent / "proxy")
"""The proxies that are hurt are started as the proxy's own tests start them."""

DISKS = str(Path(__file__).parent.parent / "process")
"""And small disks are made as the tests of processes make them."""
DAEMONS = str(Path(__file__).parent.parent / "docker")
"""And the containers are those of a daemon as the docker lane has it."""

for folder in (PEERS, DISKS, DAEMONS):
    if folder not in sys.path:
        sys.path.append(folder)

if PLUGIN not in sys.path:
    sys.path.insert(0, PLUGIN)
    importlib.invalidate_caches()
    registry._plugins.cache_clear()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No helper of these runs lives longer than its test, even when that fails."""
    yield
    import contextlib
    import signal

    from chaoskit.errors import Gone
    from chaoskit.targets.burdens import leftover_helpers
    from chaoskit.targets.proxy_process import leftover_proxies

    runs = {path.name for path in tmp_path.glob("**/runs/*")}
    left = [
        (m, p)
        for m, p in (*leftover_helpers(), *leftover_proxies())
        if any(run in m for run in runs)
    ]
    for _, process in left:
        with contextlib.suppress(Gone):
            process.signal(signal.SIGKILL)
    assert not left
