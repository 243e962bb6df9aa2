"""What is said of a container is so: where it cannot be seen it is asked, and not guessed."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import cells
import pytest
from daemons import Daemon
from docker.types import Mount

from chaoskit.clock import until
from chaoskit.docker.client import Daemon as Client
from chaoskit.errors import ChaoskitError, Gone, ProbeError
from chaoskit.faults.container_kill import KillContainer
from chaoskit.faults.container_pause import PauseContainer
from chaoskit.faults.remove import Remove
from chaoskit.faults.stop import Stop
from chaoskit.model.fault import Found
from chaoskit.model.probe import Context
from chaoskit.probes.docker import DockerProbe

SOON = 30.0


def test_one_that_is_frozen_where_we_do_not_see_it_is_let_go(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From within a container of our own its control group cannot be read."""
    container = daemon.run()
    on = cells.target(daemon, container, cells.binding(folder=tmp_path))
    fault = PauseContainer()
    monkeypatch.setattr("chaoskit.targets.container.frozen", lambda pid: None)
    (change,) = cells.inject(fault, on)
    try:
        assert fault.took(on, [change])
        assert fault.found(fault.look(on, change), change) is Found.OURS
        fault.unmake(on, change)
        assert fault.look(on, change) == change.was
    finally:
        container.reload()
        assert container.status == "running"


def test_one_whose_network_was_removed_is_not_gone(daemon: Daemon, tmp_path: Path) -> None:
    """Nobody holds the network of a container that does not run."""
    network = daemon.network()
    container = daemon.run(network=network.name)
    on = cells.target(daemon, container, cells.binding(folder=tmp_path))
    fault = Stop(grace=0.0)
    (change,) = cells.inject(fault, on)
    daemon.client.networks.get(network.id).remove()
    with pytest.raises(ChaoskitError, match=r"cannot be started: .*network") as told:
        fault.unmake(on, change)
    assert not isinstance(told.value, Gone)
    container.remove()
    with pytest.raises(Gone):
        fault.unmake(on, change)


def test_one_that_ends_as_soon_as_it_is_made_again_is_not_as_before(
    daemon: Daemon, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    line = "[ -e /vol/go ] || exit 3; exec sleep 1d"
    mounts = [Mount("/vol", str(tmp_path), type="bind")]
    container = daemon.run("sh", "-c", line, name="web", mounts=mounts)
    on = cells.target(daemon, container, cells.binding(folder=tmp_path))
    fault = Remove(recreate=True)
    (change,) = cells.inject(fault, on)
    go.unlink()

    def said() -> bool:
        try:
            fault.unmake(on, change)
        except ChaoskitError as error:
            return "has ended again with exit code 3" in str(error)
        return False  # It ran for a moment, and the daemon was asked in that one.

    assert until(said, SOON)
    assert fault.found(fault.look(on, change), change) is Found.OURS
    go.touch()
    fault.unmake(on, change)
    assert fault.look(on, change) == change.was


def test_how_long_one_was_away_is_not_its_last_absence(daemon: Daemon, tmp_path: Path) -> None:
    down = tmp_path / "down"
    line = "[ -e /vol/down ] && exit 1; exec sleep 1d"
    mounts = [Mount("/vol", str(tmp_path), type="bind")]
    container = daemon.run("sh", "-c", line, mounts=mounts, restart_policy={"Name": "always"})
    fault = KillContainer()
    told = []

    def works() -> bool:
        """Its shell has looked, and become what it stays."""
        container.reload()
        try:
            return Path(f"/proc/{container.attrs['State']['Pid']}/comm").read_text() == "sleep\n"
        except OSError:
            return False

    for _ in range(2):
        assert until(works, SOON)
        on = cells.target(daemon, container, cells.binding(folder=tmp_path))
        assert on.state().runs
        changes = cells.inject(fault, on)
        if down.exists():
            assert until(lambda on=on: on.state().restarts >= on.restarts + 3, SOON)
            down.unlink()
        assert until(lambda on=on: works() and on.state().started != on.started, SOON)
        outcome = fault.outcome(on, changes, 500.0)
        assert outcome is not None
        told.append(outcome.text)
        down.touch()
    once, often = told
    assert "runs again after " in once and "after 8m20s" not in once
    assert "runs again after 8m20s" in often


def test_what_a_restarted_one_has_used_is_not_known(daemon: Daemon) -> None:
    line = "[ -e /spent ] || while [ $((i+=1)) -lt 300000 ]; do :; done; touch /spent; sleep 1d"
    container = daemon.run("sh", "-c", line)
    looks = DockerProbe(name=container.name, host=daemon.url, timeout=20.0, wants=("cpu",))
    context = Context()

    assert until(lambda: container.exec_run(["test", "-e", "/spent"]).exit_code == 0, SOON)
    assert float(str(looks.read(context)["cpu"])) < 1.0
    container.restart(timeout=0)
    memory = dataclasses.replace(looks, wants=("memory",))
    assert int(str(memory.read(Context(memory=dict(context.memory)))["memory"])) > 0
    with pytest.raises(ProbeError, match="has since"):
        looks.read(context)


def test_a_log_is_read_from_the_daemons_own_moment_on(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is far away has a clock of its own."""
    container = daemon.run()
    looks = DockerProbe(name=container.name, host=daemon.url, log="x", wants=("lines",))
    context = Context()
    assert looks.read(context)["lines"] == 0
    assert abs(context.memory["lines"]._since - time.time()) < 10.0

    def behind(self: Client, ask: Any) -> Any:
        told = look(self, ask)
        if isinstance(told, dict) and "SystemTime" in told:
            told["SystemTime"] = told["SystemTime"].replace("20", "19", 1)
        return told

    look = Client.look
    monkeypatch.setattr(Client, "look", behind)
    looks.read(context := Context())
    assert context.memory["lines"]._since < time.time() - 90 * 365 * 86400


def test_one_with_a_kernel_of_its_own_is_only_its_daemons(daemon: Daemon, tmp_path: Path) -> None:
    """Its pid is the sandbox's. This runtime is only called like one: none is to be had here."""
    runc = shutil.which("runc")
    assert runc
    daemon.stop()
    try:
        daemon.start("--add-runtime", f"runsc={runc}")
        container = daemon.run(runtime="runsc")
        on = cells.target(daemon, container, cells.binding(folder=tmp_path))
        assert not on.here
        with pytest.raises(ChaoskitError, match="a kernel of its own"):
            _ = on.root
        (change,) = cells.inject(fault := PauseContainer(), on)
        assert fault.took(on, [change])
        cells.undo(fault, on, [change])
        container.remove(force=True)
    finally:
        daemon.stop()
        daemon.start()
