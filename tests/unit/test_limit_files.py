"""limit on version 2 of control groups: a tree of files that behaves as the kernel's does.

Version 1 is tested in real groups (tests/docker).
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoskit.cgroups import Group
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.faults.limit import Limit
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Found
from chaoskit.model.units import Share
from chaoskit.procfs import Process
from chaoskit.targets import disks
from chaoskit.targets.limit_files import knob
from chaoskit.targets.limits import Limits

MIB = 2**20
FILES = {
    "cgroup.procs": "",
    "cpu.max": "max 100000\n",
    "memory.max": "max\n",
    "memory.current": f"{30 * MIB}\n",
    "memory.stat": f"anon 1\ninactive_file {10 * MIB}\n",
    "pids.max": "max\n",
    "pids.current": "7\n",
    "io.max": "9:9 rbps=max wbps=1000000 riops=50 wiops=max\n",
}


class Boxed(Limits):
    """A process in a group of a tree of our own."""

    def __init__(self, top: Path, root: Process) -> None:
        self.top = top
        self.inner = top / "docker" / "box"
        for folder in (self.inner, self.inner.parent):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in FILES.items():
                (folder / name).write_text(text)
        self.root = root
        self.binding = Binding("run", "1", Path("/"))

    def groups(self, process: Process) -> dict[str, Group]:
        process.stat()
        group = Group(str(self.inner), str(self.top), 2)
        return dict.fromkeys(("", "cpu", "memory", "pids", "io"), group)

    def cpus(self) -> list[int]:
        return [0, 1, 2, 3]

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.inner.iterdir() if path.is_file()}


def kernel(group: Group, name: str, text: str, owner: Process) -> None:
    """Takes what the kernel takes, and keeps it as the kernel does."""
    owner.stat()
    file = Path(group.folder, name)
    if name == "cpu.max":
        quota, _, period = text.partition(" ")
        assert quota == "max" or int(quota) >= 1000
        text = f"{quota} {period or file.read_text().split()[1]}"
    elif name == "memory.max":
        text = text if text == "max" else str(int(text) // 4096 * 4096)
    elif name == "io.max":
        disk, *given = text.split()
        lines = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        fields = dict.fromkeys(("rbps", "wbps", "riops", "wiops"), "max")
        fields |= dict(one.split("=") for one in lines.get(disk, "").split())
        fields |= dict(one.split("=") for one in given)
        lines[disk] = " ".join(f"{key}={value}" for key, value in fields.items())
        if set(fields.values()) == {"max"}:
            del lines[disk]
        text = "\n".join(f"{disk} {line}" for disk, line in sorted(lines.items()))
    file.write_text(f"{text}\n")


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Boxed]:
    monkeypatch.setattr(Group, "write", kernel)
    monkeypatch.setattr(disks, "disk_of", lambda folder: "8:0")
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        yield Boxed(tmp_path, Process.at(process.pid))


def inject(fault: Limit, target: Boxed) -> list[Change]:
    done = []
    for change in fault.changes(target):
        fault.make(target, change)
        done.append(change)
    return done


@pytest.mark.parametrize(
    ("fault", "before", "during"),
    [
        (Limit(cpu=0.5), {}, {"cpu.max": "50000 100000\n"}),
        (Limit(cpu=0.5), {"cpu.max": "70000 50000\n"}, {"cpu.max": "25000 50000\n"}),
        (Limit(cpu=Share(0.5)), {}, {"cpu.max": "200000 100000\n"}),
        (Limit(cpu=Share(0.5)), {"cpu.max": "70000 50000\n"}, {"cpu.max": "35000 50000\n"}),
        (Limit(memory=64 * MIB), {}, {"memory.max": f"{64 * MIB}\n"}),
        (Limit(memory=64 * MIB + 5), {}, {"memory.max": f"{64 * MIB}\n"}),
        (Limit(memory=64 * MIB), {"memory.max": f"{99 * MIB}\n"},
         {"memory.max": f"{64 * MIB}\n"}),
        (Limit(pids=9), {}, {"pids.max": "9\n"}),
        (Limit(pids=9), {"pids.max": "10\n"}, {"pids.max": "9\n"}),
        (Limit(read=1e6), {}, {
            "io.max": "8:0 rbps=1000000 wbps=max riops=max wiops=max\n" + FILES["io.max"]}),
        (Limit(read=1e6, write=2e6), {}, {
            "io.max": "8:0 rbps=1000000 wbps=2000000 riops=max wiops=max\n" + FILES["io.max"]}),
        (Limit(write=1e6), {"io.max": "8:0 rbps=77 wbps=1500000 riops=max wiops=5\n"},
         {"io.max": "8:0 rbps=77 wbps=1000000 riops=max wiops=5\n"}),
    ],
)  # fmt: skip
def test_it_is_lowered_and_put_back_exactly(
    boxed: Boxed, fault: Limit, before: dict[str, str], during: dict[str, str]
) -> None:
    for name, text in before.items():
        (boxed.inner / name).write_text(text)
    files = boxed.files()
    assert fault.refuse(boxed) is None
    changes = inject(fault, boxed)
    assert boxed.files() == files | during
    assert fault.took(boxed, changes)
    for change in reversed(changes):
        assert fault.found(fault.look(boxed, change), change) is Found.OURS
        fault.unmake(boxed, change)
        assert fault.found(fault.look(boxed, change), change) is Found.WAS
    assert boxed.files() == files
    assert not fault.took(boxed, changes)


@pytest.mark.parametrize(
    ("fault", "before", "told"),
    [
        (Limit(cpu=4.0), {}, "it may use 4 processors at most"),
        (Limit(cpu=0.5), {"cpu.max": "50000 100000\n"}, "it may use 0.5 processors at most"),
        (Limit(cpu=Share(0.001)), {}, "less than the kernel takes"),
        (Limit(memory=2**60), {}, "at most: 1048576TiB would not lower that"),
        (Limit(memory=64 * MIB), {"memory.max": f"{64 * MIB}\n"}, "it may use 64MiB at most"),
        # 20 MiB are in use, without what is only cached, and 4 MiB are the margin.
        (Limit(memory=23 * MIB), {}, "20MiB of memory are in use: with less than 24MiB"),
        (Limit(memory=54 * MIB), {"memory.current": str(60 * MIB)}, "with less than 55MiB"),
        (Limit(pids=8), {"pids.max": "8\n"}, "it may use 8 processes at most"),
        (Limit(write=2e6), {"io.max": "8:0 rbps=max wbps=1500000 riops=max wiops=max\n"},
         "it may use 1.4MiB/s at most: 1.9MiB/s would not lower that"),
    ],
)  # fmt: skip
def test_it_never_raises_one_and_calls_no_oom_killer(
    boxed: Boxed, fault: Limit, before: dict[str, str], told: str
) -> None:
    for name, text in before.items():
        (boxed.inner / name).write_text(text)
    files = boxed.files()
    assert told in str(fault.refuse(boxed))
    with pytest.raises(Refused):
        inject(fault, boxed)
    assert boxed.files() == files


def test_a_tighter_limit_above_counts(boxed: Boxed) -> None:
    (boxed.inner.parent / "memory.max").write_text(f"{64 * MIB}\n")
    (boxed.inner.parent / "cpu.max").write_text("20000 100000\n")
    assert "it may use 64MiB at most" in str(Limit(memory=80 * MIB).refuse(boxed))
    assert "it may use 0.2 processors" in str(Limit(cpu=1.0).refuse(boxed))
    assert Limit(memory=60 * MIB, cpu=0.1).refuse(boxed) is None


def test_what_others_have_written_is_theirs(boxed: Boxed) -> None:
    fault = Limit(cpu=0.5, pids=9)
    changes = inject(fault, boxed)
    (boxed.inner / "cpu.max").write_text("60000 100000\n")
    first, second = (fault.found(fault.look(boxed, c), c) for c in changes)
    assert first is Found.FOREIGN and second is Found.OURS
    assert not fault.took(boxed, changes)


def test_another_incarnation_has_other_limits(boxed: Boxed) -> None:
    """The folder may be the same; what is in there now belongs to a successor."""
    fault = Limit(cpu=0.5)
    (change,) = inject(fault, boxed)
    ended, boxed.root = boxed.root, Process.at(os.getpid())
    assert ended.key in change.key
    os.kill(ended.pid, 9)
    os.waitpid(ended.pid, 0)
    files = boxed.files()
    for ask in (fault.look, fault.make, fault.unmake):
        with pytest.raises(Gone):
            ask(boxed, change)
    assert boxed.files() == files
    boxed.root = ended
    with pytest.raises(Gone):
        fault.refuse(boxed)
    assert inject(fault, boxed) == []


def test_what_was_read_is_of_one_that_lives(boxed: Boxed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end, and another begin in its place, between the finding and the reading."""
    (change,) = inject(Limit(cpu=0.5), boxed)
    read = Group.read

    def late(group: Group, name: str) -> str | None:
        os.kill(boxed.root.pid, 9)
        os.waitid(os.P_PID, boxed.root.pid, os.WEXITED | os.WNOWAIT)
        return read(group, name)

    monkeypatch.setattr(Group, "read", late)
    with pytest.raises(Gone):
        Limit(cpu=0.5).look(boxed, change)


