"""Remove: others make it again and that is told, or the very same is made again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon
from docker.types import Healthcheck, LogConfig, Mount, Ulimit
from images import BUSYBOX
from trials import ContainerSpecimen, about, dying

from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.remove import Remove
from chaoskit.model.binding import LOST, Binding
from chaoskit.model.fault import Change, Ends, Found, Outcome
from chaoskit.procfs import boot_id
from chaoskit.recovery import recover
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.docker import DockerSelector
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Trial

SHOP = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
AGAIN = Remove(recreate=True)


def target(daemon: Daemon, folder: Path, **match: Any) -> ContainerTarget:
    binding = Binding(run="20260101-000000-abcdef", step="1", folder=folder)
    (found,) = DockerSelector(host=daemon.url, **match).find(binding)
    assert isinstance(found, ContainerTarget)
    return found


def inject(fault: Remove, made: ContainerTarget) -> Change:
    (change,) = fault.changes(made)
    fault.make(made, change)
    return change


def trial(daemon: Daemon, name: str, folder: Path, **params: Any) -> Trial:
    return Trial("remove", {"recreate": True} | params, ContainerSpecimen(folder, daemon, name))


def names(daemon: Daemon) -> list[str]:
    return sorted(one.name for one in daemon.client.containers.list(all=True))


def rich(daemon: Daemon, name: str = "web", **more: Any) -> str:
    """A container with a bit of everything, in two networks, with addresses of its own."""
    home, away = daemon.network(fixed=True), daemon.network(ipv6=True)
    db = daemon.run(network=away.name)
    box = daemon.run(
        name=name,
        network=home.name,
        environment={"PASSWORD": "geheim", "EMPTY": ""},
        labels={"tier": "front"} | SHOP,
        volumes={daemon.name("data"): {"bind": "/named", "mode": "ro"},
                 "/tmp": {"bind": "/host", "mode": "ro"}},
        mounts=[Mount("/made", None), Mount("/tmp", None, type="tmpfs", tmpfs_size=1 << 20)],
        mem_limit="64m", cpu_quota=50_000, cpu_period=100_000, pids_limit=77, cpu_shares=512,
        ulimits=[Ulimit(name="nofile", soft=99, hard=999)],
        cap_drop=["NET_RAW"], cap_add=["NET_ADMIN"], devices=["/dev/null:/dev/nix:r"],
        dns=["10.9.9.9"], extra_hosts={"somewhere": "10.9.9.8"}, group_add=["12"],
        healthcheck=Healthcheck(test=["CMD", "true"], interval=10**9),
        log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        ports={"80/tcp": ("127.0.0.1", None)}, publish_all_ports=False,
        read_only=True, shm_size=1 << 20, stop_signal="SIGTERM", sysctls={"net.ipv4.ip_forward": 0},
        user="0:0", working_dir="/data", security_opt=["no-new-privileges"], oom_score_adj=5,
        init=True, tty=True, mac_address="02:42:00:00:aa:bb",
    )  # fmt: skip
    four, six = away.subnets
    daemon.client.api.connect_container_to_network(
        box.id, away.id, aliases=["shop", "www"], links=[(db.name, "database")],
        ipv4_address=four.replace(".0/24", ".77"), ipv6_address=six.replace("::/64", "::77"),
    )  # fmt: skip
    return name


def without_named(told: Any) -> Any:
    """What `inspect` told, but whether volumes that were made for it have names (and those a mode
    for SELinux, which the others get without)."""
    host = told["HostConfig"]
    binds = [b for b in host["Binds"] or [] if len(b.partition(":")[0]) != 64]
    mounts = [{k: v for k, v in m.items() if k != "Source" or m["Type"] != "volume"}
              for m in host.get("Mounts") or []]  # fmt: skip
    places = [m | {"Mode": m["Mode"].replace("z", "")} for m in told["Mounts"] or []]
    places.sort(key=lambda m: str(m["Destination"]))
    ports = {port: bool(found) for port, found in told["NetworkSettings"]["Ports"].items()}
    health = {k: v for k, v in told["State"].items() if k != "Health"}
    config = told["Config"]
    if host["UTSMode"] == "host":
        config = config | {"Hostname": None}  # It has the machine's.
    return told | {
        "Config": config,
        "HostConfig": host | {"Binds": binds or None, "Mounts": mounts or None},
        "Mounts": places,
        "NetworkSettings": told["NetworkSettings"] | {"Ports": ports},
        "State": health,
    }


def made_again(daemon: Daemon, name: str, folder: Path) -> tuple[Any, Any]:
    """What `inspect` tells before, and after it was removed and made again."""
    before = about(daemon.client.api, name)
    made = target(daemon, folder, name=name)
    assert AGAIN.refuse(made) is None
    change = inject(AGAIN, made)
    assert AGAIN.took(made, [change]) and AGAIN.look(made, change) == "removed"
    AGAIN.unmake(made, change)
    assert AGAIN.look(made, change) == change.was and not AGAIN.took(made, [change])
    return without_named(before), without_named(about(daemon.client.api, name))


def test_the_very_same_is_made_again(daemon: Daemon, tmp_path: Path) -> None:
    name = rich(daemon)
    box = daemon.client.containers.get(name)
    assert box.exec_run(["sh", "-c", "echo kept > /made/file"]).exit_code == 0
    before, after = made_again(daemon, name, tmp_path)
    assert before == after
    new = daemon.client.containers.get(name)
    assert new.id != box.id and new.exec_run(["cat", "/made/file"]).output == b"kept\n"
    assert new.exec_run(["hostname"]).output.strip().decode() == box.id[:12]
    (asked,) = (one for one in daemon.client.containers.list() if one.name != name)
    assert names(daemon) == sorted([name, asked.name]), "nothing else is left"


def test_once_more_and_nothing_adds_up(daemon: Daemon, tmp_path: Path) -> None:
    """A second time the old id is an alias like others, and volumes have names already."""
    name = rich(daemon)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    made_again(daemon, name, tmp_path / "1")
    first = about(daemon.client.api, name)
    made_again(daemon, name, tmp_path / "2")
    second = about(daemon.client.api, name)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert second["HostConfig"] == first["HostConfig"] and second["Config"] == first["Config"]
    assert second["NetworkSettings"]["Networks"] == first["NetworkSettings"]["Networks"]  # type: ignore


def modes(daemon: Daemon) -> Mapping[str, Mapping[str, Any]]:
    other = daemon.run(network=daemon.network().name, ipc_mode="shareable")
    network = daemon.network()
    return {
        "host": {"network_mode": "host"},
        "none": {"network_mode": "none"},
        "uts": {"network_mode": "none", "uts_mode": "host"},
        "beside": {"network_mode": f"container:{other.id}", "pid_mode": f"container:{other.id}",
                   "ipc_mode": f"container:{other.id}"},
        "by-id": {"network_mode": network.id},
        "seeing": {"network_mode": "none", "pid_mode": "host"},
        "no-entry": {"network_mode": "none", "image": "entered:test", "entrypoint": [""],
                     "command": ["/bin/sleep", "1d"]},
        "entry": {"network_mode": "none", "image": "entered:test"},
        "unhealthy": {"network_mode": "none", "healthcheck": Healthcheck(test=["NONE"])},
        "borrowed": {"network_mode": "none", "volumes_from": [f"{other.id}:ro"]},
        "brief": {"network_mode": "none", "auto_remove": True, "mounts": [Mount("/made", None)]},
    }  # fmt: skip


def test_whatever_it_stands_on(daemon: Daemon, tmp_path: Path) -> None:
    daemon.client.images.get(BUSYBOX)
    box = daemon.run()
    box.commit("entered", "test", conf={
        "Entrypoint": ["/bin/busybox", "sleep"], "Cmd": ["2d"], "Volumes": {"/own": {}},
        "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD", "true"]},
    })  # fmt: skip
    for name, how in modes(daemon).items():
        daemon.run(*how.get("command", ()), name=name,
                   **{k: v for k, v in how.items() if k != "command"})  # fmt: skip
        (tmp_path / name).mkdir()
        before, after = made_again(daemon, name, tmp_path / name)
        assert before == after, name


def test_volumes_that_were_made_for_it_outlive_its_removal(daemon: Daemon, tmp_path: Path) -> None:
    """Those of one with `--rm` too, which its daemon would take with it."""
    for brief in (False, True):
        box = daemon.run(name=f"brief-{brief}", auto_remove=brief, mounts=[Mount("/made", None)])
        box.exec_run(["touch", "/made/file"])
        (folder := tmp_path / f"{brief}").mkdir()
        made = target(daemon, folder, name=box.name)
        change = inject(AGAIN, made)
        time.sleep(0.5)
        AGAIN.unmake(made, change)
        new = daemon.client.containers.get(box.name)
        assert new.exec_run(["ls", "/made"]).output == b"file\n"


def test_it_stays_where_it_was_when_its_double_cannot_be_made(
    daemon: Daemon, tmp_path: Path
) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    (change,) = AGAIN.changes(made)
    kept: Any = change.was
    kept["config"]["Cmd"] = [1]
    with pytest.raises(ChaoskitError):
        AGAIN.make(made, change)
    assert AGAIN.look(made, change) == change.was and names(daemon) == [box.name]


def test_what_cannot_come_back_is_said_before(daemon: Daemon, tmp_path: Path) -> None:
    rich(daemon)
    told = "\n".join(AGAIN.remarks(target(daemon, tmp_path, name="web")))
    for part in ("outside of volumes is lost", "have names afterwards", "ports anew",
                 "keeps what is in its environment"):  # fmt: skip
        assert part in told
    plain = daemon.run()
    told = "\n".join(AGAIN.remarks(target(daemon, tmp_path, name=plain.name)))
    assert "names afterwards" not in told and "ports" not in told and "address" not in told
    network = daemon.network()
    box = daemon.run(network=network.name)
    told = "\n".join(AGAIN.remarks(target(daemon, tmp_path, name=box.name)))
    assert "unless somebody takes it" in told


def test_what_could_not_be_made_again_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    def refused(name: str, fault: Remove = AGAIN) -> str:
        return fault.refuse(target(daemon, tmp_path, name=name)) or ""

    network = daemon.network()
    first, second = daemon.run(network=network.name), daemon.run(network=network.name)
    first.remove(force=True)
    assert "would not come back" in refused(second.name)
    daemon.run(name="frozen").pause()
    assert "paused" in refused("frozen")
    base = daemon.run(name="base", ipc_mode="shareable")
    assert refused("base") == ""
    for mode in ("network_mode", "pid_mode", "ipc_mode"):
        part = daemon.run(name="part", **{mode: f"container:{base.id}"})
        assert refused("base") == "part could not start again: part of this very container"
        part.remove(force=True)
    daemon.run(name="task", labels={"com.docker.swarm.service.name": "web"})
    assert "one too many" in refused("task") and refused("task", Remove()) == ""
    daemon.run(name="lone")
    assert "nobody would make it again" in refused("lone", Remove())
    daemon.run(name="marked", labels={"chaoskit.recreated": "true"})
    daemon.run(name="composed", labels=SHOP)
    assert refused("marked", Remove()) == refused("composed", Remove()) == ""
    by_id = target(daemon, tmp_path, id=base.id)
    assert "an id has no role" in (Remove(True, replaced_within=1.0).refuse(by_id) or "")


# The undo, from wherever somebody was when he was killed.


def test_a_double_of_what_was_never_removed_goes(daemon: Daemon, tmp_path: Path) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    (change,) = AGAIN.changes(made)
    made.get_ready(change.was)  # type: ignore[arg-type]
    assert AGAIN.found(AGAIN.look(made, change), change) is Found.OURS
    AGAIN.unmake(made, change)
    assert AGAIN.look(made, change) == change.was and names(daemon) == [box.name]
    box.reload()
    assert box.status == "running"


def test_a_removal_that_was_asked_for_is_finished(daemon: Daemon, tmp_path: Path) -> None:
    """It may still be on its way: who trusts that it lives loses it afterwards."""
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    (change,) = AGAIN.changes(made)
    made._doom.write_text(f"{boot_id()} {now()}")
    assert AGAIN.look(made, change) == "being removed"
    AGAIN.unmake(made, change)
    assert AGAIN.look(made, change) == change.was
    assert daemon.client.containers.get(box.name).id != box.id


def test_a_removal_that_never_came_is_not_finished_days_later(
    daemon: Daemon, tmp_path: Path
) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    (change,) = AGAIN.changes(made)
    made.get_ready(change.was)  # type: ignore[arg-type]
    for boot, ago in ((boot_id(), 100.0), ("of-another", 1.0)):
        made._doom.write_text(f"{boot} {now() - ago}")
        AGAIN.unmake(made, change)
        assert AGAIN.look(made, change) == change.was and names(daemon) == [box.name]
        box.reload()
        assert box.status == "running"


def cut_after(daemon: Daemon, made: ContainerTarget, change: Change, call: str) -> None:
    """An undo that dies right after it has asked the daemon for that."""
    api = made.daemon._client(30.0)
    real = getattr(api, call)

    def dies(*words: Any, **more: Any) -> None:
        real(*words, **more)
        raise KeyboardInterrupt

    setattr(api, call, dies)
    try:
        with pytest.raises(KeyboardInterrupt):
            AGAIN.unmake(made, change)
    finally:
        setattr(api, call, real)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    "call", ["create_container_from_config", "connect_container_to_network", "rename", "start"]
)
def test_what_is_half_made_is_completed(
    daemon: Daemon, tmp_path: Path, call: str, lost: bool
) -> None:
    """lost: the run's folder was deleted and written anew, without what undoers wrote there."""
    name = rich(daemon)
    before = about(daemon.client.api, name)
    made = target(daemon, tmp_path, name=name)
    ref = made.ref()
    change = inject(AGAIN, made)
    daemon.client.api.remove_container(made.mark)  # Somebody tidies up.
    cut_after(daemon, made, change, call)
    if lost:
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / LOST).touch()
    fresh = ContainerTarget.restore(ref, made.binding)
    if not (lost and call == "start"):
        found = AGAIN.found(AGAIN.look(fresh, change), change)
        assert found is (Found.WAS if call == "start" else Found.OURS)
        AGAIN.unmake(fresh, change)
        assert AGAIN.look(fresh, change) == change.was
    assert without_named(about(daemon.client.api, name)) == without_named(before)
    assert not any("chaoskit" in name for name in names(daemon))


