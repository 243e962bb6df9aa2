"""A daemon whose containers' processes are not to be seen: chaoskit in a pid namespace of its own.

What the daemon itself does is possible; what goes by /proc is refused with the reason; and faults
on packets are possible by helper containers of an image with nft in it.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import cells
import images
import pytest
from daemons import Daemon
from hurting import CHAOSKIT, step, write

from chaoskit.clock import until
from chaoskit.nft import program
from chaoskit.targets.far_network import LABEL

APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
NFT = "chaoskit-nft:test"


@pytest.fixture
def nft_image(daemon: Daemon) -> str:
    files = {"bin/nft": Path(program()).read_bytes()}
    told = subprocess.run(["ldd", program()], capture_output=True, text=True, check=True).stdout
    for path in (word for word in told.split() if word.startswith("/")):
        files[path.lstrip("/")] = Path(path).read_bytes()
    return daemon.import_tar(NFT, images.tar(files), ["ENV PATH=/bin"])


def apart(*words: str | Path, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*APART, CHAOSKIT, "--state", str(state), *map(str, words)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def helpers(daemon: Daemon) -> list[Any]:
    found: list[Any] = daemon.client.containers.list(all=True, filters={"label": LABEL})
    return found


def test_the_plan_says_what_is_not_possible_and_offers_a_helper(
    daemon: Daemon, tmp_path: Path
) -> None:
    name = str(daemon.run(network=daemon.network().name).name)
    for fault, params, told in (
        ("cpu", {"_load": 0.1}, "are not to be seen from here"),
        ("latency", {"_delay": "10ms"}, "are not to be seen from here"),
        ("drop-network", {}, "`helper-image:` in the target names an image with nft in it"),
    ):
        file = write(tmp_path / "e.json", step(fault, daemon.url, name=name, **params))
        done = apart("plan", file, state=tmp_path / "state")
        assert done.returncode == 3 and told in done.stdout + done.stderr, done.stdout


def test_what_the_daemon_does_is_possible(daemon: Daemon, tmp_path: Path) -> None:
    name = str(daemon.run().name)
    steps = [
        step("pause", daemon.url, hold="300ms", name=name),
        step("kill", daemon.url, hold="300ms", name=name),
        step("stop", daemon.url, hold="300ms", name=name, _grace="0s"),
    ]
    done = apart("run", write(tmp_path / "e.json", *steps), state=tmp_path / "state")
    assert done.returncode == 0, done.stdout + done.stderr
    assert daemon.client.containers.get(name).status == "running"


def test_packets_by_a_helper_container(daemon: Daemon, tmp_path: Path, nft_image: str) -> None:
    container = daemon.run(network=daemon.network().name)
    seen_from_here = cells.target(daemon, container)
    before = cells.rules(seen_from_here)
    how = {"name": container.name, "helper-image": nft_image}
    file = write(tmp_path / "e.json", step("drop-network", daemon.url, hold="3s", **how))
    runner = subprocess.Popen(
        [*APART, CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert until(lambda: "chaoskit-" in str(cells.rules(seen_from_here)), 40)
        told = runner.communicate(timeout=60)[0]
    finally:
        runner.kill()
    assert runner.returncode == 0 and "HELD" in told, told
    assert cells.rules(seen_from_here) == before and not helpers(daemon)


def test_both_killed_and_recovered_from_afar(
    daemon: Daemon, tmp_path: Path, nft_image: str
) -> None:
    """The end of a pid namespace's first process ends the guardian with it."""
    container = daemon.run(network=daemon.network().name)
    seen_from_here = cells.target(daemon, container)
    before = cells.rules(seen_from_here)
    how = {"name": container.name, "helper-image": nft_image}
    file = write(tmp_path / "e.json", step("loss", daemon.url, _share="10%", **how))
    runner = subprocess.Popen(
        [*APART, CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert until(lambda: "chaoskit-" in str(cells.rules(seen_from_here)), 40)
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    # One that a dead runner has left behind, with the mark of its step.
    (mark,) = [word for word in str(cells.rules(seen_from_here)).split() if "chaoskit-" in word][:1]
    left = daemon.run(labels={LABEL: mark.strip("'\",{}")}, network_mode="none")
    done = apart("recover", state=tmp_path / "state")
    assert done.returncode == 0 and "RECOVERED" in done.stdout, done.stdout + done.stderr
    assert cells.rules(seen_from_here) == before
    assert left.id not in [one.id for one in helpers(daemon)]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"helper-image": "no-such-image"}, "has no image no-such-image"),
        ({"helper-image": images.BUSYBOX}, "cannot do that"),
    ],
)
def test_an_image_that_does_not_do(
    daemon: Daemon, tmp_path: Path, how: dict[str, str], told: str
) -> None:
    name = str(daemon.run(network=daemon.network().name).name)
    file = write(tmp_path / "e.json", step("drop-network", daemon.url, name=name, **how))
    done = apart("plan", file, state=tmp_path / "state")
    assert done.returncode == 3 and told in done.stdout + done.stderr, done.stdout
    assert not helpers(daemon)
