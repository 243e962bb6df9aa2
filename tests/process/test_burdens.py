"""The helpers that burn and hold: found by their mark, and gone however their runner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import SOON, Beside, beside

from chaoskit.cgroups import UNIFIED, own_groups
from chaoskit.clock import now, until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.helpers import burden
from chaoskit.mounts import mounts_of
from chaoskit.procfs import Process
from chaoskit.targets.burdens import leftover_helpers


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Beside]:
    with beside(tmp_path) as made:
        yield made


def works(folder: Path) -> dict[str, list[str]]:
    """One of each kind, as busy as it gets."""
    return {
        "cpu": ["cpu", "1"],
        "half a cpu": ["cpu", "0.5"],
        "memory": ["memory", str(64 * 2**20)],
        "disk": ["disk", str(folder), "1e12", "1e12"],
        "files": ["files", "100"],
    }


KINDS = list(works(Path("/")))


def started(target: Beside, work: list[str]) -> Process:
    mark = f"{target.mark}-1"
    target.burden(mark, work)
    assert until(lambda: target.burden_alive(mark), SOON)
    (process,) = target.helpers()
    # Past its start and at work.
    assert until(lambda: process.threads() == 2, SOON)
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_lifeline_ends_it_whatever_it_is_doing(
    target: Beside, tmp_path: Path, kind: str
) -> None:
    process = started(target, works(tmp_path)[kind])
    target.cut()
    assert until(lambda: not process.alive(), SOON)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_its_deadline_ends_it_and_not_before(target: Beside, tmp_path: Path, kind: str) -> None:
    deadline = now() + 1.0
    target.binding = target.bind(ends_at=deadline)
    target.burden(f"{target.mark}-1", works(tmp_path)[kind])
    assert until(lambda: not target.helpers(), SOON)
    assert now() >= deadline


def test_a_deadline_that_is_over_lets_nothing_begin(target: Beside) -> None:
    target.binding = target.bind(ends_at=now() - 1.0)
    target.burden(f"{target.mark}-1", ["cpu", "1"])
    assert until(lambda: not target.helpers(), SOON)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_it_ignores_no_signal_even_of_a_runner_that_does(
    target: Beside, number: signal.Signals
) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        process = started(target, ["cpu", "1"])
    finally:
        signal.signal(number, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    process.signal(number)
    assert until(lambda: not process.alive(), SOON)


def test_it_has_a_session_and_nothing_of_ours(target: Beside) -> None:
    """Ctrl-C goes to a terminal's session; and what the runner has open, its lock among it, must
    not stay open in a helper."""
    process = started(target, ["cpu", "0.1"])
    assert os.getsid(process.pid) == process.pid
    links = [str(Path(f"/proc/{process.pid}/fd/{n}").readlink()) for n in (0, 1, 2)]
    assert links[0].startswith("pipe:") and links[1:] == [os.devnull] * 2
    assert process.open_files() == 3
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"


RUNNER = """
import os, sys, time
from pathlib import Path
from chaoskit.clock import now
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process
from chaoskit.targets.burdens import Burdens
run, pid = sys.argv[1:]
target = Burdens()
target.root = Process.at(int(pid))
target.binding = Binding(run, "1", Path("/"), lifeline=os.pipe()[0], ends_at=now() + 100)
for number in range(1, 4):
    target.burden(f"{target.mark}-{number}", ["cpu", "0.3"])
