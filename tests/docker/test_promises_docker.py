"""The three promises on containers: what happens to a container, and to its daemon, meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hosts
import images
import pytest
from daemons import Daemon
from docker.models.containers import Container
from fakes import Counter
from hurting import begin, chaoskit, kill_both, records, running, settled, step, write

from chaoskit.clock import until
from chaoskit.docker.client import ANSWER
from chaoskit.journal import State

SOON = 30.0
"""Seconds in which what takes a moment must have happened, on a loaded machine too."""


def status(box: Container) -> str:
    box.reload()
    return str(box.attrs["State"]["Status"])


def hurt_in(box: Container) -> bool:
    """Whether there is a table of ours in a container's network: the daemon has some in it, too."""
    box.reload()
    return "chaoskit" in str(hosts.network(box.attrs["State"]["Pid"])["rules"])


MORE: dict[str, dict[str, Any]] = {
    "cpu": {"_load": 1},
    "disk-fill": {"_path": "/data", "_size": "8MiB"},
}
"""What these faults need beside a target."""


@pytest.fixture
def net(daemon: Daemon) -> str:
    return daemon.network(fixed=True).name


@pytest.fixture
def untouched(daemon: Daemon, state_folder: Path) -> Iterator[Callable[[], None]]:
    """Call it when the world is as it shall be again: at the end it is, over the whole host."""
    before: list[hosts.Snapshot] = []
    yield lambda: before.append(hosts.snapshot(daemon))
    daemon.revive()
    runs = [folder.id for folder in State(state_folder).runs()]
    assert until(
        lambda: all(hosts.changes(before[-1], hosts.snapshot(daemon), run) == [] for run in runs),
        10,
    ), [hosts.changes(before[-1], hosts.snapshot(daemon), run) for run in runs]


# --- what happens to the container


