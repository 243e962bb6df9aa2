"""Podman's compatible socket: the same faults, by a podman of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import images
import pytest
from hurting import chaoskit, step, write

from chaoskit.clock import until


@pytest.fixture
def podman() -> Iterator[str]:
    """The socket of one that has the busybox image, in folders of its own. Nothing of it stays."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    if os.geteuid() != 0:
        pytest.skip("containers of other users' are root's to look into")
    folder = Path(tempfile.mkdtemp(prefix="chaoskit-pm-", dir="/tmp"))
    command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"),
               "--tmpdir", str(folder / "tmp"), "--cgroup-manager", "cgroupfs",
               "--events-backend", "file"]  # fmt: skip
    url = f"unix://{folder}/podman.sock"
    with (folder / "log").open("w") as log:
        service = subprocess.Popen(
            [*command, "system", "service", "--time=0", url],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        assert until((folder / "podman.sock").exists, 60), (folder / "log").read_text()
        with contextlib.closing(docker.APIClient(url, version="1.41", timeout=60)) as api:
            lines = images.changes(images.LIVE)
            api.import_image_from_data(images.busybox_tar(), repository="box", changes=lines)
        yield url
    finally:
        subprocess.run([*command, "rm", "--all", "--force", "--time", "0"], capture_output=True)
        service.kill()
        service.wait()
        subprocess.run([*command, "system", "reset", "--force"], capture_output=True)
        mounts = Path("/proc/self/mounts").read_text().split()
        for place in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_same_faults(podman: str, tmp_path: Path) -> None:
    with contextlib.closing(docker.APIClient(podman, version="1.41", timeout=60)) as api:
        # Podman would raise limits that a machine need not let it raise.
        limits = [
            docker.types.Ulimit(name=name, soft=1000, hard=1000) for name in ("nofile", "nproc")
        ]
        host = api.create_host_config(network_mode="none", ulimits=limits)
        made = api.create_container("box", name="podded", host_config=host)
        api.start(made["Id"])
        steps = [
            step(fault, podman, hold="300ms", name="podded", **params)
            for fault, params in (
                ("pause", {}),
                ("kill", {}),
                ("stop", {"_grace": "0s"}),
                ("limit", {"_pids": 50}),
                ("cpu", {"_load": 0.2}),
                ("disk-fill", {"_path": "/tmp", "_size": "5MiB"}),
            )
        ]
        done = chaoskit("run", write(tmp_path / "e.json", *steps), state=tmp_path / "state")
        assert done.returncode == 0, done.stdout + done.stderr
        assert api.inspect_container("podded")["State"]["Status"] == "running"
