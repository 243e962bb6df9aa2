"""The catalogue's experiments on links to a real Redis and a real PostgreSQL come to the verdict
that they state, and leave nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import free_address, postgresql, redis

from chaoskit.targets.proxy_process import leftover_proxies

FOLDER = Path(__file__).parents[2] / "experiments" / "databases"
FILES = sorted(FOLDER.glob("*.yaml"))
CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql() as address:
        yield address


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    with redis() as address:
        yield address


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_comes_to_the_verdict_it_states_and_leaves_nothing(
    file: Path, database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    text = file.read_text()
    variables = {
        "DATABASE": database,
        "DATABASE_LINK": free_address(),
        "CACHE_LINK": free_address(),
        "PGUSER": "postgres",
    }
    if "CACHE" in text:
        variables["CACHE"] = request.getfixturevalue("cache")
    done = subprocess.run(
        [CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file), "--json", "--seed", "1"],
        env=os.environ | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    (expected,) = re.findall(r"^# Expect: (\w+)$", text, re.MULTILINE)
    assert result["verdict"] == expected, f"{result['reason']}\n{done.stderr}"
    assert result["left"] == []
    faults = [step for step in result["steps"] if step["kind"] == "fault"]
    assert faults and all(step["proven"] and step["proven_again"] for step in faults)
    assert [mark for mark, _ in leftover_proxies() if result["run"] in mark] == []


def test_without_its_timeout_the_client_waits_for_the_dead_link(
    database: str, tmp_path: Path
) -> None:
    """What `database-is-cut-off.yaml` says of itself: the setting is what makes it hold."""
    file = tmp_path / "no-timeout.yaml"
    text = (FOLDER / "database-is-cut-off.yaml").read_text()
    patient = text.replace("?connect_timeout=2", "").replace(
        "        psql", "        timeout 3 psql"
    )
    assert patient.count("timeout 3 psql") == 1
    file.write_text(patient + "gates: []\n")
    variables = {"DATABASE": database, "DATABASE_LINK": free_address(), "PGUSER": "postgres"}
    done = subprocess.run(
        [CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "timeout expired" in done.stdout  # Told as what was expected, and not found.
