"""limit: it is felt in the container, and every file of its control groups is as it was after."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import hosts
import images
import pytest
from beside import SOON, inject, undo
from boxes import Box, box
from daemons import Daemon
from docker.models.containers import Container
from hurting import chaoskit, kill_both, records, running, settled, step, write

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.limit import Limit
from chaoskit.journal import State
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Found
from chaoskit.model.units import Share
from chaoskit.targets.container import ContainerTarget

MIB = 2**20
BUSY = ["sh", "-c", "while :; do :; done"]
LIMITED: dict[str, Any] = {"nano_cpus": int(0.8e9), "mem_limit": "256m", "pids_limit": 100}


def all_of() -> Limit:
    return Limit(cpu=0.2, memory=64 * MIB + 1, pids=20, read=4.0 * MIB, write=4.0 * MIB)


@pytest.mark.parametrize("limits", [{}, LIMITED], ids=["unlimited", "limited"])
@pytest.mark.parametrize("image", [images.BUSYBOX, images.SCRATCH])
def test_every_file_is_as_it_was(daemon: Daemon, limits: dict[str, Any], image: str) -> None:
    with box(daemon, daemon.run(image=image, **limits)) as target:
        before = hosts.limits(target.root.pid)
        fault = all_of()
        assert fault.refuse(target) is None
        changes = inject(fault, target)
        assert fault.took(target, changes)
        assert len(set(hosts.limits(target.root.pid)) - set(before)) == 5
        assert {change.put for change in changes} >= {"20", str(64 * MIB), str(4 * MIB)}
        undo(fault, target, changes)
        assert hosts.limits(target.root.pid) == before
        assert not fault.took(target, changes)


def test_what_others_have_on_other_disks_stays(daemon: Daemon) -> None:
    """A line of another disk, in the very file that ours is in."""
    other = next((at.read_text().strip() for at in Path("/sys/block").glob("loop*/dev")), "")
    if not other:
        pytest.skip("there is no second disk here")
    with box(daemon, daemon.run()) as target:
        file = target.group("blkio") / "blkio.throttle.read_bps_device"
        if not file.exists():
            pytest.skip("the control groups here are of version 2: see test_limit_files.py")
        file.write_text(f"{other} 1234567")
        before = file.read_text()
        fault = Limit(read=4.0 * MIB)
        changes = inject(fault, target)
        assert f"{other} 1234567" in file.read_text() and file.read_text() != before
        file.write_text(f"{other} 7654321")
        assert fault.took(target, changes)
        undo(fault, target, changes)
        assert file.read_text() == before.replace("1234567", "7654321")


def used(target: Box, seconds: float) -> float:
    """Processors that it uses, on average."""
    before, began = target.cpu(), time.monotonic()
    time.sleep(seconds)
    return (target.cpu() - before) / (time.monotonic() - began)


def test_fewer_processors(daemon: Daemon) -> None:
    with box(daemon, daemon.run(*BUSY)) as target:
        assert until(lambda: used(target, 0.5) > 0.3, SOON)
        fault = Limit(cpu=Share(0.05))
        changes = inject(fault, target)
        most = 0.05 * len(target.cpus())
        time.sleep(0.3)
        assert used(target, 2.0) < 1.5 * most
        undo(fault, target, changes)
        assert until(lambda: used(target, 0.5) > 0.3, SOON)


def test_fewer_processes(daemon: Daemon) -> None:
    container = daemon.run()
    with box(daemon, container) as target:
        forking = ["sh", "-c", "(true) && true"]
        assert container.exec_run(forking).exit_code == 0
        fault = Limit(pids=2)  # The shell and its sleep.
        assert fault.refuse(target) is None
        assert any("none of them can start" in told for told in fault.remarks(target))
        changes = inject(fault, target)
        assert b"can't fork" in container.exec_run(forking).output
        undo(fault, target, changes)
        assert container.exec_run(forking).exit_code == 0


def test_slower_disks(daemon: Daemon) -> None:
    container = daemon.run()
    dd = "dd bs=256k count=12 status=none"  # 3 MiB
    with box(daemon, container) as target:
        for rate, command in (
            ("write", f"{dd} if=/dev/zero of=/data/big conv=fsync"),
            ("read", f"{dd} if=/data/big of=/dev/null iflag=direct"),
        ):
            fault = Limit(**{rate: 1.0 * MIB}, path="/data")
            assert fault.refuse(target) is None
            changes = inject(fault, target)
            began = time.monotonic()
            done = container.exec_run(command)
            assert done.exit_code == 0, done.output
            assert time.monotonic() - began > 1.5, rate
            undo(fault, target, changes)


def test_memory_that_is_in_use_is_not_taken(daemon: Daemon) -> None:
    container = daemon.run(shm_size="64m")
    container.exec_run("dd if=/dev/zero of=/dev/shm/held bs=1M count=40")
    with box(daemon, container) as target:
        told = str(Limit(memory=43 * MIB).refuse(target))
        assert "of memory are in use: with less than 4" in told and "OOM killer" in told
        fault = Limit(memory=60 * MIB)
        assert fault.refuse(target) is None
        changes = inject(fault, target)
        # It gets no more than that; who wants it is killed in there, and nobody else is.
        done = container.exec_run("dd if=/dev/zero of=/dev/null bs=50M count=1")
        assert done.exit_code != 0
        undo(fault, target, changes)
        assert container.exec_run("dd if=/dev/zero of=/dev/null bs=50M count=1").exit_code == 0
        assert target.root.alive()


def test_the_folder_says_which_disk(daemon: Daemon) -> None:
    container = daemon.run(tmpfs={"/quick": ""}, volumes={daemon.name("data"): {"bind": "/vol"}})
    with box(daemon, container) as target:
        own = target.limited("read", "/").key.split(" ")[4]
        assert target.limited("read", "/vol").key.split(" ")[4] == own
        assert Path(f"/sys/dev/block/{own}").exists()
        assert "lies on no disk" in str(Limit(read=1.0 * MIB, path="/quick").refuse(target))
        assert "no folder /nowhere" in str(Limit(read=1.0 * MIB, path="/nowhere").refuse(target))


def test_an_update_in_the_meantime_is_somebody_elses(daemon: Daemon, tmp_path: Path) -> None:
    """`docker update` writes its own; that cell is left alone and told, the others come back."""
    container = daemon.run()
    state = tmp_path / "state"
    file = write(tmp_path / "e.json", step("limit", daemon.url, hold="8s", id=container.id,
                                           _cpu=0.2, _pids=30))  # fmt: skip
    with box(daemon, container) as target:
        before = hosts.limits(target.root.pid)
        with running(file, state) as runner:
            container.update(cpu_quota=40000, cpu_period=100000)
            assert runner.wait(60) == 5, runner.communicate()[0]
        after = hosts.limits(target.root.pid)
        assert [line for line in after if "quota" in line or "cpu.max" in line] != before
        assert [x for x in after if "pids" in x] == [x for x in before if "pids" in x]
        (left,) = State(state).find().result().left
        assert "40000" in left.why or "40000" in str(left.found)
        # And a person may say that the old one is wanted back.
        done = chaoskit("recover", "--force", str(left.cell), state=state)
        assert done.returncode == 0, done.stdout + done.stderr
        assert hosts.limits(target.root.pid) == before


def limited_run(daemon: Daemon, container: Container, folder: Path, **more: Any) -> Path:
    return write(
        folder / "e.json",
        step("limit", daemon.url, id=container.id, _cpu=0.2, _memory="64MiB", _pids=30,
             _read="4MiB/s", **more),
    )  # fmt: skip


@pytest.mark.parametrize("by", ["guardian", "recover"])
def test_a_killed_runner_leaves_no_limit(daemon: Daemon, tmp_path: Path, by: str) -> None:
    container = daemon.run(image=images.SCRATCH, **LIMITED)
    state = tmp_path / "state"
    container.reload()
    pid = container.attrs["State"]["Pid"]
    before = hosts.limits(pid)
    with running(limited_run(daemon, container, tmp_path), state) as runner:
        assert hosts.limits(pid) != before
        daemon.freeze()  # No daemon is needed to undo.
        if by == "guardian":
            runner.send_signal(signal.SIGKILL)
        else:
            kill_both(state)
            assert chaoskit("recover", state=state).returncode == 0
        assert settled(state)
        assert hosts.limits(pid) == before
    daemon.thaw()


@pytest.mark.parametrize("again", ["reapply", "end"])
def test_a_restart_takes_the_limits_with_it(daemon: Daemon, tmp_path: Path, again: str) -> None:
    """Its new incarnation has the old limits: they are lowered anew, or that was it."""
    container = daemon.run(**LIMITED)
    container.reload()
    before = hosts.limits(container.attrs["State"]["Pid"])
    state = tmp_path / "state"
    file = limited_run(daemon, container, tmp_path, hold="12s")
    document = json.loads(file.read_text())
    document["method"][0]["on-restart"] = again
    file.write_text(json.dumps(document))
    with running(file, state) as runner:
        container.restart(timeout=0)
        container.reload()
        pid = container.attrs["State"]["Pid"]
        if again == "reapply":
            assert until(lambda: hosts.limits(pid) != before, SOON)
        code = runner.wait(60)
        assert code == (0 if again == "reapply" else 6), runner.communicate()[0]
    assert hosts.limits(pid) == before
    assert len(records(state, "restarted")) == 1
    assert not State(state).left()


def test_a_container_that_is_removed_is_no_error(daemon: Daemon, tmp_path: Path) -> None:
    container = daemon.run()
    state = tmp_path / "state"
    with running(limited_run(daemon, container, tmp_path, hold="6s"), state) as runner:
        container.remove(force=True)
        assert runner.wait(60) == 6, runner.communicate()[0]
    assert not State(state).left()


def test_it_is_refused_where_its_processes_are_not_to_be_seen(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        known: Any = target.ref()
        far = ContainerTarget.restore(known | {"root": ""}, Binding("run", "1", Path("/")))
        assert "not to be seen from here" in str(Limit(cpu=0.5).refuse(far))
        with pytest.raises(ChaoskitError, match="not to be seen from here"):
            list(Limit(cpu=0.5).changes(far))


def test_a_container_that_ended_has_no_cell(daemon: Daemon) -> None:
    container = daemon.run()
    with box(daemon, container) as target:
        fault = Limit(cpu=0.2)
        (change,) = inject(fault, target)
        container.restart(timeout=0)
        container.reload()
        before = hosts.limits(container.attrs["State"]["Pid"])
        for ask in (fault.look, fault.make, fault.unmake):
            with pytest.raises(Gone):
                ask(target, change)
        assert hosts.limits(container.attrs["State"]["Pid"]) == before
        assert inject(fault, target) == []


def test_a_paused_container_is_limited_all_the_same(daemon: Daemon) -> None:
    container = daemon.run()
    with box(daemon, container) as target:
        before = hosts.limits(target.root.pid)
        container.pause()
        fault = all_of()
        changes = inject(fault, target)
        assert fault.took(target, changes)
        assert all(fault.found(fault.look(target, c), c) is Found.OURS for c in changes)
        undo(fault, target, changes)
        container.unpause()
        assert hosts.limits(target.root.pid) == before
        os.kill(target.root.pid, 0)
