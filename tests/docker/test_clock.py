"""clock: what programs in a container with libfaketime take the time to be."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cells
import images
import pytest
from cells import hurt
from daemons import Daemon
from docker.models.containers import Container
from docker.types import Mount
from hurting import chaoskit, kill_both, running, settled, step, write

from chaoskit.clock import Cancel, until
from chaoskit.errors import Interrupted, Refused
from chaoskit.faults.clock import Clock
from chaoskit.journal import State
from chaoskit.procfs import Process

HOUR = 3600.0
NEAR = 60.0
"""Seconds between two looks at the clock, on a loaded machine too."""
TELLS = ["/bin/bash", "-c",
         "trap 'exit 0' TERM; while :; do printf '%(%s)T\\n' -1; sleep 0.1; done"]  # fmt: skip


def moved(container: Container) -> float:
    """Seconds by which the clock of a new program in it is ahead."""
    done = container.exec_run(["/bin/date", "+%s"])
    assert done.exit_code == 0, done.output
    return int(done.output) - time.time()


def tells(container: Container) -> float:
    """The same of the program that has run all the while, by what it printed last."""
    return int(container.logs(tail=1)) - time.time()


def near(ahead: float, wanted: float) -> bool:
    return abs(ahead - wanted) < NEAR


def put(container: Container, text: str, path: str = "/data/rc") -> None:
    script = f"printf '{text}' > {path}"
    assert container.exec_run(["/bin/bash", "-c", script]).exit_code == 0


def inside(container: Container, path: str = "/data") -> Path:
    container.reload()
    return Path(f"/proc/{container.attrs['State']['Pid']}/root{path}")


def files(container: Container) -> dict[str, tuple[str, int, int]]:
    """What is in its folder: the content, the permissions and the owner of each file."""
    return {
        path.name: (path.read_text(), path.stat().st_mode & 0o7777, path.stat().st_uid)
        for path in inside(container).iterdir()
    }


def refused(daemon: Daemon, container: Container) -> str:
    fault = Clock(ahead=HOUR)
    on = cells.target(daemon, container)
    with pytest.raises(Refused) as error:
        list(fault.changes(on))
    assert fault.refuse(on) == str(error.value)
    return str(error.value)


@pytest.mark.parametrize("old", [None, "+0\\n", "# of somebody\\n-90"])
@pytest.mark.parametrize("fault", [Clock(ahead=HOUR), Clock(behind=7200.5)])
def test_all_programs_in_it_see_another_time_and_the_right_one_again(
    daemon: Daemon, old: str | None, fault: Clock
) -> None:
    container = daemon.faketime(*TELLS)
    before = -90.0 if old and "90" in old else 0.0
    if old is not None:
        put(container, old)
        os.chmod(inside(container, "/data/rc"), 0o640)
        os.chown(inside(container, "/data/rc"), 12, 34)
    were = files(container)
    assert until(lambda: bool(container.logs()) and near(tells(container), before), 20)
    wanted = HOUR if fault.ahead else -7200.5
    with hurt(fault, cells.target(daemon, container)):
        assert near(moved(container), wanted)
        assert until(lambda: near(tells(container), wanted), 20)
        if old is not None:
            assert files(container)["rc"][1:] == (0o640, 12)
        assert list(files(container)) == ["rc"]
    assert near(moved(container), before)
    assert until(lambda: near(tells(container), before), 20)
    assert files(container) == were


def test_whoever_it_runs_as_can_read_it(daemon: Daemon) -> None:
    container = daemon.faketime(user="65534")
    with hurt(Clock(ahead=HOUR), cells.target(daemon, container)):
        assert near(moved(container), HOUR)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"LD_PRELOAD": ""}, "time namespace can only be given to a container when it starts"),
        ({"FAKETIME_TIMESTAMP_FILE": ""}, "FAKETIME_TIMESTAMP_FILE names no file"),
        ({"FAKETIME": "+5"}, "FAKETIME is set"),
        ({"FAKETIME_TIMESTAMP_FILE": "rc"}, "another file in each folder"),
        ({"FAKETIME_TIMESTAMP_FILE": "/none/rc"}, "there is no folder /none"),
        ({"FAKETIME_TIMESTAMP_FILE": "/dev/shm/rc"}, "only the process itself can see it"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_the_reason(
    daemon: Daemon, changed: dict[str, str], told: str
) -> None:
    container = daemon.faketime(environment=images.FAKED | changed)
    assert told in refused(daemon, container)


def test_a_container_without_libfaketime_is_refused(daemon: Daemon) -> None:
    assert "libfaketime is not loaded" in refused(daemon, daemon.run())


def test_a_file_that_cannot_be_replaced_is_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    """A rename would take a file that is mounted by itself away from the container for good."""
    (tmp_path / "rc").write_text("+5\n")
    container = daemon.faketime(mounts=[Mount("/data/rc", str(tmp_path / "rc"), "bind")])
    assert "/data/rc is mounted by itself" in refused(daemon, container)
    link = daemon.faketime()
    inside(link, "/data/rc").symlink_to("/tmp/rc")
    assert "no small plain text file" in refused(daemon, link)
    inside(link, "/data/rc").unlink()
    inside(link, "/data/rc").write_bytes(b"\xff\xfe")
    assert "no small plain text file" in refused(daemon, link)


def test_a_file_that_others_read_too_is_left_alone(daemon: Daemon) -> None:
    volumes = {daemon.name("data"): {"bind": "/data"}}
    container = daemon.faketime(volumes=volumes)
    other = daemon.faketime(volumes=volumes)
    other.reload()
    pid = other.attrs["State"]["Pid"]
    assert f"process {pid}, outside of it, reads /data/rc too" in refused(daemon, container)
    other.remove(force=True)
    with hurt(Clock(ahead=HOUR), cells.target(daemon, container)):
        assert near(moved(container), HOUR)


def test_a_folder_of_the_host_takes_allow_host(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    container = daemon.faketime(mounts=[Mount("/data", str(tmp_path / "shared"), "bind")])
    assert "allow-host: true" in refused(daemon, container)
    on = cells.target(daemon, container, cells.binding(allow_host=True))
    with hurt(Clock(ahead=HOUR), on):
        assert near(moved(container), HOUR)
    assert list((tmp_path / "shared").iterdir()) == []


def test_the_plan_says_what_delays_it_and_what_else_it_does(daemon: Daemon) -> None:
    def told(**changed: str) -> str:
        container = daemon.faketime(environment=images.FAKED | changed)
        return " ".join(Clock(ahead=HOUR).remarks(cells.target(daemon, container)))

    assert "later" not in told() and "CLOCK_MONOTONIC" in told()
    assert "up to 10s later" in told(FAKETIME_NO_CACHE="0")
    assert "up to 3s later" in told(FAKETIME_NO_CACHE="", FAKETIME_CACHE_DURATION="3")
    assert "CLOCK_MONOTONIC" not in told(FAKETIME_DONT_FAKE_MONOTONIC="1")
    assert "FAKETIME_ONLY_CMDS may keep" in told(FAKETIME_ONLY_CMDS="bash")


def test_two_faults_do_not_move_one_clock(daemon: Daemon) -> None:
    container = daemon.faketime()
    with hurt(Clock(ahead=HOUR), cells.target(daemon, container)):
        again = cells.target(daemon, container, cells.binding("2"))
        assert "moved already" in str(Clock(behind=HOUR).refuse(again))


@pytest.mark.parametrize("how", ["stop", "restart", "remove"])
@pytest.mark.parametrize("old", [None, "+0\\n"])
def test_when_the_container_goes_the_file_is_still_put_back(
    daemon: Daemon, how: str, old: str | None
) -> None:
    container = daemon.faketime()
    if old is not None:
        put(container, old)
    were = files(container)
    fault, on = Clock(ahead=HOUR), cells.target(daemon, container)
    changes = cells.inject(fault, on)
    container.remove(force=True) if how == "remove" else getattr(container, how)(timeout=1)
    if how == "restart":
        reborn = on.reborn()
        assert reborn is not None and fault.took(reborn, changes)
        assert near(moved(container), HOUR)
    cells.undo(fault, on, changes)
    if how == "stop":
        container.start()
    if how != "remove":
        assert files(container) == were and near(moved(container), 0)


def test_a_program_that_has_just_begun_may_load_it_still(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is right after a restart: the file is ours, and its reader is not there yet."""
    container = daemon.faketime()
    with hurt(Clock(ahead=HOUR), on := cells.target(daemon, container)) as changes:
        looks, mapped = iter([True, True]), Process.mapped
        monkeypatch.setattr(
            Process, "mapped", lambda it: set() if next(looks, False) else mapped(it)
        )
        assert Clock(ahead=HOUR).took(on, changes)
        assert not next(looks, False)
        with monkeypatch.context() as never:
            never.setattr(Process, "mapped", lambda _: set())
            assert not Clock(ahead=HOUR).took(on, changes)
            aborting = cells.target(daemon, container, cells.binding(cancel=Cancel()))
            aborting.binding.cancel.set()
            with pytest.raises(Interrupted):
                Clock(ahead=HOUR).took(aborting, changes)


