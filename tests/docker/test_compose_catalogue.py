"""Every experiment on the market of examples/compose comes to the verdict that it states, and
leaves nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
from markets import HOME, Market, market

from chaoskit import spec
from chaoskit.clock import until
from chaoskit.model.verdict import Verdict

CATALOGUE = Path(__file__).parents[2] / "experiments"
FILES = sorted(CATALOGUE.glob("compose/*.yaml"))
CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")

# To open the market takes its time where many tests run beside it.
pytestmark = pytest.mark.timeout(300)
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def said(file: Path, word: str) -> str:
    """What the comment `# Word: ...` in the first lines says."""
    (found,) = re.findall(rf"^# {word}: (.+)$", file.read_text(), re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def opened() -> Iterator[Market]:
    with market() as made:
        yield made


@every_file
def test_comes_to_the_verdict_it_states_and_leaves_nothing(
    file: Path, opened: Market, tmp_path: Path
) -> None:
    expected = Verdict(said(file, "Expect"))
    assert until(opened.is_well, 30), opened.told()
    before = hosts.snapshot(opened.daemon)
    done = subprocess.run(
        [CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file), "--json", "--seed", "1"],
        env=os.environ | opened.variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    told = f"{result['verdict']}: {result['reason']}\n{done.stderr}\n{opened.told()}"
    assert result["verdict"] == expected.value, told
    assert done.returncode == result["exit"] == expected.exit_code
    assert result["left"] == []
    _everything_was_proven(result, expected)
    if file.stem == "database-disk-is-full":
        assert "could not extend file" in opened.logs("worker")
    assert until(opened.is_well, 30), opened.told()
    _nothing_is_left(result, before, opened)


def _everything_was_proven(result: dict[str, Any], expected: Verdict) -> None:
    faults = [step for step in result["steps"] if step["kind"] == "fault"]
    assert faults
    for step in faults:
        assert step["proven"], step
        # A gate that aborts ends the hold before the second look.
        assert step["proven_again"] or expected is Verdict.ABORTED, step
        assert step["targets"]
        for label in step["targets"]:
            assert re.search(r"container market-(web-blue|worker|cache|database) ", label), label
    assert all(check["during_ok"] + check["during_failed"] > 0 for check in result["checks"])


def _nothing_is_left(result: dict[str, Any], before: hosts.Snapshot, opened: Market) -> None:
    # The guardian and its helpers may still be ending.
    assert until(lambda: not _changes(result, before, hosts.snapshot(opened.daemon)), 10), (
        "\n".join(_changes(result, before, hosts.snapshot(opened.daemon)))
    )
    after = hosts.snapshot(opened.daemon)
    for what, lines in after.items():
        assert not what.startswith("rules of ") or not hosts.MARK.search("\n".join(lines))
    for name in _anew(hosts.changes(before, after, result["run"])):
        assert before[f"networks of {name}"] == after[f"networks of {name}"]
    assert opened.ask("/switch") == {"active": "blue"}
    assert until(lambda: opened.ask("/sales").get("unpriced") == 0, 10), opened.told()
    assert "columns: price\n" in opened.execute("web-green", "python3", "migrate.py", "--status")


def _anew(changed: list[str]) -> set[str]:
    """Who was started again."""
    return {line.partition(" of ")[2].partition(":")[0] for line in changed if "state of " in line}


def _changes(result: dict[str, Any], before: hosts.Snapshot, after: hosts.Snapshot) -> list[str]:
    changed = hosts.changes(before, after, result["run"])
    # Who was started again has another pid, other interfaces and other mounts, and who comes back
    # to a network another interface: the daemon made those, and its settings are compared.
    anew = _anew(changed)
    back = {line.partition(" of ")[2].partition(":")[0] for line in changed if "links of " in line}
    new = [rf"[\w ]+ of {name}: " for name in anew]
    new += [rf"(links|addresses|routes|qdiscs) of {name}: " for name in back]
    new += ["(links|mounts|qdiscs of the host): "] if anew | back else []
    return [line for line in changed if not re.match("|".join(new) or "nothing", line)]


def test_every_service_has_its_address_from_the_configured_subnet(opened: Market) -> None:
    subnet = opened.variables["MARKET_SUBNET"]
    network = opened.daemon.client.networks.get("market_market")
    assert network.attrs["IPAM"]["Config"] == [{"Subnet": subnet}]


def test_the_market_loses_no_order_whoever_is_killed(opened: Market) -> None:
    for service in ("worker", "cache", "database"):
        container = opened.daemon.client.containers.get(f"market-{service}")
        pid = container.attrs["State"]["Pid"]
        os.kill(pid, 9)
        assert until(lambda c=container, p=pid: c.reload() or c.attrs["State"]["Pid"] != p, 20)
        assert until(opened.is_well, 30), opened.told()


def test_the_walk_through_names_experiments_that_there_are() -> None:
    walked = re.findall(r"experiments/compose/([\w-]+\.yaml)", (HOME / "README.md").read_text())
    assert walked and set(walked) <= {file.name for file in FILES}


@every_file
def test_is_bounded_and_safe_on_a_laptop(file: Path) -> None:
    experiment = spec.load(file, environ={})
    assert experiment.blast_radius.max_targets == 1
    assert experiment.blast_radius.max_duration <= 120
    assert experiment.hypothesis
    fits = {"MARKET": "market", "MARKET_URL": "http://127.0.0.1:8480", "DOCKER": "docker"}
    assert all(variable.value == fits[variable.name] for variable in experiment.variables)
    # Beside another project it hurts its own containers only.
    named = re.findall(r"target: \{docker: \{(.+?)\}", file.read_text().replace("${MARKET}", "M"))
    assert named and all(line.startswith('compose-project: "M", ') for line in named)
    for step in experiment.fault_steps():
        assert step.hold <= (20 if said(file, "Expect") == "aborted" else 6)


def test_there_are_enough() -> None:
    assert len(FILES) >= 8
    assert {said(file, "Expect") for file in FILES} == {"held", "aborted", "deviated"}