def test_the_group_of_its_name_is_meant(boxed: Boxed) -> None:
    """The first process may have made itself a group below the container's own."""
    own = boxed.inner
    boxed.inner = own / "init.scope"
    boxed.inner.mkdir()
    boxed.group_name = "box"
    (change,) = inject(Limit(cpu=0.5), boxed)
    assert (own / "cpu.max").read_text() == "50000 100000\n"
    assert Limit(cpu=0.5).look(boxed, change) == "50000 100000"


def test_what_cannot_be_limited_is_told(boxed: Boxed, monkeypatch: pytest.MonkeyPatch) -> None:
    (boxed.inner / "pids.max").unlink()
    assert "has no pids.max" in str(Limit(pids=5).refuse(boxed))
    assert "there is no folder /no-such" in str(Limit(read=1e6, path="/no-such").refuse(boxed))
    monkeypatch.setattr(boxed, "groups", lambda process: {})
    assert "no control group" in str(Limit(cpu=0.5).refuse(boxed))
    monkeypatch.undo()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "be root" in str(Limit(cpu=0.5).refuse(boxed))


def test_what_makes_no_sense_is_told() -> None:
    assert Limit().problems() and not Limit(pids=5).problems()
    assert Limit(pids=5, path="/data").problems()
    assert not Limit(read=1e6, path="/data").problems()