@pytest.mark.parametrize("fault", ["drop-network", "cpu"])
def test_a_restart_ends_the_fault_and_the_run_says_so(
    fault: str, daemon: Daemon, net: str, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web", network=net)
    file = write(
        tmp_path / "e.json", step(fault, daemon.url, hold="12s", name="web", **MORE.get(fault, {}))
    )
    with running(file, state_folder) as runner:
        box.restart(timeout=0)
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 6, said
    assert f"was restarted: {fault} has ended with it" in " ".join(said.split())
    assert not hurt_in(box) and settled(state_folder)


def test_a_restart_is_hurt_again_where_the_file_says_so(
    daemon: Daemon, net: str, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web", network=net)
    hurt = step("drop-network", daemon.url, hold="15s", name="web") | {"on-restart": "reapply"}
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        assert hurt_in(box)
        box.restart(timeout=0)
        assert until(lambda: hurt_in(box), 14)
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 0, said
    assert "was restarted: drop-network is made again" in " ".join(said.split())
    assert not hurt_in(box) and settled(state_folder)


def test_what_was_made_again_is_undone_by_the_guardian(
    daemon: Daemon, net: str, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web", network=net)
    hurt = step("drop-network", daemon.url, name="web") | {"on-restart": "reapply"}
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        box.restart(timeout=0)
        assert until(lambda: len(records(state_folder, "made")) == 2, SOON)
        runner.kill()
        assert settled(state_folder)
    assert not hurt_in(box) and not records(state_folder, "stuck")


@pytest.mark.parametrize("fault", ["pause", "drop-network", "kill", "cpu"])
def test_a_container_that_is_removed_is_no_error(
    fault: str, daemon: Daemon, net: str, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web", network=net)
    file = write(
        tmp_path / "e.json", step(fault, daemon.url, hold="4s", name="web", **MORE.get(fault, {}))
    )
    with running(file, state_folder) as runner:
        box.remove(force=True)
        said, _ = runner.communicate(timeout=SOON)
    # That it was killed is true, whatever came after; that it is paused is not.
    assert runner.returncode == (0 if fault == "kill" else 6), said
    assert settled(state_folder) and not records(state_folder, "stuck")


def test_a_container_that_is_renamed_is_the_same_still(
    daemon: Daemon, tmp_path: Path, state_folder: Path, untouched: Callable[[], None]
) -> None:
    box = daemon.run(name="web")
    untouched()
    file = write(tmp_path / "e.json", step("pause", daemon.url, hold="2s", name="web"))
    with running(file, state_folder) as runner:
        box.rename("other")
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 0, said
    box.rename("web")


def test_what_somebody_else_takes_away_is_not_claimed_to_have_lasted(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", daemon.url, hold="6s", name="web"))
    with running(file, state_folder) as runner:
        box.unpause()
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 6 and "ended before its time" in said
    assert status(box) == "running"


# --- who has started it again


@pytest.mark.parametrize(
    ("policy", "somebody", "told"),
    [
        ("always", False, "started by its restart policy (always)"),
        ("no", True, "started by somebody else"),
        ("no", False, "nobody started it again"),
    ],
)
def test_who_started_a_killed_container_is_told(
    policy: str, somebody: bool, told: str, daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web", restart_policy={"Name": policy})
    box.reload()
    first = box.attrs["State"]["StartedAt"]
    file = write(tmp_path / "e.json", step("kill", daemon.url, hold="8s", name="web"))
    with running(file, state_folder) as runner:
        if somebody:
            box.start()
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 0 and told in " ".join(said.split()), said
    assert status(box) == "running" and box.attrs["State"]["StartedAt"] != first


def test_a_container_may_be_replaced_by_another(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    """As an orchestrator does it, which starts a new one."""
    daemon.run(name="web1", labels={"app": "web"})
    hurt = step("kill", daemon.url, hold="10s", label="app=web", _replaced_within="10s")
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        daemon.run(name="web2", labels={"app": "web"})
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 0, said
    assert "replaced by container web2" in " ".join(said.split())


@pytest.mark.parametrize(
    ("within", "hold", "code"), [("500ms", "2s", 1), ("60s", "1s", 6)], ids=["late", "too short"]
)
def test_nobody_replaces_it(
    within: str, hold: str, code: int, daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    daemon.run(name="web")
    hurt = step("kill", daemon.url, hold=hold, name="web", _replaced_within=within)
    done = chaoskit("run", write(tmp_path / "e.json", hurt), state=state_folder)
    assert done.returncode == code, done.stdout


# --- what happens to the daemon


def test_the_daemon_restarts_and_takes_its_containers_with_it(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    boxes = [daemon.run(name="web"), daemon.run(name="db", restart_policy={"Name": "always"})]
    hurt = step("pause", daemon.url, hold="20s", pick="all", name="*")
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        daemon.kill()
        daemon.start()
        said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 6, said
    assert settled(state_folder) and not records(state_folder, "stuck")
    web, db = (daemon.client.containers.get(box.id) for box in boxes)
    # Nothing is started that the daemon has ended.
    assert status(web) == "exited"
    assert until(lambda: status(db) == "running", 20)


def test_the_daemon_restarts_and_its_containers_live_on(
    own_daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = own_daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", own_daemon.url, hold="20s", name="web"))
    with running(file, state_folder) as runner:
        own_daemon.kill()
        own_daemon.start()
        assert status(own_daemon.client.containers.get(box.id)) == "paused"
        said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0, said
    assert status(own_daemon.client.containers.get(box.id)) == "running"


def test_the_daemon_restarts_while_its_containers_are_undone(
    own_daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = own_daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", own_daemon.url, name="web"))
    with running(file, state_folder) as runner:
        own_daemon.kill()
        runner.send_signal(signal.SIGINT)
        assert until(lambda: bool(records(state_folder, "unmake")), SOON)
        time.sleep(1)  # It tries, and nobody is there.
        own_daemon.start()
        said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 4, said
    assert status(own_daemon.client.containers.get(box.id)) == "running"
    assert settled(state_folder)


def test_a_daemon_that_does_not_come_back_leaves_the_rest_to_recover(
    own_daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = own_daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", own_daemon.url, name="web"))
    with running(file, state_folder) as runner:
        own_daemon.kill()
        runner.send_signal(signal.SIGINT)
        said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 5, said
    assert "no Docker daemon answers" in " ".join(said.split())
    own_daemon.start()
    box = own_daemon.client.containers.get(box.id)
    assert status(box) == "paused"
    done = chaoskit("recover", state=state_folder)
    assert status(box) == "running" and settled(state_folder, 1), done.stdout


@pytest.mark.parametrize("fault", ["pause", "kill", "disconnect"])
def test_a_daemon_that_is_frozen_for_a_while(
    fault: str, daemon: Daemon, net: str, tmp_path: Path, state_folder: Path
) -> None:
    """The hold ends meanwhile: nothing that could not be seen is claimed, and all is undone."""
    box = daemon.run(name="web", network=net)
    more = {"_network": net} if fault == "disconnect" else {}
    hurt = step(fault, daemon.url, hold="2s", name="web", **more)
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        daemon.freeze()
        # Longer than anybody waits for its answer.
        time.sleep(ANSWER + 4)
        daemon.thaw()
        said, _ = runner.communicate(timeout=60)
    # Whether a container is frozen is seen without its daemon.
    assert runner.returncode == (0 if fault == "pause" else 6), said
    assert fault == "pause" or "cannot be seen" in " ".join(said.split())
    assert until(lambda: status(box) == "running", SOON) and settled(state_folder)
    assert list(box.attrs["NetworkSettings"]["Networks"]) == [net]


# --- requests in flight


class InFlight:
    """A run that dies when its request is on the way to a daemon that is frozen."""

    def __init__(self, daemon: Daemon, folder: Path, state: Path, fault: str, **more: Any) -> None:
        self.daemon = daemon
        self._verb = fault
        self._sent = threading.Event()
        self.between = Counter(folder / "s", daemon.socket, self._before)
        file = write(folder / "e.json", step(fault, self.between.url, name="web", **more))
        self.runner = begin("run", file, state=state)

    def _before(self, line: str) -> None:
        if not self._sent.is_set() and line.startswith("POST ") and self._verb in line:
            self.daemon.freeze()
            self._sent.set()

    def die(self) -> None:
        try:
            assert self._sent.wait(60), self.runner.communicate(timeout=5)
            time.sleep(0.3)  # What goes on its way is in the daemon's socket by now.
        finally:
            self.runner.kill()
            self.runner.communicate()

    def close(self) -> None:
        self.between.close()
        self.daemon.thaw()


def landed(daemon: Daemon, box: Container, since: float, what: str) -> bool:
    """Whether the daemon has done that to the container since then."""
    told = daemon.client.events(
        since=int(since), until=int(time.time()) + 1, decode=True, filters={"container": box.id}
    )
    return any(event["Action"] == what for event in told)


@pytest.mark.parametrize(
    ("fault", "event", "more"),
    [("pause", "pause", {}), ("stop", "stop", {"_grace": "1s"}), ("restart", "restart", {})],
)
def test_a_request_that_lands_after_its_sender_died_is_undone(
    fault: str, event: str, more: Any, daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    began = time.time()
    with closing(InFlight(daemon, tmp_path, state_folder, fault, **more)) as dead:
        dead.die()
        time.sleep(4)  # The guardian looks, and gets no answer.
        daemon.thaw()
        assert settled(state_folder)
    assert landed(daemon, box, began, event), "the request was lost: nothing was tested"
    assert status(box) == "running"
    time.sleep(2)
    assert status(box) == "running" and not records(state_folder, "stuck")


def test_a_request_that_lands_when_the_guardian_has_given_up_is_recovered(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    with closing(InFlight(daemon, tmp_path, state_folder, "pause")) as dead:
        dead.die()
        assert until(lambda: bool(records(state_folder, "stuck")), 60)
        daemon.thaw()
        assert until(lambda: status(box) == "paused", SOON)
        done = chaoskit("recover", state=state_folder)
    assert status(box) == "running" and settled(state_folder, 1), done.stdout + done.stderr


# --- whoever dies


@pytest.mark.parametrize("fault", ["pause", "kill", "drop-network", "cpu", "disk-fill"])
def test_nothing_is_left_when_runner_and_guardian_die_at_once(
    fault: str,
    daemon: Daemon,
    net: str,
    tmp_path: Path,
    state_folder: Path,
    untouched: Callable[[], None],
) -> None:
    box = daemon.run(name="web", network=net)
    file = write(tmp_path / "e.json", step(fault, daemon.url, name="web", **MORE.get(fault, {})))
    if fault != "kill":
        untouched()
    with running(file, state_folder):
        kill_both(state_folder)
    told = chaoskit("status", state=state_folder)
    assert "chaoskit recover" in told.stdout + told.stderr
    again = chaoskit("run", file, state=state_folder)
    held = "matches nothing that runs" if fault == "kill" else "held by run"
    assert again.returncode == 3 and held in again.stdout + again.stderr
    done = chaoskit("recover", state=state_folder)
    assert done.returncode in (0, 4), done.stdout + done.stderr
    assert settled(state_folder, 5)
    if fault == "kill":
        untouched()
    assert status(box) == "running"


# --- two at once


def test_two_runs_do_not_hurt_the_same_container(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", daemon.url, name="web"))
    with running(file, state_folder):
        second = chaoskit("run", file, state=state_folder)
        assert second.returncode == 3 and "held by run" in second.stdout + second.stderr
    assert settled(state_folder) and status(box) == "running"


def test_nor_a_container_and_what_is_in_it(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run("sh", "-c", "trap 'exit 0' TERM; sleep 77777 & wait", name="web")
    box.reload()
    part = {"process": {"cmdline": "^sleep 77777$"}}
    of_process = write(tmp_path / "p.json", {"fault": "pause", "target": part})
    of_container = write(tmp_path / "c.json", step("cpu", daemon.url, name="web", **MORE["cpu"]))
    for one, other in ((of_process, of_container), (of_container, of_process)):
        with running(one, state_folder):
            refused = chaoskit("run", other, state=state_folder)
            said = refused.stdout + refused.stderr
            assert refused.returncode == 3 and "held by run" in said, said
        assert settled(state_folder)


# --- inside the blast radius


def boxes(daemon: Daemon, count: int = 4) -> list[Container]:
    return [daemon.run(name=f"web{number}", labels={"app": "web"}) for number in range(count)]


@pytest.mark.parametrize(
    ("limits", "pick", "told"),
    [
        ({"max-percent": "50%"}, "75%", "3 of 4 would be hurt (75%), max-percent is 50%"),
        ({"min-healthy": 2}, 3, "1 of 4 would stay healthy, min-healthy is 2"),
        ({"max-targets": 2}, 3, "3 targets would be hurt at once, max-targets is 2"),
    ],
)
def test_more_than_the_blast_radius_allows_is_refused(
    limits: Any, pick: Any, told: str, daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    hurt = step("pause", daemon.url, pick=pick, label="app=web")
    made = boxes(daemon)
    file = write(tmp_path / "e.json", hurt, **{"blast-radius": limits})
    for command in ("plan", "run"):
        done = chaoskit(command, file, state=state_folder)
        assert done.returncode == 3 and told in " ".join(done.stdout.split()), done.stdout
    assert {status(box) for box in made} == {"running"} and not records(state_folder, "change")


def test_what_another_run_hurts_counts(daemon: Daemon, tmp_path: Path, state_folder: Path) -> None:
    boxes(daemon)
    hurt = step("pause", daemon.url, pick=2, label="app=web")
    file = write(tmp_path / "e.json", hurt, **{"blast-radius": {"min-healthy": 2}})
    with running(file, state_folder):
        done = chaoskit("run", file, state=state_folder)
        assert done.returncode == 3 and "0 of 4 would stay healthy" in " ".join(done.stdout.split())
    assert settled(state_folder)


def test_one_that_stopped_is_no_healthy_one(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    made = boxes(daemon)
    made[0].stop(timeout=0)
    made[1].stop(timeout=0)
    hurt = step("pause", daemon.url, pick=1, label="app=web")
    file = write(tmp_path / "e.json", hurt, **{"blast-radius": {"min-healthy": 2}})
    done = chaoskit("plan", file, state=state_folder)
    assert done.returncode == 3 and "1 of 2 would stay healthy" in " ".join(done.stdout.split())


def test_a_selector_that_meets_nothing_is_refused(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    file = write(tmp_path / "e.json", step("pause", daemon.url, label="app=web"))
    done = chaoskit("run", file, state=state_folder)
    assert done.returncode == 3 and "matches nothing" in done.stdout
    for box in boxes(daemon, 2):
        box.stop(timeout=0)
    done = chaoskit("run", file, state=state_folder)
    said = " ".join(done.stdout.split())
    assert done.returncode == 3 and "matches nothing that runs: web0 is exited" in said


# --- never touched


def test_a_protected_container_is_passed_over(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    made = daemon.run(name="web0", labels={"app": "web", "chaoskit.protect": "true"})
    file = write(tmp_path / "e.json", step("pause", daemon.url, label="app=web"))
    done = chaoskit("run", file, state=state_folder)
    said = " ".join(done.stdout.split())
    assert done.returncode == 3 and "matches only what is protected" in said
    assert "its label chaoskit.protect says so" in said
    daemon.run(name="web1", labels={"app": "web"})
    hurt = step("pause", daemon.url, pick="all", hold="1s", label="app=web")
    with running(write(tmp_path / "e.json", hurt), state_folder) as runner:
        assert status(made) == "running"
        said, _ = runner.communicate(timeout=SOON)
    assert runner.returncode == 0, said
    # It is none of those that are counted, either.
    limits = {"blast-radius": {"max-percent": "99%"}}
    done = chaoskit("plan", write(tmp_path / "e.json", hurt, **limits), state=state_folder)
    assert "1 of 1 would be hurt" in " ".join(done.stdout.split())


def test_a_helper_of_the_daemons_own_is_not_touched(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    daemon.client.images.get(images.BUSYBOX).tag("moby/buildkit", "test")
    try:
        box = daemon.run(name="builder", image="moby/buildkit:test")
        file = write(tmp_path / "e.json", step("pause", daemon.url, name="builder"))
        done = chaoskit("run", file, state=state_folder)
        assert done.returncode == 3 and "a helper of the daemon's own" in done.stdout
        assert status(box) == "running"
        box.remove(force=True)
    finally:
        daemon.client.images.remove("moby/buildkit:test")
