"""The filler: grows beside others, keeps the reserve, is taken away again, and nothing else is."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import SOON, After, Beside, beside
from disks import MIB, free, small_disk

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError, Gone, Interrupted
from chaoskit.procfs import Process
from chaoskit.targets import reserve
from chaoskit.targets.files import leftover_fillers

RESERVE = 256 * MIB


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 448 * MIB) as made:
        yield made


def test_a_folder_is_what_the_target_means_by_it(target: Beside, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    for path in ("data", str(tmp_path / "data"), "link", "./data/../link/"):
        assert target.host_folder(path) == str((tmp_path / "data").resolve())


def test_what_is_no_folder_is_told(target: Beside, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o500)
    paths = ["missing", "file", "file/below"]
    for path in paths if os.geteuid() == 0 else [*paths, "locked"]:
        with pytest.raises(ChaoskitError, match=path):
            target.host_folder(path)
    target.end()
    with pytest.raises(Gone):
        target.host_folder(str(tmp_path))


JAILED = "import os, sys, time\nos.chroot(sys.argv[1])\nos.chdir('/work')\nprint(flush=True)\ntime.sleep(100)"  # fmt: skip  # noqa: E501


def ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "\n"


def test_a_target_in_a_jail_means_its_own_folders(target: Beside, tmp_path: Path) -> None:
    """Absolute links too lead to where they lead inside: out of the jail is out of bounds."""
    jail = tmp_path / "jail"
    (jail / "work" / "data").mkdir(parents=True)
    (jail / "work" / "link").symlink_to("/work/data")
    (jail / "work" / "up").symlink_to("../../../../work")
    (jail / "loop").symlink_to("/loop")
    (jail / "tmp").symlink_to(tmp_path)
    command = [sys.executable, "-I", "-S", "-c", JAILED, str(jail)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as jailed:  # fmt: skip  # noqa: E501
        try:
            if not ready(jailed):
                pytest.skip("a chroot needs root")
            target.root, own = Process.at(jailed.pid), target.root
            data = str((jail / "work" / "data").resolve())
            for path in ("/work/data", "data", "/work/link", "link", "up/data", "../work/data"):
                assert target.host_folder(path) == data, path
            assert target.host_folder("/") == str(jail.resolve())
            for path in ("/loop", "/tmp", str(tmp_path)):
                with pytest.raises(ChaoskitError):
                    target.host_folder(path)
            target.root = own
        finally:
            jailed.kill()


MOUNTED = """
mount --bind "$0/real" "$0/seen" && mount -t tmpfs none "$0/private" && echo && exec sleep 100
"""


def test_a_target_with_its_own_mounts_means_what_it_sees(target: Beside, tmp_path: Path) -> None:
    """What it sees has a path here that stays when it has ended, or is left alone."""
    for name in ("real/deep", "seen/deep", "private"):
        (tmp_path / name).mkdir(parents=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as other:  # fmt: skip  # noqa: E501
        try:
            if not ready(other):
                pytest.skip("mounting needs root")
            target.root, own = Process.at(other.pid), target.root
            real = (tmp_path / "real").resolve()
            assert target.host_folder(str(tmp_path / "seen")) == str(real)
            assert target.host_folder(str(tmp_path / "seen" / "deep")) == str(real / "deep")
            assert target.host_folder(str(tmp_path / "real")) == str(real)
            with pytest.raises(ChaoskitError, match="only the process itself"):
                target.host_folder(str(tmp_path / "private"))
            target.root = own
        finally:
            other.kill()


def test_a_mark_says_whose_a_file_is(target: Beside, tmp_path: Path) -> None:
    key = Path(target.filler("."))
    mark = key.name[1:]
    assert key.parent == tmp_path.resolve() and mark == target.mark
    assert target.mark_of(str(key)) is None
    for content, ours in (
        ("", True),  # Died between making it and writing the mark.
        (f"{mark}\n", True),
        (f"{mark}\n\0\0\0", True),
        (f"{mark}-not\n", False),
        ("\n", False),
        ("\0\0\0\0", False),
        ("a letter\n", False),
    ):
        key.write_text(content)
        assert (target.mark_of(str(key)) == mark) is ours, repr(content)
        target.unlink(str(key))
        assert key.exists() is not ours, repr(content)
        key.unlink(missing_ok=True)


def test_what_is_no_file_is_never_ours(target: Beside, tmp_path: Path) -> None:
    key = Path(target.filler("."))
    precious = tmp_path / "precious"
    precious.write_text(f"{target.mark}\n")
    for make, remove in (
        (lambda: key.symlink_to(precious), key.unlink),
        (lambda: key.symlink_to("nowhere"), key.unlink),
        (lambda: os.mkfifo(key), key.unlink),
        (key.mkdir, key.rmdir),
    ):
        make()
        assert target.mark_of(str(key)) not in (None, target.mark)
        target.unlink(str(key))
        with pytest.raises(FileExistsError):
            target.grow(str(key), MIB, None)
        remove()  # It is still there.
    assert precious.read_text() == f"{target.mark}\n"


@pytest.mark.parametrize("size", [1, 4096, MIB + 1, 80 * MIB])
def test_it_occupies_what_it_should(target: Beside, size: int) -> None:
    key = target.filler(".")
    target.grow(key, size, None)
    assert size <= target.size_of(key) <= size + MIB
    assert target.mark_of(key) == target.mark
    target.undoing()
    target.unlink(key)
    target.unlink(key)
    assert not Path(key).exists()
    with pytest.raises(Gone):
        target.size_of(key)


def test_it_is_made_once_only(target: Beside) -> None:
    key = target.filler(".")
    Path(key).write_text("somebody's")
    with pytest.raises(FileExistsError):
        target.grow(key, MIB, None)
    assert Path(key).read_text() == "somebody's"


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_an_abort_cuts_it_and_what_is_there_can_be_taken_away(target: Beside, looks: int) -> None:
    key = target.filler(".")
    target.binding = target.bind(cancel=After(looks))
    with pytest.raises(Interrupted):
        target.grow(key, 128 * MIB, None)
    assert target.size_of(key) <= looks * 32 * MIB + MIB
    assert target.mark_of(key) == target.mark
    target.undoing()
    target.unlink(key)
    assert not Path(key).exists()


def test_it_fills_a_disk_until_so_much_is_used(target: Beside, disk: Path) -> None:
    (disk / "theirs").write_bytes(b"x" * 20 * MIB)
    key = target.filler(str(disk))
    target.grow(key, None, 0.3)
    left, whole = target.space(str(disk))
    assert whole == 448 * MIB
    assert 0.3 <= 1 - left / whole < 0.32
    target.unlink(key)
    assert free(disk) == 428 * MIB and (disk / "theirs").exists()


@pytest.mark.parametrize(("size", "until"), [(440 * MIB, None), (None, 1.0)])
def test_it_stops_at_the_reserve(
    target: Beside, disk: Path, size: int | None, until: float | None
) -> None:
    seen, space = list[int](), target.space

    def watched(path: str | int) -> tuple[int, int]:
        seen.append(free(disk))
        return space(path)

    target.space = watched  # type: ignore[method-assign]
    target.grow(target.filler(str(disk)), size, until)
    assert RESERVE <= free(disk) < RESERVE + MIB
    assert len(seen) > 5 and min(seen) >= RESERVE
    assert target.reserve(str(disk)) == RESERVE


def test_the_reserve_of_a_large_disk_is_a_share_of_it(
    target: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "memory_free", lambda groups: (2**50, 2**50))
    with small_disk(tmp_path, 100 * 1024 * MIB) as large:
        assert target.reserve(str(large)) == 5 * 1024 * MIB


def test_a_disk_in_memory_leaves_memory(
    target: Beside, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "memory_free", lambda groups: (90 * MIB, 30 * MIB))
    assert target.reserve(str(disk)) == 418 * MIB


def test_it_gives_back_what_other_writers_need(target: Beside, disk: Path) -> None:
    """They write after a part has been measured and before it is taken."""
    written: list[Path] = []

    def meanwhile() -> None:
        if len(written) < 10:
            written.append(disk / f"theirs-{len(written)}")
            written[-1].write_bytes(b"x" * 16 * MIB)

    target.binding = target.bind(cancel=After(1000, meanwhile))
    target.grow(target.filler(str(disk)), 400 * MIB, None)
    assert len(written) < 10
    assert free(disk) >= RESERVE


def test_it_counts_what_other_writers_do(target: Beside, disk: Path) -> None:
    """They write and delete between the parts: in the end it is as full as it shall be."""
    theirs = disk / "theirs"
    theirs.write_bytes(b"x" * 50 * MIB)
    target.binding = target.bind(cancel=After(1000, lambda: theirs.unlink(missing_ok=True)))
    target.grow(target.filler(str(disk)), None, 0.3)
    left, whole = target.space(str(disk))
    assert 0.3 <= 1 - left / whole < 0.32


def test_on_a_full_disk_nothing_is_left_that_cannot_be_removed(target: Beside, disk: Path) -> None:
    with (disk / "theirs").open("wb") as theirs, pytest.raises(OSError, match="space"):
        while True:
            theirs.write(b"x" * MIB)
            theirs.flush()
    key = target.filler(str(disk))
    target.grow(key, MIB, None)
    assert target.mark_of(key) == target.mark
    assert free(disk) == 0
    target.unlink(key)
    assert not Path(key).exists()


@pytest.mark.parametrize("most", [10, MIB])
def test_where_a_file_may_not_grow_it_is_ours_and_small(target: Beside, most: int) -> None:
    """A limit may cut even the mark: half a mark would be nobody's."""
    key = target.filler(".")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        target.grow(key, 80 * MIB, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert target.mark_of(key) == target.mark
    assert target.size_of(key) <= most
    target.unlink(key)
    assert not Path(key).exists()


def test_leftovers_are_told_by_name_and_content(target: Beside, tmp_path: Path) -> None:
    key = Path(target.filler("."))
    target.grow(str(key), MIB, None)
    died = tmp_path / f"{key.name}9"
    died.touch()
    precious = [
        tmp_path / ".chaoskit-notes",
        tmp_path / f".chaoskit-{target.binding.run}-1-1",
        tmp_path / f".chaoskit-{target.binding.run}-2-1",
    ]
    precious[0].touch()
    precious[1].write_text("mine\n")
    precious[2].symlink_to(key)
    unseen: list[str] = []
    found = leftover_fillers([tmp_path, tmp_path / "missing"], unseen.append)
    assert [path.name for path in found] == sorted([key.name, died.name])
    assert unseen == [f"filler files in {tmp_path}/missing: No such file or directory"]


def test_a_target_that_ends_leaves_a_filler_that_can_be_removed(target: Beside) -> None:
    key = target.filler(".")
    target.grow(key, MIB, None)
    target.end()
    target.undoing()
    assert until(lambda: target.mark_of(key) == target.mark, SOON)
    target.unlink(key)
    assert target.mark_of(key) is None