def test_somebody_else_has_made_it_again(daemon: Daemon, tmp_path: Path) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    change = inject(AGAIN, made)
    other = daemon.run(name=box.name)
    assert AGAIN.took(made, [change])
    with pytest.raises(Gone, match="somebody else has made"):
        AGAIN.unmake(made, change)
    with pytest.raises(Gone, match="somebody else has made"):
        AGAIN.look(made, change)
    assert names(daemon) == [other.name]


def test_somebody_starts_the_double(daemon: Daemon, tmp_path: Path) -> None:
    """As compose may, which takes it for the one of its service."""
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    change = inject(AGAIN, made)
    daemon.client.containers.get(made.mark).start()
    assert "started its double" in str(AGAIN.look(made, change))
    assert AGAIN.took(made, [change])
    AGAIN.unmake(made, change)
    assert AGAIN.look(made, change) == change.was and names(daemon) == [box.name]


def test_somebody_removes_what_was_made_again(daemon: Daemon, tmp_path: Path) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    change = inject(AGAIN, made)
    AGAIN.unmake(made, change)
    daemon.client.containers.get(box.name).remove(force=True)
    with pytest.raises(Gone, match="removed"):
        AGAIN.look(made, change)


def test_somebody_else_removes_it_first(daemon: Daemon, tmp_path: Path) -> None:
    box = daemon.run()
    made = target(daemon, tmp_path, name=box.name)
    (change,) = AGAIN.changes(made)
    made.get_ready(change.was)  # type: ignore[arg-type]
    box.remove(force=True)
    with pytest.raises(Gone):
        made.remove()
    assert AGAIN.found(AGAIN.look(made, change), change) is Found.OURS
    AGAIN.unmake(made, change)
    with pytest.raises(Gone, match="somebody else has removed"):
        AGAIN.look(made, change)
    assert names(daemon) == []


