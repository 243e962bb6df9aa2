"""Every experiment of the catalogue comes to the verdict that it states, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from shops import HOME, Shop

from chaoskit import registry, spec
from chaoskit.clock import until
from chaoskit.model.experiment import Experiment, FaultStep, HttpAction, Parallel, RunAction, Step
from chaoskit.model.verdict import Verdict
from chaoskit.targets.burdens import leftover_helpers
from chaoskit.targets.proxy_process import leftover_proxies

CATALOGUE = Path(__file__).parents[2] / "experiments"
FILES = [
    file
    for folder in (".", "network", "databases")
    for file in sorted(CATALOGUE.glob(f"{folder}/*.yaml"))
]
ON_CONTAINERS = sorted(CATALOGUE.glob("compose/*.yaml"))
"""What tests/docker runs and looks at."""
SHOP_FILES = [file for file in FILES if file.parent.name != "databases"]
CHAOSKIT = str(Path(sys.executable).parent / "chaoskit")

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
every_file_on_the_shop = pytest.mark.parametrize("file", SHOP_FILES, ids=lambda file: file.stem)


def said(file: Path, word: str) -> str:
    """What the comment `# Word: ...` in the first lines says."""
    found = re.findall(rf"^# {word}: (.+)$", file.read_text(), re.MULTILINE)
    assert len(found) == 1, f"{file.name} must say `# {word}: ...` once"
    return str(found[0])


def name(file: Path) -> str:
    """As the catalogue's README calls it."""
    return str(file.relative_to(CATALOGUE))


def load(file: Path) -> Experiment:
    return spec.load(file, environ={})


def steps(experiment: Experiment) -> Iterator[Step]:
    for step in experiment.method:
        yield step
        if isinstance(step, Parallel):
            yield from step.steps


