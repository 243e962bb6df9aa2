"""Where control groups are, of version 1, version 2 and both, from what the kernel tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaoskit import cgroups
from chaoskit.cgroups import Group, held_back, memory_free, placed, time_group, to_join
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.mounts import below, mount_at, mounts_of, parsed
from chaoskit.procfs import Process

ID = "4f" * 32
MIB = 2**20


def mounted(top: Path, *lines: str) -> str:
    """A mountinfo with these hierarchies: `NAME KIND ROOT SETTINGS`."""
    found = ["22 27 0:21 / /proc rw,relatime - proc proc rw"]
    for number, line in enumerate(lines, 30):
        name, kind, root, settings = line.split()
        found.append(
            f"{number} 22 0:{number} {root} {top}/{name} rw,nosuid shared:{number} - {kind} none "
            f"rw,{settings}"
        )
    return "\n".join(found)


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path) -> None:
    text = mounted(
        tmp_path, "cpu,cpuacct cgroup / cpu,cpuacct", "memory cgroup / memory", "pids cgroup / pids"
    )
    paths = {"cpu,cpuacct": f"/docker/{ID}", "memory": f"/docker/{ID}", "devices": "/", "pids": "/"}
    found = placed(paths, parsed(text))
    both = Group(f"{tmp_path}/cpu,cpuacct/docker/{ID}", f"{tmp_path}/cpu,cpuacct", 1)
    assert found["cpu"] == found["cpuacct"] == both
    assert found["memory"].folder == f"{tmp_path}/memory/docker/{ID}"
    assert found["pids"].folder == f"{tmp_path}/pids"
    assert "devices" not in found, "it is not mounted"
    assert to_join(found) == [both, found["memory"]], "each once, and not in every one"


def test_version_2_has_one_folder_for_all_that_is_switched_on(tmp_path: Path) -> None:
    group = tmp_path / "all" / "system.slice" / f"docker-{ID}.scope"
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    text = mounted(tmp_path, "all cgroup2 / nsdelegate")
    found = placed({"": f"/system.slice/docker-{ID}.scope"}, parsed(text))
    assert set(found) == {"", "cpuset", "cpu", "io", "memory", "pids"}
    assert set(found.values()) == {Group(str(group), f"{tmp_path}/all", 2)}
    assert to_join(found) == [found[""]]


def test_both_side_by_side(tmp_path: Path) -> None:
    """systemd's hybrid: the controllers have version 1, and version 2 only names."""
    (tmp_path / "unified" / "docker" / ID).mkdir(parents=True)
    text = mounted(tmp_path, "memory cgroup / memory", "unified cgroup2 / nsdelegate")
    found = placed({"memory": f"/docker/{ID}", "": f"/docker/{ID}"}, parsed(text))
    assert set(found) == {"memory", ""}
    assert found["memory"].version == 1 and found[""].version == 2
    assert to_join(found) == [found["memory"]]
    assert to_join({"": found[""]}) == [found[""]], "with nothing switched on it still counts"
    assert time_group(found) == found[""]
    assert time_group({"cpu": found["memory"]} | found) == found["memory"]


def test_a_part_of_a_hierarchy_may_be_mounted(tmp_path: Path) -> None:
    """As in a container without a view of its own; what is outside of that part is not there."""
    text = mounted(tmp_path, f"memory cgroup /docker/{ID} memory", "pids cgroup / pids")
    found = placed({"memory": f"/docker/{ID}/below"}, parsed(text))
    assert found["memory"].folder == f"{tmp_path}/memory/below"
    assert placed({"memory": "/docker/other"}, parsed(text)) == {}
    assert placed({"pids": "/../outside"}, parsed(text)) == {}, "beyond what we may see"


def test_names_of_hierarchies_are_no_part_of_others(tmp_path: Path) -> None:
    text = mounted(tmp_path, "systemd cgroup / xattr,name=systemd", "cpuset cgroup / cpuset")
    found = placed({"name=systemd": "/a", "cpu": "/b"}, parsed(text))
    assert set(found) == {"name=systemd"}


def test_the_groups_of_a_real_process_have_it_in_them() -> None:
    own = cgroups.own_groups()
    if not own:
        pytest.skip("no control groups are mounted here")
    for group in own.values():
        pids = (group.read("cgroup.procs") or "").split()
        assert str(os.getpid()) in pids, group
        assert group.with_those_above()[-1].folder == group.top


def test_above_and_by_name() -> None:
    group = Group(f"/c/memory/a.slice/libpod-{ID}.scope/container", "/c/memory", 1)
    above = [one.folder for one in group.with_those_above()]
    scope = f"/c/memory/a.slice/libpod-{ID}.scope"
    assert above == [group.folder, scope, "/c/memory/a.slice", "/c/memory"]
    assert group.named(ID).folder == scope
    inside = Group(f"/c/{ID}/of-{ID}", "/c", 2)
    assert inside.named(ID).folder == f"/c/{ID}", "the whole of it"
    assert group.named("") == group and group.named("other") == group
    nested = Group(f"/c/docker/{ID}/docker/{'a' * 64}", "/c", 2)
    assert nested.named("a" * 64) == nested, "not the one that the container runs in"


