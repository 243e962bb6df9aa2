"""Burdens on containers: what they use counts as the container's, and they end with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import images
import pytest
from beside import SOON, inject, proven, undo, unproven
from boxes import Box, box
from daemons import Daemon
from docker.models.containers import Container

from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.cpu import Cpu
from chaoskit.faults.disk_load import DiskLoad
from chaoskit.faults.memory import Memory
from chaoskit.faults.open_files import OpenFiles
from chaoskit.model.fault import Change
from chaoskit.model.units import Share
from chaoskit.targets import burdens
from chaoskit.targets.burdens import leftover_helpers
from chaoskit.targets.docker_protect import with_chaoskit

MIB = 2**20


def test_processor_time_counts_as_the_containers(daemon: Daemon) -> None:
    """Nothing is needed in its image: there is no shell in this one."""
    with box(daemon, daemon.run(image=images.SCRATCH)) as target:
        fault = Cpu(1.0)
        assert fault.refuse(target) is None
        before = target.cpu()
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        assert until(lambda: target.cpu() - before > 0.3, SOON)
        told = daemon.client.api.stats(target.id, stream=False)
        assert told["cpu_stats"]["cpu_usage"]["total_usage"] > 0.3e9
        undo(fault, target, changes)
        assert not target.helpers()
        with pytest.raises(Gone):
            target.burden_report(f"{target.mark}-1")


def test_memory_counts_as_the_containers(daemon: Daemon) -> None:
    with box(daemon, daemon.run(image=images.SCRATCH)) as target:
        fault = Memory(40 * MIB)
        before = target.memory()
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        assert target.memory() - before > 38 * MIB
        undo(fault, target, changes)
        assert until(lambda: target.memory() - before < 8 * MIB, SOON)


def test_what_a_helper_writes_counts_as_the_containers(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        fault = DiskLoad("/data", write=8 * MIB)
        assert fault.refuse(target) is None
        before = target.written()
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        assert until(lambda: target.written() - before > 4 * MIB, SOON)
        undo(fault, target, changes)


def test_a_helper_is_none_of_the_containers_processes(daemon: Daemon) -> None:
    """Nobody who lists, freezes or counts its processes has to do with it."""
    container = daemon.run(pids_limit=4)
    with box(daemon, container) as target:
        before = _listed(container)
        inject(Cpu(0.2), target)
        assert until(lambda: len(target.helpers()) == 2, SOON)
        assert until(lambda: target.cpu() > 0, SOON)
        helpers = {process.key for process in target.helpers()}
        assert not helpers & {process.key for process in target.tree()}
        if (Path("/sys/fs/cgroup") / "devices").exists():
            assert _listed(container) == before
            assert target.count("pids", "pids.current") == len(before)


def _listed(container: Container) -> set[str]:
    """The numbers of what its daemon takes for its processes."""
    return {row[1] for row in container.top()["Processes"]}


def test_a_container_with_a_helper_is_none_that_chaoskit_runs_in(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        inject(Cpu(0.2), target)
        assert until(lambda: len(target.helpers()) == 2, SOON)
        assert target.id not in with_chaoskit()


def test_pinned_within_the_containers_processors(daemon: Daemon) -> None:
    """Whoever joins a group may run where the group may; the pin holds in there."""
    last = max(os.sched_getaffinity(0))
    with box(daemon, daemon.run(cpuset_cpus=str(last))) as target:
        assert target.cpus() == [last]
        fault = Cpu(0.3, pin=True)
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        for process in target.helpers():
            if process.key == target._helper(f"{target.mark}-1").process.key:
                assert os.sched_getaffinity(process.pid) == {last}
        undo(fault, target, changes)
    if last:
        with box(daemon, daemon.run()) as target:
            inject(Cpu(0.3, pin=(last,)), target)
            worker = lambda: target._helper(f"{target.mark}-1").process  # noqa: E731
            assert until(lambda: len(target.helpers()) == 2, SOON)
            assert until(lambda: os.sched_getaffinity(worker().pid) == {last}, SOON)


def test_a_load_that_the_quota_holds_back_is_there(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants a processor all the time, and hardly gets one: what is no waiting to the kernel."""
    with box(daemon, daemon.run(nano_cpus=int(0.02e9))) as target:
        fault = Cpu(1.0)
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        assert until(lambda: target.burden_report(f"{target.mark}-1")["age"] > 2.0, SOON)
        report = target.burden_report(f"{target.mark}-1")
        worker = target._helper(f"{target.mark}-1").process
        assert report["cpu"] < 0.5 * report["age"]
        assert fault.took(target, changes)
        with monkeypatch.context() as patch:
            # On a machine that is busy it also waits, which is counted as ever.
            patch.setattr(burdens, "_wanted", lambda process: 0.0)
            assert target.burden_report(f"{target.mark}-1")["wanted"] > 0.2
        worker.signal(signal.SIGSTOP)
        assert unproven(fault, target, changes)
        undo(fault, target, changes)


