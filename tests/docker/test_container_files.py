"""disk-fill and disk-load on containers: in their own layer, in volumes, and not in the host's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import images
import keeper
import pytest
from beside import SOON, After, inject, proven, undo
from boxes import Box, box
from daemons import Daemon
from docker.models.containers import Container
from docker.types import Mount
from hurting import chaoskit, kill_both, running, settled, step, write

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.disk_fill import DiskFill
from chaoskit.faults.disk_load import DiskLoad
from chaoskit.journal import State
from chaoskit.model.fault import Change, Fault, Found

MIB = 2**20


def small(daemon: Daemon, size: int = 64) -> str:
    """A volume of so many MiB, in memory."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={size}m"}
    name = daemon.name("small")
    daemon.client.volumes.create(name, driver="local", driver_opts=options)
    return name


def listed(container: Container, folder: str) -> list[str]:
    return sorted(container.exec_run(["ls", "-A", folder]).output.decode().split())


def fillers(daemon: Daemon) -> list[str]:
    """Every file of ours below the folder of the daemon, mounted or not."""
    found = []
    for folder, _, names in os.walk(daemon.folder / "data"):
        found += [f"{folder}/{name}" for name in names if name.startswith(".chaoskit-")]
    return found


def filled(target: Box, fault: DiskFill) -> Change:
    assert fault.refuse(target) is None
    (change,) = inject(fault, target)
    assert fault.took(target, [change])
    return change


@pytest.mark.parametrize("image", [images.BUSYBOX, images.SCRATCH])
def test_the_containers_own_layer(daemon: Daemon, image: str) -> None:
    container = daemon.run(image=image)
    with box(daemon, container) as target:
        before = container.diff() or []
        fault = DiskFill("/" if image == images.SCRATCH else "/data", size=40 * MIB)
        change = filled(target, fault)
        assert any(".chaoskit-" in one["Path"] for one in container.diff())
        assert target.size_of(change.key) >= 40 * MIB
        undo(fault, target, [change])
        assert [x for x in container.diff() or [] if ".chaoskit-" in x["Path"]] == []
        assert {one["Path"] for one in container.diff() or []} - {"/data"} == {
            one["Path"] for one in before
        }
        assert fillers(daemon) == []


def test_links_are_followed_as_the_container_follows_them(daemon: Daemon) -> None:
    container = daemon.run(volumes={daemon.name("data"): {"bind": "/vol"}})
    container.exec_run(["ln", "-s", "/vol", "/data/link"])
    container.exec_run(["ln", "-s", "../../../../etc", "/data/up"])
    with box(daemon, container) as target:
        change = filled(target, fault := DiskFill("/data/link", size=MIB))
        assert listed(container, "/vol") == [Path(change.key).name]
        undo(fault, target, [change])
        change = filled(target, fault := DiskFill("/data/up", size=MIB))
        assert Path(change.key).name in listed(container, "/etc")
        assert not list(Path("/etc").glob(".chaoskit-*"))
        undo(fault, target, [change])


def test_a_volume_in_memory_may_be_filled_but_for_its_own_reserve(daemon: Daemon) -> None:
    """64 MiB could never keep 256 free; and no disk of the host's is on it."""
    container = daemon.run(volumes={small(daemon): {"bind": "/vol"}})
    with box(daemon, container) as target:
        for until_, told in ((0.95, None), (0.97, "3.2MiB would be left"), (1.0, "3.2MiB")):
            why = DiskFill("/vol", until=until_).refuse(target)
            assert why is None if told is None else told in str(why), (until_, why)
        fault = DiskFill("/vol", until=0.95)
        assert fault.remarks(target) == ("3.2MiB always stay free in /vol",)
        change = filled(target, fault)
        done = container.exec_run(["dd", "if=/dev/zero", "of=/vol/x", "bs=1M", "count=8"])
        assert b"No space left" in done.output
        container.exec_run(["rm", "/vol/x"])
        undo(fault, target, [change])
        assert listed(container, "/vol") == []