def test_what_is_not_there(tmp_path: Path) -> None:
    own = Process.at(os.getpid())
    group = Group(str(tmp_path), str(tmp_path), 1)
    assert group.read("cpu.max") is None and group.counters("memory.stat") == {}
    with pytest.raises(ChaoskitError, match=r"no .*cpu\.max"):
        group.write("cpu.max", "1", own)
    with pytest.raises(Gone):
        group.write("cpu.max", "1", Process(own.pid, own.start + 1, own.boot))


def test_nothing_is_written_for_one_that_has_ended(tmp_path: Path) -> None:
    """A container that is started again has the same folder."""
    own = Process.at(os.getpid())
    (tmp_path / "cpu.max").write_text("theirs")
    with pytest.raises(Gone):
        group = Group(str(tmp_path), str(tmp_path), 2)
        group.write("cpu.max", "1", Process(own.pid, own.start - 1, own.boot))
    assert (tmp_path / "cpu.max").read_text() == "theirs"


def test_time_that_quotas_held_back_is_that_of_all_above(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "cpu.stat").write_text("nr_periods 9\nnr_throttled 3\nthrottled_usec 1500000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "a" / "cpu.stat").write_text("throttled_usec 500000\n")
    (tmp_path / "a" / "cpu.max").write_text("20000 250000\n")
    assert held_back(Group(str(inner), str(tmp_path), 2)) == (2.0, 0.25)
    (inner / "cpu.stat").write_text("nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n")
    (inner / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "a" / "cpu.stat").unlink()
    assert held_back(Group(str(inner), str(tmp_path), 1)) == (1.5, 0.1)
    assert held_back(None) == (0.0, 0.0)


def memory(folder: Path, most: str, used: int, cached: int = 0, high: str = "max") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "cgroup.procs": "",
        "memory.max": most,
        "memory.high": high,
        "memory.current": str(used),
        "memory.stat": f"anon 1\ninactive_file {cached}\n",
    }.items():
        (folder / name).write_text(text)


def test_memory_is_what_the_tightest_limit_leaves(tmp_path: Path) -> None:
    inner, outer = tmp_path / "a" / "b", tmp_path / "a"
    memory(outer, "max", 50 * MIB)
    memory(inner, str(100 * MIB), 30 * MIB, cached=10 * MIB)
    groups = {"memory": Group(str(inner), str(tmp_path), 2)}
    # What is cached of files is given back; 16 MiB stay, which is more than 5%.
    assert memory_free(groups) == (80 * MIB, 64 * MIB)
    memory(inner, str(1000 * MIB), 30 * MIB)
    assert memory_free(groups) == (970 * MIB, 920 * MIB)
    memory(outer, str(200 * MIB), 50 * MIB)
    assert memory_free(groups) == (150 * MIB, 134 * MIB)
    memory(outer, "max", 50 * MIB, high=str(60 * MIB))
    assert memory_free(groups) == (10 * MIB, 0)
    assert memory_free({})[0] > 10 * MIB, "the machine itself"


def test_a_mountinfo_in_all_its_parts() -> None:
    text = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "36 1 0:41 / /tmp/with\\040blank ro,noatime master:1 shared:7 - overlay overlay "
        "rw,lowerdir=/l,upperdir=/up\\040per/diff,workdir=/w\n"
        "37 1 8:2 /inner/folder /tmp rw - ext4 /dev/sda2 ro,errors=continue\n"
    )
    newest, overlay, root = parsed(text)
    assert newest.point == "/tmp" and newest.top == "/inner/folder" and newest.read_only
    assert overlay.point == "/tmp/with blank" and overlay.kind == "overlay" and overlay.read_only
    assert overlay.setting("upperdir") == "/up per/diff" and overlay.setting("per") is None
    assert not root.read_only and root.source == "/dev/sda1" and root.number == 1
    mounts = [newest, overlay, root]
    assert mount_at("/tmp/with blank/deep", mounts) == overlay
    assert mount_at("/tmp/with", mounts) == newest and mount_at("/tmpx", mounts) == root
    assert mount_at("/x", []) is None
    assert below("/a/b", "/a") == "/b" and below("/a", "/a/") == "" and below("/ab", "/a") is None
    assert below("/x", "/") == "/x"


def test_the_real_mounts_are_read() -> None:
    assert any(mount.point == "/" for mount in mounts_of())
    assert any(mount.kind == "proc" for mount in mounts_of(os.getpid()))
    with pytest.raises(Gone):
        mounts_of(2**22 + 1)