@pytest.fixture
def begun(
    daemon: Daemon, tmp_path: Path
) -> Iterator[tuple[Container, State, subprocess.Popen[Any]]]:
    container = daemon.faketime()
    put(container, "+5\\n")
    file = write(tmp_path / "x.json", step("clock", daemon.url, name=container.name, _ahead="1h"))
    with running(file, tmp_path / "state") as runner:
        assert near(moved(container), HOUR)
        yield container, State(tmp_path / "state"), runner


def test_the_guardian_puts_it_back(begun: Any) -> None:
    container, state, runner = begun
    runner.kill()
    assert settled(state.path)
    assert near(moved(container), 5) and files(container) == {"rc": ("+5\n", 0o644, 0)}


def test_recover_puts_it_back_when_both_are_dead(begun: Any) -> None:
    container, state, _ = begun
    kill_both(state.path)
    assert near(moved(container), HOUR)
    assert chaoskit("recover", state=state.path).returncode == 0
    assert near(moved(container), 5) and files(container) == {"rc": ("+5\n", 0o644, 0)}


def test_what_somebody_else_wrote_meanwhile_stays(begun: Any) -> None:
    container, state, runner = begun
    put(container, "+777777\\n")
    runner.send_signal(signal.SIGTERM)
    out = runner.communicate(timeout=60)[0]
    assert runner.returncode == 5 and "+777777" in out
    assert files(container) == {"rc": ("+777777\n", 0o644, 0)}
    (left,) = state.left()[0].result().left
    done = chaoskit("recover", "--force", str(left.cell), state=state.path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files(container) == {"rc": ("+5\n", 0o644, 0)}


@pytest.mark.parametrize(
    ("params", "told"),
    [({}, "either ahead or behind"), ({"_ahead": "1h", "_behind": "1h"}, "either ahead or behind")],
)
def test_which_way_is_said_once(tmp_path: Path, params: dict[str, str], told: str) -> None:
    file = write(tmp_path / "x.json", step("clock", "unix:///none.sock", name="x", **params))
    done = chaoskit("check", file, state=tmp_path / "state")
    assert done.returncode == 2 and told in done.stdout + done.stderr
