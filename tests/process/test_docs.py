"""Every command and file that the README shows is run here, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from shops import free_ports

TOP = Path(__file__).parent.parent.parent
README = (TOP / "README.md").read_text()
# What is shown of containers is run in the docker lane.
HERE = re.sub(r"^## Containers$.*?^## ", "## ", README, flags=re.M | re.S)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

HEAD = """
set -eu -o pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
pip() { echo "pip $*"; }  # The package is installed: the virtual environment is the test's own.
"""


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(HERE) if found == kind]


def its_own(text: str) -> str:
    """The sleeper's name and the ports made the test's own, so that none meets another's."""
    text = text.replace("sleep 4242", f"sleep 4242.{os.getpid()}")
    text = text.replace("chaoskit proxy &", "chaoskit proxy --listen 127.0.0.1:8474 &")
    return re.sub(r"\b(8000|8474|28\d{3})\b", lambda m: _port(m[0]), text)


@cache
def _port(shown: str) -> str:
    return str(free_ports(1))


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in BLOCK.findall(README)} == {"sh", "yaml", "python"}


def test_the_readme_is_true(tmp_path: Path) -> None:
    for text in blocks("yaml"):
        (name,) = re.findall(r"^# file: (\S+)$", text, re.M)
        (tmp_path / name).write_text(text)
    for number, text in enumerate(blocks("python")):
        (tmp_path / f"script{number}.py").write_text(text)
    first, *rest = blocks("sh")
    python = "\n".join(
        f"{sys.executable} {'-m pytest -q ' * ('def test_' in text)}script{n}.py"
        for n, text in enumerate(blocks("python"))
    )
    # `recover` has nothing to do here and says so.
    script = HEAD + first + "\n".join(rest) + "\n" + python
    for path in tmp_path.iterdir():
        path.write_text(its_own(path.read_text()))
    done = subprocess.run(
        ["bash", "-c", its_own(script)],
        cwd=tmp_path,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CHAOSKIT_STATE": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("HELD") >= 4
    (took,) = re.findall(r"(\d+[.]\d+) s$", done.stdout, re.M)
    assert float(took) > 0.3  # The toxic was in.
    assert "1 passed" in done.stdout
    assert (tmp_path / "result.json").stat().st_size > 100
    assert (tmp_path / "experiment.schema.json").stat().st_size > 1000


@pytest.mark.parametrize("place", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_somewhere(place: str) -> None:
    assert (TOP / place).exists()


def test_the_faults_and_probes_named_are_those_that_exist() -> None:
    from chaoskit import registry

    for group in ("faults", "probes"):
        for name in registry.built_in(group):
            assert f"`{name}`" in README