@every_file_on_the_shop
def test_comes_to_the_verdict_it_states_and_leaves_nothing(
    file: Path, shop: Shop, tmp_path: Path
) -> None:
    expected = Verdict(said(file, "Expect"))
    done = subprocess.run(
        [CHAOSKIT, "--state", str(tmp_path / "state"), "run", str(file), "--json", "--seed", "1"],
        env=os.environ | shop.variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    told = f"{result['verdict']}: {result['reason']}\n{done.stderr}\n{shop.told()}"
    assert result["verdict"] == expected.value, told
    assert done.returncode == result["exit"] == expected.exit_code
    assert result["left"] == []
    _everything_was_proven(result, expected)
    _only_this_shop_was_hurt(result, shop)
    _nothing_is_left(result, shop)


def _everything_was_proven(result: dict[str, Any], expected: Verdict) -> None:
    faults = [step for step in result["steps"] if step["kind"] == "fault"]
    assert faults
    for step in faults:
        assert step["proven"], step
        # A gate that aborts ends the hold before the second look.
        assert step["proven_again"] or expected is Verdict.ABORTED, step
    assert all(check["during_ok"] + check["during_failed"] > 0 for check in result["checks"])


def _only_this_shop_was_hurt(result: dict[str, Any], shop: Shop) -> None:
    labels = [label for step in result["steps"] for label in step["targets"]]
    assert labels
    links = [label for label in labels if label.startswith("link ")]
    ports = range(shop.port, shop.port + 4)
    leads = {f"link {link} -> 127.0.0.1:{port}" for link in shop.links for port in ports}
    assert set(links) <= leads
    pids = {int(re.findall(r"process (\d+)", one)[0]) for one in labels if one not in links}
    log = "".join(path.read_text() for path in shop.data.glob("logs/*.log"))
    started = {int(pid) for pid in re.findall(r"started as (\d+)", log)}
    assert pids <= started


def _nothing_is_left(result: dict[str, Any], shop: Shop) -> None:
    run = result["run"]
    assert [mark for mark, _ in leftover_helpers() + leftover_proxies() if run in mark] == []
    assert list(shop.data.rglob(".chaoskit-*")) == []
    assert not (shop.data / "closed").exists()
    assert list((shop.data / "settings").iterdir()) == []
    for pid in shop.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nState:\tT" not in status
    assert until(shop.is_open, 20), shop.told()
    # The supervisor and its seven; what an action started has been taken back.
    assert until(lambda: len(shop.pids()) == 8, 10), shop.pids()
    assert until(lambda: "lost 0, twice 0" in shop.audit(), 10), shop.audit()


def test_the_readme_has_a_true_line_on_each() -> None:
    rows = re.findall(
        r"^\| \[([^\]]+)\]\(([^)]+)\) \| (.+?) \| (\w+) \|$",
        (CATALOGUE / "README.md").read_text(),
        re.MULTILINE,
    )
    assert all(called == link for called, link, _, _ in rows)
    every = FILES + ON_CONTAINERS
    assert {called: (teaches, expected) for called, _, teaches, expected in rows} == {
        name(file): (said(file, "Teaches"), said(file, "Expect")) for file in every
    }
    assert [called for called, *_ in rows] == [name(file) for file in every]


def test_there_are_enough_and_they_differ() -> None:
    assert len(FILES) >= 10
    every = FILES + ON_CONTAINERS
    experiments = [load(file) for file in every]
    assert len({experiment.title for experiment in experiments}) == len(every)
    assert len({said(file, "Teaches") for file in every}) == len(every)
    assert all(experiment.hypothesis for experiment in experiments)
    assert {said(file, "Expect") for file in FILES} == {"held", "aborted", "deviated"}


def test_together_they_show_everything_there_is() -> None:
    experiments = [load(file) for file in FILES + ON_CONTAINERS]
    every = [step for experiment in experiments for step in steps(experiment)]
    faults = [step for step in every if isinstance(step, FaultStep)]
    # These take what not every kernel or image has, and would be refused on such a machine.
    built_in = set(registry._BUILT_IN["faults"]) - {"reorder", "duplicate", "clock"}
    assert {step.fault.name for step in faults} == built_in
    probes = {check.probe.kind for experiment in experiments for check in experiment.steady_state}
    assert probes == set(registry._BUILT_IN["probes"])
    assert {type(step) for step in every} == set(Step.__args__)
    assert any(isinstance(step, RunAction) and step.undo for step in every)
    assert any(isinstance(step, HttpAction) and step.undo for step in every)
    assert any(step.stages for step in faults)
    assert any(step.pick.fraction for step in faults)
    assert any(getattr(step.fault, "restart", None) for step in faults)
    assert any(getattr(step.fault, "replaced_within", None) for step in faults)
    assert any(experiment.gates == () for experiment in experiments)
    assert any(experiment.gates is None for experiment in experiments)
    assert any(experiment.gates for experiment in experiments)
    assert any(experiment.blast_radius.min_healthy for experiment in experiments)
    assert any(experiment.blast_radius.max_percent for experiment in experiments)


@every_file
def test_is_bounded_and_safe_on_a_laptop(file: Path) -> None:
    experiment = load(file)
    limits = experiment.blast_radius
    assert limits.max_targets is not None and limits.max_targets <= 2
    assert limits.max_duration <= 120
    # Beside another shop it hurts and counts its own processes only.
    named = re.findall(r"cmdline: (.+)", file.read_text())
    assert all(" --shop ${SHOP} " in line for line in named)
    # A link is of the run's own proxy, and where it listens can be chosen.
    links = re.findall(r"proxy: \{(.+?)\}\}", file.read_text())
    assert all(re.match(r'listen: "\$\{\w+_LINK(_2)?\}", upstream: ', line) for line in links)
    assert named or links
    for step in experiment.fault_steps():
        # Only what is meant to be cut short by a gate may hold for long.
        assert step.hold <= (20 if said(file, "Expect") == "aborted" else 5)
        size = getattr(step.fault, "size", 0)
        assert isinstance(size, int | float) and size <= 64 * 1024 * 1024
        assert getattr(step.fault, "load", 0) in (0, 0.5, 1)


@every_file_on_the_shop
def test_its_defaults_fit_the_shop_as_it_opens(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOME))
    common = import_module("common")
    fits = {
        "SHOP": common.SHOP,
        "SHOP_URL": f"http://{common.HOST}:{common.PORT}",
        "SHOP_CART": f"{common.HOST}:{common.PORT + common.DIRECT['cart-1']}",
        "SHOP_CART_2": f"{common.HOST}:{common.PORT + common.DIRECT['cart-2']}",
        "SHOP_LEDGER": f"{common.HOST}:{common.PORT + common.DIRECT['ledger']}",
        "SHOP_LINK": "127.0.0.1:28470",
        "SHOP_LINK_2": "127.0.0.1:28471",
        "SHOP_PORT": str(common.PORT),
        "SHOP_DATA": common.DATA,
        "SHOP_HOME": str(HOME.relative_to(CATALOGUE.parent)),
        "PYTHON": "python3",
    }
    for variable in load(file).variables:
        assert variable.value == fits[variable.name]