def poor(daemon: Daemon) -> Container:
    """One whose group, once it has run for a tick of the clock, may not run again for some seconds.
    To start with so little would take it half a minute."""
    container = daemon.run()
    container.update(cpu_quota=1000, cpu_period=1_000_000)
    return container


def exhaust(target: Box) -> tuple[Cpu, list[Change]]:
    """Two helpers with their others outside, of which those inside may not run any more."""
    before = target.count("cpu", "cpu.stat:nr_throttled")
    fault = Cpu(2.0)
    changes = inject(fault, target)

    def inside() -> int:
        members = (target.group("cpu") / "cgroup.procs").read_text().split()
        return sum(str(process.pid) in members for process in target.helpers())

    assert until(lambda: len(target.helpers()) == 4 and inside() == 2, SOON)
    assert until(lambda: target.count("cpu", "cpu.stat:nr_throttled") > before, SOON)
    return fault, changes


@pytest.mark.parametrize("how", ["restart", "remove", "kill"])
def test_helpers_end_with_the_container(daemon: Daemon, how: str) -> None:
    """Also in a group that has used up its time, where nothing of theirs runs for seconds; a group
    with a process in it could not be removed."""
    container = poor(daemon)
    with box(daemon, container) as target:
        fault, changes = exhaust(target)
        groups = list(Path("/sys/fs/cgroup").glob(f"**/{target.id}"))
        assert len(groups) > 0
        if how == "restart":
            container.restart(timeout=0)
        elif how == "remove":
            container.remove(force=True)
        else:
            target.root.signal(signal.SIGKILL)
        assert until(lambda: not target.helpers(), SOON)
        if how == "restart":
            container.reload()
            assert container.status == "running"
        else:
            assert until(lambda: not any(group.exists() for group in groups), SOON)
        assert not fault.took(target, changes)
        assert [fault.look(target, change) for change in changes] == [None, None]
        undo(fault, target, changes)
        target.binding = target.bind()
        with pytest.raises(Gone):
            fault.make(target, changes[0])


def test_an_exhausted_group_holds_up_no_undo(daemon: Daemon) -> None:
    with box(daemon, poor(daemon)) as target:
        fault, changes = exhaust(target)
        target.undoing()
        began = time.monotonic()
        for change in changes:
            fault.unmake(target, change)
        assert until(lambda: not target.helpers(), 3.0)
        assert time.monotonic() - began < 3.0, "it waited for a new period to die"


