"""What the README shows of containers is run here, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import images
from daemons import Daemon

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def test_the_readme_is_true_of_containers(daemon: Daemon, tmp_path: Path) -> None:
    found = re.search(r"^## Containers$.*?^## ", README, flags=re.M | re.S)
    assert found
    name = daemon.name("cache")

    def its_own(text: str) -> str:
        return re.sub(r"(?<=name: )cache(?=})|(?<=name )cache\b|(?<=rm -f )cache", name, text)

    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", found[0], re.M | re.S):
        if kind == "yaml":
            (file,) = re.findall(r"^# file: (\S+)$", text, re.M)
            (tmp_path / file).write_text(its_own(text))
    scripts = re.findall(r"^```sh\n(.*?)^```$", found[0], re.M | re.S)
    daemon.client.images.get(images.BUSYBOX).tag("busybox")
    done = subprocess.run(
        ["bash", "-c", "set -eu\n" + its_own("\n".join(scripts))],
        cwd=tmp_path,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CHAOSKIT_STATE": str(tmp_path / "state"),
            "DOCKER_HOST": daemon.url,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HELD  The cache comes back by itself" in done.stdout
    assert "started by its restart policy (always)" in done.stdout
    assert name not in [container.name for container in daemon.client.containers.list(all=True)]
