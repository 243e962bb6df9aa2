"""Hundreds of containers: one list tells of them all, and only the chosen ones are looked at."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import VERSION, Answer, Fake, fake, http
from hurting import step, write

from chaoskit import load
from chaoskit.docker import client
from chaoskit.journal import State
from chaoskit.model.result import Plan
from chaoskit.planning import make_plan
from chaoskit.targets import container_again, container_networks, docker_protect

MANY = 500


def told(number: int) -> dict[str, Any]:
    """What the list tells of one."""
    return {
        "Id": f"{number:064x}",
        "Names": [f"/web{number}"],
        "Image": "shop/web:1",
        "ImageID": "sha256:" + "a" * 64,
        "Labels": {"app": "web"},
        "State": "running",
        "Created": number,
        "NetworkSettings": {"Networks": {}},
    }


def inspected(id: str) -> dict[str, Any]:
    state = {"Status": "running", "Pid": 2**22 + 5, "StartedAt": "2026-01-01T00:00:00.000000001Z"}
    return {"Id": id, "Name": f"/web{int(id, 16)}", "State": state, "HostConfig": {}, "Config": {}}


def answer(path: str) -> Answer:
    if path == "/version":
        return VERSION
    if re.search(r"/containers/json\b", path):
        return http([told(number) for number in range(MANY)])
    if found := re.search(r"/containers/(\w+)/json", path):
        return http(inspected(found[1]))
    return http({"message": f"nobody shall ask for {path}"}, "500 Internal Server Error")


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Fake]:
    """A daemon of many containers, on another machine: none of their processes is here."""
    with fake(tmp_path / "s", answer) as made:
        yield made
        client.daemon(client.Where(made.url, verify=False)).close()


def planned(crowd: Fake, folder: Path, fault: str, pick: Any) -> Plan:
    file = write(folder / "e.json", step(fault, crowd.url, pick=pick, label="app=web"))
    plan = make_plan(load(file), State(folder / "state"), seed=1)
    assert not plan.refusals
    return plan


def looks(crowd: Fake) -> Counter[str]:
    """How often each container was asked for."""
    found = (re.search(r"/containers/(\w{64})/json", line) for line in crowd.asked)
    return Counter(one[1] for one in found if one)


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_a_plan_takes_one_list_and_looks_at_those_it_names(
    fault: str, crowd: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long this machine takes for a plan, it is one look.
    for module in (container_networks, container_again):
        monkeypatch.setattr(module, "LISTED", 60.0)
    plan = planned(crowd, tmp_path, fault, 3)
    assert plan.steps[0].matched == MANY
    assert sum("/containers/json" in line for line in crowd.asked) == 1
    keys = {target.key.removeprefix("container ") for target in plan.steps[0].targets}
    seen = looks(crowd)
    if fault == "kill":  # Who was started as part of them is known of each by itself only, here.
        assert [n for key, n in seen.items() if key not in keys] == [1] * (MANY - 3)
        seen = Counter({key: seen[key] for key in keys})
    assert set(seen) == keys and len(keys) == 3
    assert max(seen.values()) <= 3 + (fault == "kill"), json.dumps(crowd.asked, indent=1)


def test_who_runs_chaoskit_is_looked_for_once(
    crowd: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []
    real = docker_protect.processes
    monkeypatch.setattr(docker_protect, "processes", lambda: scans.append(1) or real())
    planned(crowd, tmp_path, "pause", "all")
    assert len(scans) == 1