print("started", flush=True)
time.sleep(100)
"""


def test_a_killed_runner_takes_its_helpers_with_it(target: Beside) -> None:
    run = target.binding.run
    command = [sys.executable, "-c", RUNNER, run, str(target.root.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        try:
            assert runner.stdout.readline() == "started\n"
            assert until(lambda: len(target.helpers()) == 3, SOON)
        finally:
            runner.kill()
    assert until(lambda: not target.helpers(), SOON)


def test_it_is_found_by_its_mark_and_ended(target: Beside) -> None:
    process = started(target, ["cpu", "0.1"])
    mark = f"{target.mark}-1"
    assert (mark, process) in leftover_helpers()
    assert target.burden_work(mark) == ["cpu", "0.1"]
    assert not target.burden_alive(f"{target.mark}-2")
    target.end_burden(f"{target.mark}-2")
    assert process.alive()
    target.undoing()
    target.end_burden(mark)
    assert until(lambda: not target.burden_alive(mark), SOON)
    assert until(lambda: not Path(f"/proc/{process.pid}").exists(), SOON), "a zombie was left"
    with pytest.raises(Gone):
        target.burden_report(mark)
    target.end_burden(mark)


def test_who_only_mentions_the_mark_is_no_helper(target: Beside) -> None:
    mark = f"{target.mark}-1"
    with subprocess.Popen(["/bin/cat", "-", "-", "-", mark, "-", "-"], stdin=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as bystander:  # fmt: skip
        assert not target.burden_alive(mark)
        target.end_burden(mark)
        assert bystander.poll() is None
        assert bystander.stdin is not None
        bystander.stdin.close()
    assert bystander.returncode >= 0, "it was killed"


def test_whoever_undoes_starts_nothing(target: Beside) -> None:
    target.undoing()
    with pytest.raises(ChaoskitError):
        target.burden(f"{target.mark}-1", ["cpu", "1"])
    assert not target.helpers()


def test_a_report_tells_what_it_holds(target: Beside) -> None:
    started(target, ["files", "50"])
    mark = f"{target.mark}-1"
    assert until(lambda: target.burden_report(mark)["files"] == 50, SOON)
    assert not target.burden_report(mark)["stopped"]
    target.end()
    with pytest.raises(Gone):
        target.burden_report(mark)
    with pytest.raises(Gone):
        target.cpus()


def test_processors_are_the_targets(target: Beside) -> None:
    one = min(os.sched_getaffinity(0))
    os.sched_setaffinity(target.root.pid, [one])
    assert target.cpus() == [one]


def test_a_reserve_is_kept_of_the_memory(target: Beside) -> None:
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    whole = int(lines["MemTotal"].split()[0]) * 1024
    assert 0 < target.memory_free() < whole
    assert target.memory_room() <= max(0, target.memory_free() - 256 * 2**20 + 64 * 2**20)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with a limit of 400 MiB below our own."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        elif not controllers:
            base, limit = Path("/sys/fs/cgroup"), "memory.max"
        else:
            continue
        # A group of version 2 that has processes gives its children no limits; one beside can.
        own = base / path.strip("/")
        for parent in (own, own.parent):
            made = parent / f"chaoskit-test-{os.getpid()}"
            try:
                made.mkdir()
            except OSError:
                continue
            try:
                (made / limit).write_text(str(400 * 2**20))
                (made / "cgroup.procs").read_text()
            except OSError:
                made.rmdir()
                continue
            try:
                yield made
            finally:
                assert until(lambda at=made: not (at / "cgroup.procs").read_text(), SOON)  # type: ignore[misc]
                assert until(lambda at=made: _removed(at), SOON)  # type: ignore[misc]
            return
    pytest.skip("making a control group with a memory limit needs root and the memory controller")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def test_memory_stops_growing_at_the_reserve_of_its_control_group(
    group: Path, target: Beside
) -> None:
    """In 400 MiB, 5% stay: it must neither hold what it was told to nor be killed for it."""
    join = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
    deadline, wanted = now() + 60, 500 * 2**20
    with subprocess.Popen(
        ["/bin/sh", "-c", join, "sh", str(group), sys.executable, "-I", "-S", burden.__file__,
         f"{target.mark}-1", str(deadline), f"room={group}", "memory", str(wanted)],
        stdin=subprocess.PIPE,
    ) as helper:  # fmt: skip
        try:
            assert until(lambda: len(target.helpers()) == 1, SOON)
            process = target.helpers()[0]
            assert until(lambda: process.rss() > 300 * 2**20, SOON)
            settled = [0, -1]
            assert until(lambda: _settled(settled, process.rss()), SOON)
            assert process.rss() < 390 * 2**20
            assert helper.poll() is None
        finally:
            helper.kill()


def _settled(seen: list[int], value: int) -> bool:
    seen.append(value)
    return len(seen) > 20 and len(set(seen[-10:])) == 1


@pytest.fixture
def unified() -> Iterator[Path]:
    """A control group of version 2, whether or not any controller is switched on in it."""
    tops = [mount.point for mount in mounts_of() if mount.kind == "cgroup2"]
    made = Path(tops[0] if tops else "/none") / f"chaoskit-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / "cgroup.freeze").write_text("0")
    except OSError:
        pytest.skip("making a control group of version 2 needs root and a kernel that has it")
    try:
        yield made
    finally:
        assert until(lambda: _removed(made), SOON)


@pytest.mark.parametrize("how", ["lifeline", "target", "deadline"])
def test_a_group_that_is_frozen_holds_no_helper(unified: Path, target: Beside, how: str) -> None:
    """There is no way around the freezer of version 2: it is in the one group there is."""
    own = own_groups()[UNIFIED].folder
    target._where = lambda cpus: [  # type: ignore[method-assign]
        f"in={unified}", f"out={own}", f"with={target.root.pid}:{target.root.start}"
    ]  # fmt: skip
    target.binding = target.bind(ends_at=now() + (5 if how == "deadline" else 60))
    mark = f"{target.mark}-1"
    target.burden(mark, ["cpu", "1"])
    assert until(lambda: (unified / "cgroup.procs").read_text().split() != [], SOON)
    worker = target._helper(mark).process
    assert (unified / "cgroup.procs").read_text().split() == [str(worker.pid)]
    assert len(target.helpers()) == 2
    (unified / "cgroup.freeze").write_text("1")
    assert until(lambda: "frozen 1" in (unified / "cgroup.events").read_text(), SOON)
    {"lifeline": target.cut, "target": target.end, "deadline": lambda: None}[how]()
    assert until(lambda: not target.helpers(), SOON)
    assert until(lambda: _removed(unified), SOON)
    unified.mkdir()
