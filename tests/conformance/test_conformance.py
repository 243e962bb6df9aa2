"""Every fault of the registry on every kind of target that has what it needs.

A new fault is covered by being registered: its `examples` say how it is called.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from containers import NETEM_ONLY, left_out
from disks import MIB, small_disk
from specimens import SPECIMENS, specimens_of

from chaoskit import registry
from chaoskit.clock import until
from chaoskit.faults.kill import Kill
from chaoskit.faults.network import Network
from chaoskit.journal import State
from chaoskit.model.fault import Fault
from chaoskit.model.params import thaw
from chaoskit.model.verdict import Verdict
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Trial


def pairs() -> Iterator[Any]:
    for fault in registry.names("faults"):
        if fault.startswith(("broken-", "not-a", "does-not")):
            continue
        for kind, targets in registry.kinds_of(fault).items():
            for target in targets:
                for number, params in enumerate(kind.examples):
                    for name in specimens_of(target, fault):
                        yield pytest.param(fault, params, name, id=f"{fault}{number}-{name}")


def kind_of(pair: Any) -> type[Fault[Any]]:
    fault, _, target = pair.values
    return registry.fault(fault, target.partition(":")[0])


def has_a_way_back(pair: Any) -> bool:
    return kind_of(pair).way_back is not Kill.way_back or "restart" in pair.values[1]


def stands_for_others(pair: Any) -> bool:
    """Whether it is one of those that are tried many times."""
    fault, params, target = pair.values
    if target.startswith("docker"):
        return fault not in STANDS_IN and params == kind_of(pair).examples[0]
    if not issubclass(kind_of(pair), Network) or fault == "latency":
        return True
    return params.get("how") == "refuse" and target != "proxy:own"


STANDS_IN = {
    "restart": "kill",
    **dict.fromkeys(("memory", "disk-load", "open-files"), "cpu"),
    **dict.fromkeys(("loss", "bandwidth", "partition"), "drop-network"),
    **dict.fromkeys(NETEM_ONLY, "latency"),
}
"""What is made, looked at and unmade on a container by the code of another fault."""
ELSEWHERE = ("remove", "disconnect")
"""What is killed at its exact points in tests of its own: tests/docker/test_remove.py and
test_disconnect.py."""
EVERY = list(pairs())
LEFT_OUT = [p for p in EVERY if p.values[2].startswith("docker") and left_out(p.values[0])]
"""What this machine cannot do."""
PAIRS = [pair for pair in EVERY if pair not in LEFT_OUT]
WITH_A_WAY_BACK = [pair for pair in PAIRS if has_a_way_back(pair)]
LASTING = [pair for pair in WITH_A_WAY_BACK if not kind_of(pair).momentary]
MANY_TIMES = [pair for pair in WITH_A_WAY_BACK if stands_for_others(pair)]
"""For what takes many runs. All faults of links are made, looked at and unmade by one code: two
of them, with two cells and with the one cell that has no mark, stand for the others there."""
AT_EVERY_POINT = [pair for pair in MANY_TIMES if pair.values[0] not in ELSEWHERE]


def test_every_kind_of_target_has_a_specimen_and_every_fault_a_pair() -> None:
    assert set(registry.names("targets")) == {name.partition(":")[0] for name in SPECIMENS}
    tried = {(pair.values[0], pair.values[2].partition(":")[0]) for pair in EVERY}
    for fault in registry.built_in("faults"):
        for kind, targets in registry.kinds_of(fault).items():
            assert {(fault, target) for target in targets} <= tried, kind


@pytest.mark.parametrize(
    ("fault", "params", "target"), [pytest.param(*p.values, id=p.id) for p in LEFT_OUT]
)
def test_what_is_left_out_here_is_refused_with_the_reason(
    fault: str, params: Mapping[str, Any], target: str, tmp_path: Path
) -> None:
    specimen = SPECIMENS[target](tmp_path)
    try:
        result = Trial(fault, params, specimen).run()
    finally:
        specimen.close()
    assert result.verdict is Verdict.REFUSED and str(left_out(fault)) in result.reason


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    fault, params, target = request.param
    specimen = SPECIMENS[target](tmp_path)
    try:
        yield Trial(fault, params, specimen)
    finally:
        specimen.close()


def each(pairs: list[Any]) -> Any:
    return pytest.mark.parametrize(
        "trial", [pytest.param(p.values, id=p.id) for p in pairs], indirect=True
    )


@each(LASTING)
def test_the_effect_is_real(trial: Trial) -> None:
    conformance.effect_is_real(trial)


@each(WITH_A_WAY_BACK)
def test_undoing_twice_is_harmless(trial: Trial) -> None:
    conformance.undoing_twice_is_harmless(trial)


@each(MANY_TIMES)
@pytest.mark.parametrize("sent", [
    [signal.SIGTERM], [signal.SIGHUP], [signal.SIGQUIT], [signal.SIGINT],
    [signal.SIGINT] * 2, [signal.SIGINT] * 3, [signal.SIGSTOP], [signal.SIGKILL],
], ids=lambda sent: "+".join(number.name for number in sent))  # fmt: skip
def test_undone_however_the_runner_ends(trial: Trial, sent: list[signal.Signals]) -> None:
    conformance.undone_after(trial, sent)


@each(MANY_TIMES)
@pytest.mark.parametrize("killed", [False, True], ids=["lives", "killed"])
def test_undone_when_the_disk_of_its_journal_is_full(
    trial: Trial, tmp_path: Path, killed: bool
) -> None:
    with small_disk(tmp_path, 4 * MIB) as disk:
        trial.state = State(disk / "state")
        before = trial.snapshot()
        runner = trial.start(hold="60s")
        try:
            trial.wait_injected(runner)
            with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            if killed:
                runner.kill()
            assert runner.wait(30) == (-signal.SIGKILL if killed else 7)
        finally:
            runner.kill()
            runner.wait()
        trial.wait_settled()
        trial.must_be(before, "with the disk full")


MOVED = """\
import time