def test_what_it_needs_is_gone_by_then(daemon: Daemon, tmp_path: Path) -> None:
    """A volume that is not there any more is not made anew, empty; the others are told, too."""
    for what, told in (("volume", "its volume .* has been removed"), ("network", "network")):
        network = daemon.network()
        daemon.run(name=what, network=network.name, mounts=[Mount("/made", None)])
        (folder := tmp_path / what).mkdir()
        made = target(daemon, folder, name=what)
        change = inject(AGAIN, made)
        daemon.client.api.remove_container(made.mark)
        if what == "volume":
            kept: Any = change.was
            daemon.client.volumes.get(kept["volumes"][0]).remove()
        else:
            daemon.client.networks.get(network.id).remove()
        with pytest.raises(ChaoskitError, match=told) as caught:
            AGAIN.unmake(made, change)
        assert not isinstance(caught.value, Gone)
        assert AGAIN.found(AGAIN.look(made, change), change) is Found.OURS


def test_somebody_has_its_address_by_then(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    box = daemon.run(network=network.name)
    made = target(daemon, tmp_path, name=box.name)
    change = inject(AGAIN, made)
    daemon.run(network=network.name)
    AGAIN.unmake(made, change)
    now = AGAIN.look(made, change)
    assert AGAIN.found(now, change) is Found.FOREIGN
    assert "it runs again, with 10." in str(now) and f"in {network.name} where it had" in str(now)


def test_an_address_that_only_comes_when_wished_for(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(fixed=True)
    first, box = daemon.run(network=network.name), daemon.run(network=network.name)
    box.reload()
    had = box.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    first.remove(force=True)
    made_again(daemon, box.name, tmp_path)
    new = daemon.client.containers.get(box.name)
    assert new.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"] == had


# Others make it again.


def test_one_way(daemon: Daemon, tmp_path: Path) -> None:
    box = daemon.run(name="web", labels=SHOP, mounts=[Mount("/made", None)])
    fault, made = Remove(), target(daemon, tmp_path, compose_project="shop")
    assert fault.way_back() is None and fault.ends is Ends.ONE_WAY
    assert "the compose project shop has to make it again" in fault.remarks(made)[0]
    change = inject(fault, made)
    assert (change.was, change.put) == ("there", "removed")
    assert fault.took(made, [change]) and names(daemon) == []
    assert len(daemon.client.volumes.list()) == 1, "nobody said that its volumes should go"
    assert fault.outcome(made, [change], 1.0) is None
    assert fault.no_outcome(made, [change], 3.0) == Outcome("nobody made it again in 3s")
    hoped = Remove(replaced_within=2.0)
    assert hoped.no_outcome(made, [change], 3.0) == Outcome("nobody made it again in 3s", False)
    late = hoped.no_outcome(made, [change], 1.0)
    assert late is not None and late.unknown
    daemon.run(name="other", labels={"com.docker.compose.project": "other"})
    assert fault.outcome(made, [change], 1.0) is None
    daemon.run(name="web", labels=SHOP)
    for within, held in ((None, None), (2.0, True), (0.5, False)):
        found = Remove(replaced_within=within).outcome(made, [change], 1.0)
        assert found is not None and found.held is held
        assert "container web (chaoskit-busybox:test) of the compose project shop" in found.text
    assert box.id and fault.took(made, [change])


def test_a_role_of_two_wants_two(daemon: Daemon, tmp_path: Path) -> None:
    daemon.run(name="web-1", labels=SHOP)
    daemon.run(name="web-2", labels=SHOP)
    binding = Binding(run="20260101-000000-abcdef", step="1", folder=tmp_path)
    one, two = DockerSelector(compose_service="web", host=daemon.url).find(binding)
    changes = [inject(Remove(), made) for made in (one, two)]  # type: ignore[arg-type]
    daemon.run(name="web-3", labels=SHOP)
    assert Remove().outcome(one, changes[:1], 1.0) is None  # type: ignore[arg-type]
    daemon.run(name="web-4", labels=SHOP)
    assert Remove().outcome(two, changes[1:], 1.0) is not None  # type: ignore[arg-type]


def test_a_whole_run_that_others_answer(daemon: Daemon, tmp_path: Path) -> None:
    daemon.run(name="web", labels=SHOP)
    one = trial(daemon, "web", tmp_path, **{"recreate": False, "replaced-within": "20s"})
    runner = one.start(hold="8s")
    try:
        one.wait_injected(runner)
        daemon.run(name="web", labels=SHOP)
        assert runner.wait(60) == 0, one.latest().result().reason
    finally:
        runner.kill()
        runner.wait()
    (step,) = one.latest().result().steps
    assert "made again as container web" in step.outcomes[0] and step.proven_again
    assert names(daemon) == ["web"]


def test_what_is_stuck_tells_no_secret(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    daemon.run(name="web", network=network.name, environment={"PASSWORD": "geheim"})
    one = trial(daemon, "web", tmp_path)
    runner = one.start(hold="60s")
    try:
        one.wait_injected(runner)
        daemon.run(network=network.name)  # It takes the address.
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(60) == 5
    finally:
        runner.kill()
        runner.wait()
    result = one.latest().result()
    (left,) = result.left
    assert left.was == "container web (chaoskit-busybox:test)" and "where it had" in left.why
    for path in one.latest().path.glob("report*"):
        assert "geheim" not in path.read_text()
    assert recover(one.latest(), accept=[left.cell]).state == "done"


def test_the_daemon_restarts_while_it_is_away(daemon: Daemon, tmp_path: Path) -> None:
    """Its double does not start by itself, whatever its restart policy, and one with `--rm` is
    removed by its daemon: then it is made from the journal."""
    for name, how in (
        ("lasting", {"restart_policy": {"Name": "always"}}),
        ("brief", {"auto_remove": True}),
    ):
        box = daemon.run(name=name, mounts=[Mount("/made", None)], **how)
        box.exec_run(["touch", "/made/file"])
        (folder := tmp_path / name).mkdir()
        one = trial(daemon, name, folder)
        runner = one.start(hold="60s")
        try:
            one.wait_injected(runner)
            daemon.restart()
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(90) == 4, one.latest().result().reason
        finally:
            runner.kill()
            runner.wait()
        new = daemon.client.containers.get(name)
        assert new.status == "running" and new.exec_run(["ls", "/made"]).output == b"file\n"


def test_the_daemon_is_killed_and_the_runner_too(daemon: Daemon, tmp_path: Path) -> None:
    daemon.run(name="web")
    one = trial(daemon, "web", tmp_path)
    runner = one.start("--guardian", "dies", "--at", "after:injected:1")
    assert runner.wait(60) == -signal.SIGKILL
    daemon.kill()
    words = ["recover", "--state", str(one.state.path)]
    done = subprocess.run(
        [sys.executable, "-m", "chaoskit", *words], capture_output=True, text=True
    )
    assert done.returncode == 5 and "no Docker daemon answers" in done.stdout + done.stderr
    daemon.start()
    assert not recover(one.latest()).left
    assert daemon.client.containers.get("web").status == "running"


@pytest.mark.timeout(900)
def test_undone_after_death_at_exact_points(daemon: Daemon, tmp_path: Path) -> None:
    name = "web"

    def fresh(folder: Path) -> Trial:
        for one in daemon.client.containers.list(all=True):
            one.remove(force=True, v=True)
        daemon.run(name=name, network=daemon.network(fixed=True).name)
        return trial(daemon, name, folder)

    assert len(list(dying(fresh, tmp_path, few=24))) >= 24


@pytest.mark.timeout(300)
def test_the_properties(daemon: Daemon, tmp_path: Path) -> None:
    for number, holds in enumerate([
        conformance.effect_is_real,
        conformance.undoing_twice_is_harmless,
        conformance.a_foreign_value_is_stuck_for_its_cell_alone,
        conformance.an_effect_that_never_came_is_inconclusive,
        conformance.an_effect_that_ends_early_is_inconclusive,
    ]):  # fmt: skip
        (folder := tmp_path / f"{number}").mkdir()
        daemon.run(name=f"web-{number}", network=daemon.network(fixed=True).name)
        holds(trial(daemon, f"web-{number}", folder))