def test_what_the_plan_says_of_it(boxed: Boxed) -> None:
    assert any("docker update" in told for told in Limit(pids=8).remarks(boxed))
    assert any("7 processes are in it" in told for told in Limit(pids=7).remarks(boxed))
    assert not any("processes are in it" in told for told in Limit(pids=8).remarks(boxed))
    assert not any("fsync" in told for told in Limit(write=1e6).remarks(boxed)), "version 2 counts"


@pytest.mark.parametrize("what", ["cpu", "memory", "pids", "read", "write"])
@pytest.mark.parametrize("version", [1, 2])
def test_what_it_writes_is_what_it_reads(tmp_path: Path, what: str, version: int) -> None:
    """Its text stands for the number that it was made of, and no limit is endless."""
    group = Group(str(tmp_path), str(tmp_path), version)
    (tmp_path / "cpu.cfs_period_us").write_text("50000\n")
    at = knob(what, version, "8:0")
    for most in (1.0, 0.5) if what == "cpu" else (2.0**20, 2.0**30):
        assert at.number(at.text(most, group), group) == most
    none = {("cpu", 1): "-1", ("cpu", 2): "max 100000", ("memory", 1): "9223372036854771712",
            ("read", 1): "0", ("write", 1): "0"}  # fmt: skip
    assert at.number(none.get((what, version), "max"), group) == math.inf


def test_a_line_of_one_disk(tmp_path: Path) -> None:
    group = Group(str(tmp_path), str(tmp_path), 1)
    at = knob("read", 1, "8:0")
    assert at.read(group) is None
    (tmp_path / at.file).write_text("18:0 5\n8:0 77\n8:16 9\n")
    assert at.read(group) == "77" and at.line("0") == "8:0 0"
    assert knob("read", 1, "8:1").read(group) == "0"
    assert knob("write", 2, "8:1").read(group) is None
    (tmp_path / "io.max").write_text("8:0 rbps=5 wbps=6 riops=max wiops=max\n")
    assert knob("write", 2, "8:0").read(group) == "6"
    assert knob("write", 2, "8:1").read(group) == "max"
    assert knob("write", 2, "8:1").line("7") == "8:1 wbps=7"


def test_the_disk_of_a_folder_is_a_whole_one(tmp_path: Path) -> None:
    try:
        number = disks.disk_of(str(tmp_path))
    except ChaoskitError:
        pytest.skip("this machine's files lie on no disk of its own")
    at = Path(f"/sys/dev/block/{number}")
    assert at.exists() and not (at / "partition").exists()
    with pytest.raises(ChaoskitError, match="lies on no disk"):
        disks.disk_of("/proc")


def test_a_partition_is_a_part_of_its_disk(tmp_path: Path) -> None:
    disk = tmp_path / "sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "dev").write_text("8:0\n")
    (disk / "sda1" / "partition").write_text("1\n")
    (tmp_path / "8:0").symlink_to("sda")
    (tmp_path / "8:1").symlink_to("sda/sda1")
    assert disks._whole("8:1", tmp_path) == "8:0" and disks._whole("8:0", tmp_path) == "8:0"