real = time.time
time.time = lambda: real() + float(open({!r}).read() or 0)
"""
"""Python starts by importing it: the wall clock of the runner and of the guardian."""


@each(MANY_TIMES)
@pytest.mark.parametrize("killed", [False, True], ids=["lives", "killed"])
def test_undone_when_the_clock_was_moved(
    trial: Trial, tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, site = tmp_path / "ahead", tmp_path / "site"
    ahead.write_text("0")
    site.mkdir()
    (site / "sitecustomize.py").write_text(MOVED.format(str(ahead)))
    monkeypatch.syspath_prepend(site)
    before = trial.snapshot()
    runner = trial.start(hold="60s" if killed else "3s")
    try:
        trial.wait_injected(runner)
        for seconds in (-4e7, 4e7):
            ahead.write_text(str(seconds))
            assert not until(lambda: runner.poll() is not None, 0.3), "the clock ended it"
        if killed:
            runner.kill()
        assert runner.wait(30) == (-signal.SIGKILL if killed else 0)
    finally:
        runner.kill()
        runner.wait()
    trial.wait_settled()
    expected = Verdict.ABORTED if killed else Verdict.HELD
    assert trial.latest().result().verdict is expected
    trial.must_be(before, "with the clock moved")


@each(LASTING)
def test_a_foreign_value_is_stuck_for_its_cell_alone(trial: Trial) -> None:
    conformance.a_foreign_value_is_stuck_for_its_cell_alone(trial)


@each(PAIRS)
def test_a_vanished_target_is_no_error(trial: Trial) -> None:
    conformance.a_vanished_target_is_no_error(trial)


@each(PAIRS)
def test_an_effect_that_never_came_is_inconclusive(trial: Trial) -> None:
    conformance.an_effect_that_never_came_is_inconclusive(trial)


@each(LASTING)
def test_an_effect_that_ends_early_is_inconclusive(trial: Trial) -> None:
    conformance.an_effect_that_ends_early_is_inconclusive(trial)


def dying(
    fault: str, params: Mapping[str, Any], target: str, folder: Path, half: int
) -> Iterator[tuple[Trial, str, str]]:
    """A trial of its own for every exact point: undone by the guardian at the even ones and by
    `recover` at the odd ones in one half, the other way round in the other.

    With a container each point costs twice as much: there each half has half of the points, and of
    those only that lie between the first change and the last undo. The others know nothing yet, or
    no more, of a fault.
    """

    def trial(name: str) -> Trial:
        (folder / name).mkdir()
        return Trial(fault, params, SPECIMENS[target](folder / name))

    first = trial("points")
    try:
        points = conformance.points(first)
    finally:
        first.specimen.close()
    assert len(points) > 20
    if target.startswith("docker"):
        last = max(n for n, point in enumerate(points) if point.startswith("after:undone:"))
        points = points[points.index("before:change:1") : last + 1][half::2]
        assert len(points) > 10
    for number, point in enumerate(points):
        at = trial(f"{number}")
        try:
            yield at, point, "guardian" if number % 2 == half else "recover"
        finally:
            at.specimen.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize(("fault", "params", "target"), AT_EVERY_POINT)
def test_undone_after_death_at_every_exact_point(
    fault: str, params: Mapping[str, Any], target: str, tmp_path: Path, half: int
) -> None:
    for trial, point, by in dying(fault, params, target, tmp_path, half):
        conformance.undone_after_death_at(trial, point, by)


BROKEN = {
    "broken-does-nothing": conformance.effect_is_real,
    "broken-forgets-half": conformance.undoing_twice_is_harmless,
    "broken-toggles": conformance.undoing_twice_is_harmless,
    "broken-overwrites": conformance.a_foreign_value_is_stuck_for_its_cell_alone,
    "broken-chokes": conformance.a_vanished_target_is_no_error,
    "broken-boasts": conformance.an_effect_that_never_came_is_inconclusive,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_fault_is_caught(fault: str, tmp_path: Path) -> None:
    trial = Trial(fault, {"value": "broken"}, SPECIMENS["cells"](tmp_path))
    with pytest.raises(AssertionError):
        BROKEN[fault](trial)


@pytest.mark.parametrize("fault", ["broken-in-one-piece", "broken-hasty", "broken-forgetful"])
def test_a_broken_fault_is_caught_by_an_exact_point(fault: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        for half in (0, 1):
            (tmp_path / str(half)).mkdir()
            at = tmp_path / str(half)
            for trial, point, by in dying(fault, {"value": "broken"}, "cells", at, half):
                conformance.undone_after_death_at(trial, point, by)


def test_parameters_survive_the_journal() -> None:
    from chaoskit.model.params import freeze
    from chaoskit.model.units import Share

    for fault in registry.names("faults"):
        if fault.startswith(("not-a", "does-not", "broken")):
            continue
        kind = registry.fault(fault)
        for params in kind.examples:
            if all(isinstance(v, int) for v in params.values()):
                made = kind(**params)
                assert thaw(kind, freeze(made)) == made
    from chaoskit.faults.cpu import Cpu

    assert thaw(Cpu, freeze(Cpu(Share(0.5), pin=(0, 1)))) == Cpu(Share(0.5), pin=(0, 1))