def test_a_disk_of_the_host_keeps_its_reserve(daemon: Daemon) -> None:
    """Whoever fills a container fills the disk that its layer and its volumes lie on."""
    container = daemon.run(volumes={daemon.name("data"): {"bind": "/vol"}})
    with box(daemon, container) as target:
        free, whole = target.space(str(daemon.folder))
        least = max(int(0.05 * whole), 256 * MIB)
        for path in ("/", "/vol"):
            assert not target.is_own(target.host_folder(path))
            assert abs(target.reserve(target.host_folder(path)) - least) < MIB
            assert "would be left" in str(DiskFill(path, size=free - least // 2).refuse(target))
            assert "would be left" in str(DiskFill(path, until=0.96).refuse(target))


def test_what_lies_in_memory_keeps_the_memorys_reserve(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume may be as large as all memory: filling it would call the OOM killer."""
    from chaoskit.targets import reserve

    container = daemon.run(volumes={small(daemon, 1024): {"bind": "/vol"}})
    with box(daemon, container) as target:
        assert DiskFill("/vol", size=200 * MIB).refuse(target) is None

        def scarce(groups: object) -> tuple[int, int]:
            free, whole = target.space(target.host_folder("/vol"))
            return 100 * MIB, max(0, 50 * MIB - (whole - free))

        monkeypatch.setattr(reserve, "memory_free", scarce)
        assert "974MiB would be left" in str(DiskFill("/vol", size=200 * MIB).refuse(target))
        # Also when it gets scarce while it grows.
        (change,) = inject(DiskFill("/vol", size=200 * MIB), target)
        assert 40 * MIB < target.size_of(change.key) <= 51 * MIB
        undo(DiskFill("/vol", size=200 * MIB), target, [change])


def test_folders_of_the_host_are_the_hosts(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    container = daemon.run(mounts=[Mount("/host", str(tmp_path / "shared"), "bind")])
    with box(daemon, container) as target:
        for fault in (DiskFill("/host", size=MIB), DiskLoad("/host", write=1.0 * MIB)):
            assert f"it is {tmp_path}/shared of the host" in str(fault.refuse(target))
            assert "allow-host: true" in str(fault.refuse(target))
        with pytest.raises(ChaoskitError):
            target.filler("/host")
        target.binding = target.bind(allow_host=True)
        change = filled(target, fault := DiskFill("/host", size=MIB))
        assert Path(change.key).parent == tmp_path / "shared"
        undo(fault, target, [change])
        assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "path", "told"),
    [
        ({"read_only": True}, "/data", "it is mounted read-only there"),
        ({"tmpfs": {"/quick": ""}}, "/quick", "only the process itself can see it"),
        ({}, "/dev/shm", "only the process itself can see it"),
        ({}, "/proc", "cannot be used"),
        ({}, "/no-such", "there is no folder /no-such: No such file"),
        ({}, "/etc/passwd", "is no folder"),
    ],
)
def test_where_nothing_of_ours_may_lie(
    daemon: Daemon, options: dict[str, Any], path: str, told: str
) -> None:
    with box(daemon, daemon.run(**options)) as target:
        for fault in (DiskFill(path, size=MIB), DiskLoad(path, read=1.0 * MIB)):
            assert told in str(fault.refuse(target)), fault
    assert fillers(daemon) == []


def test_a_volume_that_is_read_only_for_it(daemon: Daemon) -> None:
    volumes = {daemon.name("data"): {"bind": "/vol", "mode": "ro"}}
    with box(daemon, daemon.run(volumes=volumes)) as target:
        assert "read-only" in str(DiskFill("/vol", size=MIB).refuse(target))


def test_a_volume_that_is_a_disk_of_its_own_is_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    """It is mounted only while a container has it: a filler would stay in there unseen."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    if subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True).returncode:
        pytest.skip("there is no mkfs.ext4 here")
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True,
                          text=True)  # fmt: skip
    if made.returncode:
        pytest.skip(f"there is no loop device to be had: {made.stderr.strip()}")
    try:
        name, loop = daemon.name("disk"), made.stdout.strip()
        options = {"type": "ext4", "device": loop}
        daemon.client.volumes.create(name, driver="local", driver_opts=options)
        container = daemon.run(volumes={name: {"bind": "/vol"}})
        with box(daemon, container) as target:
            assert "file system of its own (ext4)" in str(DiskFill("/vol", size=MIB).refuse(target))
        container.remove(force=True)
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


@pytest.mark.parametrize("place", ["/data", "/vol", "/mem"])
@pytest.mark.parametrize("how", ["stop", "restart", "remove"])
def test_when_the_container_goes_the_filler_is_still_taken_away(
    daemon: Daemon, place: str, how: str
) -> None:
    """In its layer, which is not mounted any more; in a volume, which stays when it is removed."""
    container = daemon.run(
        volumes={daemon.name("data"): {"bind": "/vol"}, small(daemon): {"bind": "/mem"}}
    )
    with box(daemon, container) as target:
        fault = DiskFill(place, size=8 * MIB)
        change = filled(target, fault)
        assert len(fillers(daemon)) in (1, 2)  # Of an overlay it is seen above and below.
        if how == "stop":
            container.stop(timeout=0)
        elif how == "restart":
            container.restart(timeout=0)
        else:
            container.remove(force=True)
        assert not fault.took(target, [change])
        gone = place == "/mem" or (place == "/data" and how == "remove")
        expected = Found.WAS if gone else Found.OURS
        assert fault.found(fault.look(target, change), change) is expected
        undo(fault, target, [change])
        assert fillers(daemon) == []
        target.binding = target.bind()
        with pytest.raises(Gone):
            fault.make(target, change)
        assert fillers(daemon) == []


def test_what_is_still_there_after_a_restart_is_gone_on_with(daemon: Daemon) -> None:
    """Not filled twice: the file is the same, in a layer that is the same."""
    container = daemon.run()
    with box(daemon, container) as target:
        fault = DiskFill("/data", size=30 * MIB)
        change = filled(target, fault)
        os.truncate(change.key, 20 * MIB)
        container.restart(timeout=0)
        (again,) = _reborn(target, fault)
        assert again == change and target.size_of(again.key) == 30 * MIB
        assert {Path(path).name for path in fillers(daemon)} == {Path(change.key).name}
        undo(fault, target, [again])


def _reborn(target: Box, fault: Fault[Any]) -> list[Change]:
    reborn = target.reborn()
    assert reborn is not None
    target._incarnation = reborn._incarnation
    return inject(fault, target)


def test_a_file_of_somebody_else_in_its_place_is_left_alone(daemon: Daemon) -> None:
    container = daemon.run()
    with box(daemon, container) as target:
        fault = DiskFill("/data", size=MIB)
        (change,) = fault.changes(target)
        name = Path(change.key).name
        container.exec_run(["sh", "-c", f"echo dear >/data/{name}"])
        assert "there already" in str(fault.refuse(target))
        with pytest.raises(FileExistsError):
            fault.make(target, change)
        assert fault.found(fault.look(target, change), change) is Found.FOREIGN
        target.undoing()
        fault.unmake(target, change)
        assert container.exec_run(["cat", f"/data/{name}"]).output == b"dear\n"


def test_a_container_that_goes_while_it_is_filled(daemon: Daemon) -> None:
    """What is written goes into its volume, and not into the folder that was below."""
    container = daemon.run(volumes={small(daemon, 200): {"bind": "/mem"}})
    with box(daemon, container) as target:
        fault = DiskFill("/mem", size=150 * MIB)
        (change,) = fault.changes(target)
        gone = After(99, lambda: target.root.alive() and container.kill())
        target.binding = target.bind(cancel=gone)
        with pytest.raises(Gone):
            fault.make(target, change)
        assert until(lambda: fillers(daemon) == [], SOON)


def test_a_load_on_the_containers_disk(daemon: Daemon) -> None:
    """In its layer and in a volume; while it is on nothing is to be seen in the folder."""
    container = daemon.run(volumes={daemon.name("data"): {"bind": "/vol"}})
    with box(daemon, container) as target:
        for path in ("/data", "/vol"):
            before = target.written()
            fault = DiskLoad(path, write=8.0 * MIB)
            assert fault.refuse(target) is None
            changes = inject(fault, target)
            assert proven(fault, target, changes)
            assert until(lambda before=before: target.written() - before > 4 * MIB, SOON)
            assert listed(container, path) == []
            undo(fault, target, changes)
            target.binding = target.bind()


def filling(daemon: Daemon, container: Container, folder: Path, path: str, **more: Any) -> Path:
    return write(
        folder / "e.json",
        step("disk-fill", daemon.url, id=container.id, _path=path, _size="30MiB", **more),
    )


@pytest.mark.parametrize("by", ["guardian", "recover"])
@pytest.mark.parametrize("place", ["/data", "/vol"])
def test_a_killed_runner_leaves_no_filler(
    daemon: Daemon, tmp_path: Path, place: str, by: str
) -> None:
    """Nor does one whose container has been removed meanwhile: no daemon is asked to undo."""
    container = daemon.run(volumes={daemon.name("data"): {"bind": "/vol"}})
    state = tmp_path / "state"
    with running(filling(daemon, container, tmp_path, place), state) as runner:
        assert fillers(daemon)
        if by == "guardian":
            daemon.freeze()
            runner.send_signal(signal.SIGKILL)
        else:
            kill_both(state)
            container.remove(force=True)
            assert chaoskit("recover", state=state).returncode == 0
        assert settled(state)
        assert fillers(daemon) == []
    daemon.thaw()


@pytest.mark.parametrize(("fault", "params"), [
    ("cpu", {"_load": 1}), ("memory", {"_size": "24MiB"}), ("open-files", {"_leave": 3}),
    ("disk-load", {"_path": "/data", "_write": "2MiB/s"}),
])  # fmt: skip
@pytest.mark.parametrize("by", ["guardian", "recover"])
def test_a_killed_runner_leaves_no_burden(
    daemon: Daemon, tmp_path: Path, fault: str, params: dict[str, Any], by: str
) -> None:
    container = daemon.run()
    state = tmp_path / "state"
    container.reload()
    pid = container.attrs["State"]["Pid"]
    before = (_members(pid), Path(f"/proc/{pid}/limits").read_text())
    file = write(tmp_path / "e.json", step(fault, daemon.url, id=container.id, **params))
    with running(file, state) as runner:
        assert (_members(pid), Path(f"/proc/{pid}/limits").read_text()) != before
        daemon.freeze()
        if by == "guardian":
            runner.send_signal(signal.SIGKILL)
        else:
            kill_both(state)
            assert chaoskit("recover", state=state).returncode == 0
        assert settled(state)
        assert until(
            lambda: (_members(pid), Path(f"/proc/{pid}/limits").read_text()) == before, SOON
        )
    daemon.thaw()


def _members(pid: int) -> dict[str, list[str]]:
    """Who is in each of the control groups of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        for root in (keeper.CGROUPS / (kinds.removeprefix("name=") or "unified"), keeper.CGROUPS):
            file = root / path.lstrip("/") / "cgroup.procs"
            if file.exists():
                found[kinds] = sorted(file.read_text().split())
    return found


@pytest.mark.parametrize("again", ["reapply", "end"])
@pytest.mark.parametrize(("fault", "params"), [
    ("cpu", {"_load": 1}), ("disk-fill", {"_path": "/data", "_size": "20MiB"}),
])  # fmt: skip
def test_a_restart_during_the_fault(
    daemon: Daemon, tmp_path: Path, fault: str, params: dict[str, Any], again: str
) -> None:
    container = daemon.run(nano_cpus=int(0.05e9))
    state = tmp_path / "state"
    file = write(
        tmp_path / "e.json", step(fault, daemon.url, id=container.id, hold="15s", **params)
    )
    document = json.loads(file.read_text())
    document["method"][0]["on-restart"] = again
    file.write_text(json.dumps(document))
    with running(file, state) as runner:
        began = time.monotonic()
        container.restart(timeout=0)
        assert time.monotonic() - began < 20
        told, _ = runner.communicate(timeout=60)
    # A file outlasts the restart; a helper process does not.
    ends = again == "end" and fault == "cpu"
    assert runner.returncode == (6 if ends else 0), told
    said = (
        "is still in"
        if fault == "disk-fill"
        else f"{'has ended with it' if ends else 'is made again'}"
    )
    assert f"was restarted: {fault} {said}" in told, told
    container.reload()
    assert container.status == "running"
    assert not State(state).left() and fillers(daemon) == []
