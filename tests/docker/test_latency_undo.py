"""A redirect lets go: whoever dies, whatever ends, and whoever else is in that network."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cells
import pytest
from daemons import Daemon
from docker.models.containers import Container
from hurting import kill_both

from chaoskit.clock import until
from chaoskit.journal import State
from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict
from chaoskit.recovery import recover, scan
from chaoskit.targets.proxy_process import leftover_proxies
from chaoskit.testing.conformance import Specimen, Trial

PARAMS: dict[str, Any] = {"delay": "50ms", "peer-ports": ["1-65535"], "own-ports": ["1-65535"]}
"""Everybody, but by their ports: so it is never netem that does it."""


class Boxed(Specimen):
    """A container in a network of its own, and who is to be seen in it."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.container: Container = daemon.run(network=daemon.network(ipv6=True).name)
        self.target_then = cells.target(daemon, self.container)

    def target(self) -> Mapping[str, Any]:
        return {"docker": {"name": self.container.name, "host": self.daemon.url}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        return self.now()

    def now(self) -> str:
        on = cells.target(self.daemon, self.container)
        return cells.rules(on) + cells.in_network(on, "ss", "-Hltn")

    def vanish(self) -> None:
        self.container.remove(force=True)

    def close(self) -> None:
        pass  # The daemon is emptied after each test.


class Visitor(Boxed):
    """One that shares the network of another."""

    def blast_radius(self) -> Mapping[str, Any]:
        return {"allow-shared": True}


@pytest.fixture
def boxed(daemon: Daemon, tmp_path: Path) -> Iterator[Boxed]:
    made = Boxed(daemon, tmp_path)
    yield made
    runs = [folder.id for folder in State(tmp_path / "state").runs()]
    assert until(lambda: not proxies(runs), cells.SOON)


def proxies(runs: Sequence[str]) -> list[int]:
    return [p.pid for mark, p in leftover_proxies() if any(run in mark for run in runs)]


def begun(boxed: Boxed, hold: str) -> tuple[Trial, Any]:
    trial = Trial("latency", PARAMS, boxed)
    runner = trial.start(hold=hold)
    trial.wait_injected(runner)
    return trial, runner


def dead_run(boxed: Boxed, proxy: signal.Signals) -> Trial:
    """A run that was killed with its guardian while its fault was in, when its proxy had got that
    signal."""
    trial, runner = begun(boxed, "60s")
    for pid in proxies([trial.latest().id]):
        os.kill(pid, proxy)
    kill_both(trial.state.path)
    runner.wait()
    return trial


@pytest.mark.parametrize("how", ["restart", "remove"])
def test_a_container_that_ends_meanwhile_leaves_nothing(boxed: Boxed, how: str) -> None:
    trial, runner = begun(boxed, "8s")
    {"restart": boxed.container.restart, "remove": boxed.vanish}[how]()
    runner.wait(60)
    result = trial.latest().result()
    assert not result.left and result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert not proxies([trial.latest().id])
    if how == "restart":
        assert "chaoskit" not in boxed.now()


def test_a_container_that_restarts_is_slow_anew_where_the_file_says_so(boxed: Boxed) -> None:
    trial = Trial("latency", PARAMS | {"on-restart": "reapply"}, boxed)
    runner = trial.start(hold="15s")
    trial.wait_injected(runner)
    boxed.container.restart()
    assert until(lambda: "redirect" in boxed.now(), cells.SOON)
    assert runner.wait(60) == 6
    assert "no connection was opened through it" in trial.latest().result().reason
    assert "chaoskit" not in boxed.now()
    assert not proxies([trial.latest().id])


def test_a_proxy_that_is_killed_ends_the_step_at_once(boxed: Boxed) -> None:
    """For with it gone nobody could connect any more, for the minute that it was meant to take."""
    before = boxed.now()
    trial, runner = begun(boxed, "60s")
    for pid in proxies([trial.latest().id]):
        os.kill(pid, signal.SIGKILL)
    assert runner.wait(30) == 6
    result = trial.latest().result()
    assert not result.left and f"network of {boxed.target_then.label} has ended" in result.reason
    assert boxed.now() == before


def test_a_network_that_outlives_its_container_is_put_back(boxed: Boxed) -> None:
    guest = boxed.daemon.run(network_mode=f"container:{boxed.container.id}")
    before = boxed.now()
    visitor = Visitor.__new__(Visitor)
    visitor.daemon, visitor.folder, visitor.container = boxed.daemon, boxed.folder, guest
    trial, runner = begun(visitor, "6s")
    plan = next(r for r in trial.latest().records() if r["kind"] == "change")
    assert guest.name in str(plan["target"])
    guest.remove(force=True)
    runner.wait(60)
    assert not trial.latest().result().left
    assert boxed.now() == before


def test_the_scan_finds_tables_whose_proxy_was_killed(boxed: Boxed, tmp_path: Path) -> None:
    before = boxed.now()
    trial = dead_run(boxed, signal.SIGKILL)
    run = trial.latest().id
    found = [left for left in scan(State(tmp_path / "another"), [], print) if left.run == run]
    assert [left.kind for left in found] == ["table", "table"]
    for left in found:
        left.end()
    assert boxed.now() == before
    assert not recover(trial.latest()).left


def test_the_scan_finds_a_proxy_that_does_not_end(boxed: Boxed, tmp_path: Path) -> None:
    before = boxed.now()
    trial = dead_run(boxed, signal.SIGSTOP)
    run = trial.latest().id
    found = [left for left in scan(State(tmp_path / "another"), [], print) if left.run == run]
    assert [left.kind for left in found] == ["process", "table", "table"]
    for left in found:
        left.end()
    assert not proxies([run]) and boxed.now() == before
    assert not recover(trial.latest()).left


def test_recover_ends_a_proxy_that_does_not_end(boxed: Boxed) -> None:
    before = boxed.now()
    trial = dead_run(boxed, signal.SIGSTOP)
    assert not recover(trial.latest()).left
    assert boxed.now() == before


def test_a_dead_daemon_is_not_needed_to_undo(boxed: Boxed) -> None:
    before = cells.rules(boxed.target_then)
    trial = dead_run(boxed, signal.SIGSTOP)
    boxed.daemon.kill()
    assert not recover(trial.latest()).left
    assert cells.rules(boxed.target_then) == before
