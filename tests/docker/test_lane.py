"""The lane itself: a real daemon runs, survives what tests do to it, and leaves nothing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import daemons
import hosts
import images
import keeper
import pytest
from daemons import Daemon

from chaoskit.clock import until

HERE = Path(__file__).parent


EVERY_KIND = {"rules", "qdiscs", "limits", "files", "processes", "networks", "links"}


def everything_of(daemon: Daemon) -> list[str]:
    return keeper.leftovers(str(daemon.folder), daemon.cgroup, daemon.ranges.all)


def fill(daemon: Daemon) -> None:
    """One of all there is: a running, a paused, a restarting container, networks, a volume."""
    both = daemon.network(fixed=True), daemon.network(ipv6=True)
    for network in both:
        daemon.run(network=network.name, volumes={daemon.name("data"): {"bind": "/data"}})
    daemon.run(network=both[0].name).pause()
    daemon.run("false", restart_policy={"Name": "always"})


def test_containers_run_and_reach_each_other(daemon: Daemon) -> None:
    network = daemon.network(fixed=True)
    one, other = daemon.run(network=network.name), daemon.run(network=network.name)
    asked = one.exec_run(["ping", "-c", "1", "-W", "5", other.name])
    assert asked.exit_code == 0, asked.output
    other.stop()
    other.reload()
    assert other.attrs["State"]["ExitCode"] == 0  # It heard SIGTERM: no test waits for ten seconds.


def test_an_image_may_be_one_static_binary_and_nothing_else(daemon: Daemon) -> None:
    bare = daemon.run(image=images.SCRATCH)
    assert bare.exec_run("sh").exit_code == 126
    with tarfile.open(fileobj=io.BytesIO(b"".join(bare.export()))) as archive:
        listed = archive.getnames()
    assert [name for name in listed if not name.startswith(("dev", "etc", "proc", "sys"))] == [
        ".dockerenv",
        "sleep",
    ]
    bare.reload()
    assert bare.status == "running"


def test_a_folder_becomes_an_image(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(Path(images.busybox() or "").read_bytes())
    (tmp_path / "bin/sh").chmod(0o755)
    tag = daemon.import_tree("chaoskit-tree:1", tmp_path, ['CMD ["/bin/sh", "-c", "echo $HI"]',
                                                           "ENV HI=hello"])  # fmt: skip
    assert daemon.client.containers.run(tag, network_mode="none", remove=True) == b"hello\n"


def test_a_daemon_dies_hangs_and_comes_back(daemon: Daemon) -> None:
    box = daemon.run(restart_policy={"Name": "always"})
    daemon.kill()
    assert not daemon.answers()
    daemon.start()
    box = daemon.client.containers.get(box.id)
    assert until(lambda: box.reload() or box.status == "running", 20)
    daemon.freeze()
    assert not daemon.answers(within=0.5)
    daemon.thaw()
    assert daemon.answers(within=20)
    daemon.restart()
    assert daemon.client.containers.get(box.id).name == box.name


def test_it_is_empty_for_the_next_test_whatever_this_one_did(session_daemon: Daemon) -> None:
    fill(session_daemon)
    session_daemon.kill()
    session_daemon.revive()
    session_daemon.empty()
    assert session_daemon.client.containers.list(all=True) == []
    assert session_daemon.client.volumes.list() == []
    assert keeper.links(session_daemon.ranges.all) == []


def test_containers_outlive_a_daemon_with_live_restore(own_daemon: Daemon) -> None:
    box = own_daemon.run()
    box.reload()
    pid = box.attrs["State"]["Pid"]
    own_daemon.kill()
    assert Path(f"/proc/{pid}").exists()
    own_daemon.start()
    again = own_daemon.client.containers.get(box.id)
    assert again.status == "running" and again.attrs["State"]["Pid"] == pid


@pytest.mark.parametrize("state", ["running", "dead", "frozen"])
def test_nothing_is_left_of_a_daemon_in_any_state(state: str) -> None:
    with daemons.running() as daemon:
        fill(daemon)
        {"running": lambda: None, "dead": daemon.kill, "frozen": daemon.freeze}[state]()
        kinds = {line.split()[0] for line in everything_of(daemon)}
        assert kinds == {"process", "link", "mount", "cgroup", "folder"}
    assert everything_of(daemon) == []


def test_nothing_is_left_when_the_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), daemons.running() as daemon:
        fill(daemon)
        _ = 1 / 0
    assert everything_of(daemon) == []


def test_nothing_is_left_when_pytest_is_killed() -> None:
    program = (
        "import daemons, test_lane, time\n"
        "with daemons.running() as daemon:\n"
        "    test_lane.fill(daemon)\n"
        "    print(daemon.folder, daemon.cgroup, *daemon.ranges.all, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout
        folder, cgroup, *networks = run.stdout.readline().split()
        assert keeper.processes(folder, cgroup)
        run.send_signal(signal.SIGKILL)
    assert until(lambda: not keeper.leftovers(folder, cgroup, networks), 30)


def test_two_daemons_do_not_meet(daemon: Daemon) -> None:
    with daemons.running() as other:
        here, there = daemon.network(), other.network()
        assert here.subnets != there.subnets
        assert keeper.links(daemon.ranges.all) == [here.bridge]
        assert keeper.links(other.ranges.all) == [there.bridge]
        other.empty()
        assert [one.name for one in daemon.client.networks.list([here.name])] == [here.name]


def test_a_snapshot_sees_what_a_fault_could_leave(daemon: Daemon) -> None:
    network = daemon.network(fixed=True)
    box = daemon.run(network=network.name, volumes={daemon.name("data"): {"bind": "/data"}})
    run, mark = "20990101-000000-abcdef", "chaoskit-20990101-000000-abcdef"
    before = hosts.snapshot(daemon)
    assert hosts.changes(before, hosts.snapshot(daemon), run) == []
    box.reload()
    pid = str(box.attrs["State"]["Pid"])
    inside = ("nsenter", "-t", pid, "-n")
    subprocess.run([*inside, "nft", "add", "table", "inet", "mine"], check=True)
    subprocess.run([*inside, "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "pfifo"],
                   check=True)  # fmt: skip
    box.update(cpu_shares=77)
    box.exec_run(["touch", f"/data/.{mark}-1"])
    box.exec_run(["sh", "-c", f"sleep 1000; : {mark}"], detach=True)
    daemon.network("extra")
    after = hosts.snapshot(daemon)
    seen = [line for line in hosts.changes(before, after, run) if ": + " in line]
    kinds = {line.partition(":")[0].removesuffix(f" of {box.name}") for line in seen}
    assert kinds - {"qdiscs of the host"} == EVERY_KIND, seen
    others = "\n".join(hosts.changes(before, after, "20990101-000000-fedcba"))
    assert "processes: " not in others and "files: " not in others


def test_a_missing_part_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="dockerd"), daemons.running():
        pass
