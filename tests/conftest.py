"""What every test may use, and the rule on lanes: a part that is missing is told, never ignored."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

# A suite that was started by `nohup`, or in the background of a script, ignores these, and so would
# everything that it starts.
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """On a user's machine a test whose part is missing is skipped; in CI that is a failure."""
    report = yield
    if (
        report.skipped
        and os.environ.get("CHAOSKIT_LANES") == "required"
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped, but every lane is required here: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What failed at first and passed when CI tried it again is told, never hidden."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"failed once: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_sessionfinish() -> None:
    """A dockerd that tests have shared is taken away by whoever had it started."""
    import sys

    if shared := sys.modules.get("daemons"):
        shared.close_shared()


@pytest.fixture
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, for the library and for commands that it starts."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CHAOSKIT_STATE", str(folder))
    return folder


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first, those of `latency` before all, so that no worker is left alone with one
    of them at the end. Each worker is given one stretch of the list to begin with: every stretch
    has its share of them. After `-k` and the like have chosen."""
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if "at_every_exact_point" in item.nodeid]
    short = [item for item in items if "at_every_exact_point" not in item.nodeid]
    long.sort(key=lambda item: "latency" not in item.nodeid)
    dealt: list[pytest.Item] = []
    for number in range(workers):
        stretch = (len(items) - len(dealt)) // (workers - number)
        share = long[number::workers]
        room = max(0, stretch - len(share))
        dealt += share + short[:room]
        short = short[room:]
    items[:] = dealt + short