def test_who_kills_only_the_one_outside_ends_both(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        changes = inject(Cpu(1.0), target)
        assert proven(Cpu(1.0), target, changes)
        worker = target._helper(f"{target.mark}-1").process
        (outside,) = [process for process in target.helpers() if process != worker]
        assert worker.parent() == outside
        outside.signal(signal.SIGKILL)
        assert until(lambda: not target.helpers(), SOON)


def test_who_kills_only_the_worker_ends_both(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        changes = inject(Cpu(1.0), target)
        assert proven(Cpu(1.0), target, changes)
        target._helper(f"{target.mark}-1").process.signal(signal.SIGKILL)
        assert until(lambda: not target.helpers(), SOON)
        assert not Cpu(1.0).took(target, changes)


def test_a_closed_lifeline_ends_both_in_an_exhausted_group(daemon: Daemon) -> None:
    with box(daemon, poor(daemon)) as target:
        exhaust(target)
        target.cut()
        assert until(lambda: not target.helpers(), 3.0)


def test_a_paused_container_holds_no_helper(daemon: Daemon) -> None:
    container = daemon.run()
    with box(daemon, container) as target:
        fault = Cpu(1.0)
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        container.pause()
        try:
            undo(fault, target, changes)
        finally:
            container.unpause()


def test_where_it_cannot_be_put_it_does_not_work(daemon: Daemon) -> None:
    """The container has ended and begun anew in between: neither there nor here is it a load."""
    container = daemon.run()
    with box(daemon, container) as target:
        where = target._where([])
        container.restart(timeout=0)
        with box(daemon, container) as successor:
            assert successor.helpers() == []
            other_group = [f"{w}-not" if w[:3] == "in=" else w for w in successor._where([])]
            other_pid = [f"with={os.getpid()}:1" if w[:5] == "with=" else w for w in where]
            for words in (where, other_group, other_pid):
                successor._where = lambda cpus, words=words: words  # type: ignore
                successor.burden(f"{successor.mark}-1", ["cpu", "1"])
                assert until(lambda: not successor.helpers(), SOON)
            assert successor.cpu() < 0.5


def test_memory_is_measured_in_the_containers_limit(daemon: Daemon) -> None:
    container = daemon.run(mem_limit="64m", image=images.SCRATCH)
    with box(daemon, container) as target:
        assert target.memory_free() <= 64 * MIB
        assert 40 * MIB < target.memory_room() <= 48 * MIB
        for size in (60 * MIB, 50 * MIB, Share(0.9), 2**40):
            assert "OOM killer" in str(Memory(size).refuse(target)), size
        fault = Memory(Share(0.5))
        assert fault.refuse(target) is None
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        assert until(lambda: target.memory() > 28 * MIB, SOON)
        # What goes on stops at the reserve, and nobody is killed for it.
        target.burden(f"{target.mark}-2", ["memory", str(200 * MIB)])
        seen: list[int] = []

        def settled() -> bool:
            seen.append(target.memory())
            return len(seen) > 20 and max(seen[-10:]) - min(seen[-10:]) < MIB

        assert until(settled, SOON)
        assert target.memory() <= 64 * MIB - 8 * MIB
        assert len(target.helpers()) == 4
        container.reload()
        assert not container.attrs["State"]["OOMKilled"]
        target.end_burden(f"{target.mark}-2")
        undo(fault, target, changes)


def test_descriptors_are_left_to_every_process_of_the_container(daemon: Daemon) -> None:
    """To one of `docker exec` too, which is no child of the container's first."""
    container = daemon.run()
    container.exec_run(["sleep", "1d"], detach=True)
    with box(daemon, container) as target:
        assert until(lambda: len(target.tree()) == 3, SOON)  # The shell, its sleep and this one.
        before = {process.key: process.file_limit() for process in target.tree()}
        fault = OpenFiles(leave=2)
        assert fault.refuse(target) is None
        changes = inject(fault, target)
        assert {change.key for change in changes} == set(before)
        assert fault.took(target, changes)
        for process in target.tree():
            assert process.file_limit()[0] < before[process.key][0]
        undo(fault, target, changes)
        assert {process.key: process.file_limit() for process in target.tree()} == before


def test_without_the_right_to_write_there_it_is_refused(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with box(daemon, daemon.run()) as target:
        assert Cpu(1.0).refuse(target) is None
        monkeypatch.setattr(os, "access", lambda path, mode: "cgroup" not in str(path))
        for fault in (Cpu(1.0), Memory(MIB), DiskLoad("/data", write=MIB), OpenFiles(count=2)):
            assert "be root" in str(fault.refuse(target))


def test_nothing_of_a_helper_is_left_in_any_group(daemon: Daemon) -> None:
    with box(daemon, daemon.run()) as target:
        fault = Cpu(0.5)
        changes = inject(fault, target)
        assert proven(fault, target, changes)
        undo(fault, target, changes)
        pids = {process.pid for process in target.tree()}
        for group in Path("/sys/fs/cgroup").glob(f"**/{target.id}"):
            assert {int(pid) for pid in (group / "cgroup.procs").read_text().split()} <= pids
    assert [mark for mark, _ in leftover_helpers() if target.mark in mark] == []
