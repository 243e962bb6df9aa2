"""Faults on packets let go: whoever dies, whatever ends, and whoever else is in that network."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cells
import pytest
from cells import hurt
from daemons import Daemon
from docker.models.containers import Container
from traffic import End

from chaoskit import nft
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.packet_drop import DropPackets
from chaoskit.faults.packet_loss import LosePackets
from chaoskit.faults.partition import Partition
from chaoskit.journal import State
from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict
from chaoskit.recovery import recover, scan
from chaoskit.targets.resolver import leftover_resolvers
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Specimen, Trial


class Boxed(Specimen):
    """A container in a network of its own."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.container: Container = daemon.run(network=daemon.network(ipv6=True).name)
        self.target_then = cells.target(daemon, self.container)

    def target(self) -> Mapping[str, Any]:
        return {"docker": {"name": self.container.name, "host": self.daemon.url}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        helpers = [m for m, _ in leftover_resolvers() if any(run in m for run in runs)]
        return {"rules": cells.rules(self.target_then), "helpers": list[Json](helpers)}

    def vanish(self) -> None:
        self.container.remove(force=True)

    def close(self) -> None:
        pass  # The daemon is emptied after each test.


@pytest.fixture
def boxed(daemon: Daemon, tmp_path: Path) -> Boxed:
    return Boxed(daemon, tmp_path)


FAULTS: dict[str, dict[str, Any]] = {
    "drop-network": {"peers": ["203.0.113.0/24", "2001:db8::1"], "own-ports": [80, "90-99"]},
    "loss": {"share": "10%", "direction": "in"},
    "bandwidth": {"rate": "500KB/s"},
    "partition": {"from": ["203.0.113.7"]},
    "dns": {"names": ["api.example"]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_guardian_puts_the_rules_back(boxed: Boxed, fault: str) -> None:
    conformance.undone_after(Trial(fault, FAULTS[fault], boxed), [signal.SIGKILL])


@pytest.mark.parametrize("by", ["guardian", "recover"])
@pytest.mark.parametrize(
    "point",
    ["after:change:1", "inside:make:1", "before:made:1", "after:injected:1", "inside:unmake:1"],
)
def test_death_at_an_exact_point(boxed: Boxed, point: str, by: str) -> None:
    conformance.undone_after_death_at(Trial("drop-network", {"how": "refuse"}, boxed), point, by)


@pytest.mark.parametrize("by", ["guardian", "recover"])
@pytest.mark.parametrize(
    "point",
    ["inside:make:1", "after:change:2", "inside:make:5", "after:injected:1", "after:undone:1"],
)
def test_death_between_the_helper_and_its_table(boxed: Boxed, point: str, by: str) -> None:
    conformance.undone_after_death_at(Trial("dns", {"names": ["*"]}, boxed), point, by)


SLOW = """#!/bin/sh
commands=$(cat)
case "$commands" in
*"create table inet chaoskit-"*) echo $$ >> {seen}; sleep 25 ;;
esac
printf '%s\\n' "$commands" | {nft} "$@"
"""
"""An nft that takes its time for what a fault puts in."""


def test_a_load_that_outlives_its_runner_does_not_land(
    boxed: Boxed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guardian looks before nft has done it: it must not find nothing and go."""
    before = cells.rules(boxed.target_then)
    seen, folder = tmp_path / "seen", tmp_path / "bin"
    folder.mkdir()
    slow = folder / "nft"
    slow.write_text(SLOW.format(seen=seen, nft=nft.program()))
    slow.chmod(0o755)
    trial = Trial("drop-network", {}, boxed)

    with monkeypatch.context() as here:
        here.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        runner = trial.start(hold="60s")
    assert until(seen.exists, 60.0)
    runner.kill()
    runner.wait()
    trial.wait_settled()
    loading = seen.read_text().split()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in loading), 60.0)
    assert cells.rules(boxed.target_then) == before


def dead_run(boxed: Boxed) -> Trial:
    """A run that was killed with its guardian while its fault was in."""
    trial = Trial("drop-network", {}, boxed)
    runner = trial.start("--at", "after:injected:1", "--guardian", "dies", hold="60s")
    assert runner.wait(60) == -signal.SIGKILL
    assert trial.latest().id in cells.rules(boxed.target_then)
    return trial


def test_the_scan_finds_a_table_without_any_journal(boxed: Boxed, tmp_path: Path) -> None:
    before = cells.rules(boxed.target_then)
    trial = dead_run(boxed)
    run = trial.latest().id
    found = [left for left in scan(State(tmp_path / "another"), [], print) if left.run == run]
    assert [left.kind for left in found] == ["table"]
    assert f"chaoskit-{run}" in found[0].text
    found[0].end()
    assert cells.rules(boxed.target_then) == before
    found[0].end()  # Who ends it twice does nothing.
    assert not recover(trial.latest()).left


def test_a_dead_daemon_is_not_needed_to_undo(boxed: Boxed) -> None:
    before = cells.rules(boxed.target_then)
    trial = dead_run(boxed)
    boxed.daemon.kill()
    assert not recover(trial.latest()).left
    assert cells.rules(boxed.target_then) == before


def test_a_daemon_that_dies_while_it_is_in_changes_nothing(boxed: Boxed) -> None:
    before = cells.rules(boxed.target_then)
    trial = Trial("drop-network", {}, boxed)
    runner = trial.start(hold="2s")
    trial.wait_injected(runner)
    boxed.daemon.kill()
    runner.wait(60)
    assert not trial.latest().result().left
    assert cells.rules(boxed.target_then) == before


@pytest.mark.parametrize("how", ["stop", "remove", "restart"])
def test_a_container_that_ends_meanwhile_is_no_error(boxed: Boxed, how: str) -> None:
    trial = Trial("partition", {"from": ["203.0.113.7"]}, boxed)
    runner = trial.start(hold="8s")
    trial.wait_injected(runner)
    {"stop": boxed.container.stop, "remove": boxed.vanish, "restart": boxed.container.restart}[
        how
    ]()
    runner.wait(60)
    result = trial.latest().result()
    assert not result.left and result.verdict is Verdict.INCONCLUSIVE, result.reason
    if how == "restart":
        again = cells.target(boxed.daemon, boxed.container)
        assert "chaoskit" not in cells.rules(again)


def test_a_container_that_restarts_is_hurt_anew_where_the_file_says_so(boxed: Boxed) -> None:
    trial = Trial("drop-network", {"on-restart": "reapply"}, boxed)
    runner = trial.start(hold="12s")
    trial.wait_injected(runner)
    boxed.container.restart()
    again = cells.target(boxed.daemon, boxed.container)
    assert until(lambda: "chaoskit" in cells.rules(again), cells.SOON)
    assert runner.wait(60) == 0, trial.latest().result().reason
    assert "chaoskit" not in cells.rules(again)


def test_two_faults_on_one_container_do_not_meet(boxed: Boxed) -> None:
    before = cells.rules(boxed.target_then)
    first, second = (
        cells.target(boxed.daemon, boxed.container, cells.binding(step)) for step in ("1", "2")
    )
    drop, lose = Partition(("203.0.113.7",)), LosePackets(0.5)
    with hurt(drop, first):
        between = cells.rules(first)
        with hurt(lose, second):
            assert cells.rules(first) != between
        assert cells.rules(first) == between
    assert cells.rules(first) == before


def test_parallel_steps_of_one_run_do_not_meet(boxed: Boxed, tmp_path: Path) -> None:
    before = cells.rules(boxed.target_then)
    step = {"target": dict(boxed.target()), "for": "1s"}
    document = {
        "chaoskit": 1,
        "title": "both at once",
        "steady-state": [
            {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
        ],
        "method": [
            {
                "parallel": [
                    step | {"fault": "loss", "share": "10%"},
                    step | {"fault": "loss", "share": "20%", "direction": "in"},
                    step | {"fault": "bandwidth", "rate": "1MB/s"},
                    step | {"fault": "drop-network", "protocol": "icmp"},
                ]
            }
        ],
        "verify": [{"check": "there", "within": "1s"}],
    }
    from chaoskit import load
    from chaoskit.engine import run

    (tmp_path / "both.json").write_text(json.dumps(document))
    result = run(load(tmp_path / "both.json"), State(tmp_path / "state"))
    assert result.verdict is Verdict.HELD, result.reason
    assert cells.rules(boxed.target_then) == before


@pytest.fixture
def guest(boxed: Boxed) -> Container:
    """A container in the network of another one."""
    return boxed.daemon.run(network_mode=f"container:{boxed.container.id}")


def test_two_containers_in_one_network_do_not_meet(boxed: Boxed, guest: Container) -> None:
    host, visitor = (
        cells.target(boxed.daemon, container, cells.binding(allow_shared=True))
        for container in (boxed.container, guest)
    )
    before = cells.rules(host)
    fault = Partition(("203.0.113.7",))
    assert any("shares its network" in told for told in fault.remarks(visitor))
    with hurt(fault, host):
        between = cells.rules(host)
        with hurt(fault, visitor):
            pass
        assert cells.rules(host) == between
    assert cells.rules(host) == before


def test_a_network_that_outlives_its_container_is_put_back(boxed: Boxed, guest: Container) -> None:
    host, visitor = boxed.target_then, cells.target(boxed.daemon, guest)
    before = cells.rules(host)
    fault = DropPackets()
    changes = cells.inject(fault, visitor)
    guest.remove(force=True)
    assert not visitor.root.alive()
    assert fault.look(visitor, changes[0]) == visitor.mark, "it is still in, and must be undone"
    cells.undo(fault, visitor, changes)
    assert cells.rules(host) == before


def test_a_network_that_has_ended_is_gone(boxed: Boxed) -> None:
    fault, on = DropPackets(), boxed.target_then
    changes = cells.inject(fault, on)
    boxed.vanish()
    with pytest.raises(Gone):
        fault.look(on, changes[0])
    assert not fault.took(on, changes)
    assert fault.no_outcome(on, changes, 1.0) is None
    fault.keep(on, changes)
    assert list(fault.changes(on)) == []


def test_nobody_shares_the_network_of_a_container_of_its_own(boxed: Boxed) -> None:
    boxed.container.exec_run(["sleep", "30"], detach=True)
    assert DropPackets().remarks(boxed.target_then) == ()


def test_the_network_of_this_machine_needs_leave(daemon: Daemon) -> None:
    host = daemon.run(network_mode="host")
    fault = DropPackets(peers=("203.0.113.7",))
    told = fault.refuse(cells.target(daemon, host))
    assert told is not None and "allow-host: true" in told
    allowed = cells.target(daemon, host, cells.binding(allow_host=True))
    assert fault.refuse(allowed) is None
    assert any("this machine" in remark for remark in fault.remarks(allowed))


def test_a_container_without_a_network_is_refused(daemon: Daemon) -> None:
    told = DropPackets().refuse(cells.target(daemon, daemon.run()))
    assert told is not None and "loopback" in told


def test_the_other_end_is_not_touched(boxed: Boxed) -> None:
    boxed.container.reload()
    network = next(iter(boxed.container.attrs["NetworkSettings"]["Networks"]))
    peer = boxed.daemon.run(network=network)
    other = cells.target(boxed.daemon, peer)
    before = cells.rules(other)
    end = End(boxed.container)
    end.serve(80)
    with hurt(DropPackets(peers=(f"container:{peer.name}",)), boxed.target_then):
        assert cells.rules(other) == before
    end.close()
