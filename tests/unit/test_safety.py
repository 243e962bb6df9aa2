"""The blast radius, claims and the halt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.faults.pause import Pause
from chaoskit.journal import Journal, State
from chaoskit.model.binding import Binding
from chaoskit.model.experiment import BlastRadius, FaultStep, Pick, Position
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.safety import claims, halt
from chaoskit.safety.blast import Choice, choose


@dataclass(frozen=True)
class Thing(Target):
    name: str
    binding: Binding
    guarded: bool = False
    parts: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    kind: ClassVar[str] = "thing"

    @property
    def key(self) -> str:
        return self.name

    @property
    def label(self) -> str:
        return f"thing {self.name}"

    def claim(self) -> Claim:
        return Claim(frozenset({self.name}) | self.parts, self.inside)

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return "it is guarded" if self.guarded else None

    def ref(self) -> Json:
        return self.name

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> Thing:
        return cls(str(ref), binding)


@dataclass(frozen=True)
class Things(Selector):
    names: tuple[str, ...]
    guarded: tuple[str, ...] = ()
    kind = "thing"
    target = Thing

    def find(self, binding: Binding) -> list[Target]:
        return [Thing(name, binding, name in self.guarded) for name in self.names]

    def describe(self) -> str:
        return "things"


NO_LIMITS = BlastRadius()


def pick(
    names: int,
    pick: Pick,
    limits: BlastRadius = NO_LIMITS,
    seed: int = 1,
    *,
    held: Sequence[str] = (),
    hurt: Sequence[str] = (),
    prefer: Sequence[str] = (),
    guarded: Sequence[str] = (),
) -> Choice:
    selector = Things(tuple(f"t{n}" for n in range(names)), tuple(guarded))
    step = FaultStep(Pause(), selector, pick, 1.0, Position("f", 1, 1))
    return choose(
        step,
        pick,
        Binding("run", "1", Path("/nowhere")),
        limits,
        seed,
        held=[claims.Held("other", name, Claim(frozenset({name}))) for name in held],
        hurt={key: frozenset({key}) for key in hurt},
        prefer=prefer,
    )


def names(choice: Choice) -> list[str]:
    return [target.key for target in choice.targets]


def test_a_selector_that_matches_nothing_is_refused() -> None:
    assert pick(0, Pick(every=True)).refusals == ("things matches nothing",)


def test_what_is_protected_is_never_chosen_and_never_counted() -> None:
    choice = pick(3, Pick(every=True), guarded=["t1"])
    assert names(choice) == ["t0", "t2"] and choice.matched == 2
    assert choice.passed_over == ("thing t1: it is guarded",)
    assert "only what is protected" in pick(1, Pick(count=1), guarded=["t0"]).refusals[0]


@pytest.mark.parametrize(
    ("matches", "fraction", "expected"),
    [(10, 0.25, 2), (3, 0.5, 1), (3, 0.1, 1), (1, 0.5, 1), (10, 1.0, 10), (7, 0.99, 6)],
)
def test_percentages_round_down_but_never_below_one(
    matches: int, fraction: float, expected: int
) -> None:
    assert len(pick(matches, Pick(fraction=fraction)).targets) == expected


def test_one_is_too_many_where_max_percent_says_so() -> None:
    choice = pick(3, Pick(fraction=0.1), BlastRadius(max_percent=0.1))
    assert "1 of 3 would be hurt (33%), max-percent is 10%" in choice.refusals[0]
    assert not pick(10, Pick(fraction=0.1), BlastRadius(max_percent=0.1)).refusals


def test_limits() -> None:
    assert "max-targets is 2" in pick(5, Pick(every=True), BlastRadius(max_targets=2)).refusals[0]
    assert not pick(5, Pick(count=2), BlastRadius(max_targets=2)).refusals
    assert "min-healthy is 4" in pick(5, Pick(count=2), BlastRadius(min_healthy=4)).refusals[0]
    assert not pick(5, Pick(count=1), BlastRadius(min_healthy=4)).refusals


def test_what_other_runs_hold_is_left_alone_and_counts_as_hurt() -> None:
    for seed in range(20):
        assert names(pick(2, Pick(count=1), seed=seed, held=["t0"])) == ["t1"]
    choice = pick(2, Pick(count=2), held=["t0"])
    assert choice.targets == () and "held by run other" in choice.refusals[0]
    for limits in (BlastRadius(max_percent=0.5), BlastRadius(min_healthy=3)):
        assert not pick(4, Pick(count=1), limits, held=[]).refusals
        assert pick(4, Pick(count=1), limits, held=["t0", "t1"]).refusals


def test_a_match_in_the_tree_of_another_is_hurt_with_it() -> None:
    """A master and its four workers all match: whoever picks the master hurts all five."""

    @dataclass(frozen=True)
    class Workers(Things):
        def find(self, binding: Binding) -> list[Target]:
            workers = frozenset(f"w{n}" for n in range(4))
            return [Thing("master", binding, parts=workers), *(Thing(w, binding) for w in workers)]

    step = FaultStep(Pause(), Workers(()), Pick(count=1), 1.0, Position("f", 1, 1))
    refused = 0
    for limits in (
        BlastRadius(max_targets=1), BlastRadius(max_percent=0.25), BlastRadius(min_healthy=4)
    ):  # fmt: skip
        for seed in range(30):
            choice = choose(step, step.pick, Binding("run", "1", Path("/nowhere")), limits, seed)
            assert bool(choice.refusals) == (names(choice) == ["master"])
            refused += bool(choice.refusals)
    assert refused > 3


def test_what_was_ended_for_good_counts_until_it_has_a_successor() -> None:
    limits, one = BlastRadius(max_percent=0.4), Pick(count=1)
    for lost, fine in ((0, True), (1, True), (2, False)):
        ended = [f"dead {n}" for n in range(lost)]
        choice = stage("abcd", one, [], limits, ended=ended, most=4 + lost)
        assert bool(choice.refusals) != fine
        assert not stage("abcd", one, [], limits, ended=ended, most=4).refusals
    assert stage("abcd", Pick(every=True), [], gone={"a"}).refusals


def stage(
    names_: Sequence[str],
    pick: Pick,
    done: Sequence[str],
    limits: BlastRadius = NO_LIMITS,
    **more: Any,
) -> Choice:
    selector = Things(tuple(names_), tuple(more.pop("guarded", ())))
    step = FaultStep(Pause(), selector, pick, 1.0, Position("f", 1, 1))
    binding = Binding("run", "1", Path("/nowhere"))
    return choose(step, pick, binding, limits, more.pop("seed", 1), done=done, **more)


def test_what_is_picked_is_the_sum_of_the_stages() -> None:
    """Whoever was hurt in a stage before counts, whatever has become of it."""
    for seed in range(20):
        ended = stage("bcd", Pick(count=2), ["a"], most=4, seed=seed)
        assert len(ended.targets) == 1 and ended.spent == 1
        guarded = stage("abcd", Pick(count=2), ["a"], most=4, seed=seed, guarded=["a"])
        assert len(guarded.targets) == 1 and guarded.spent == 1
        there = stage("abcd", Pick(count=2), ["a"], most=4, seed=seed)
        assert len(there.targets) == 2 and "a" in names(there) and there.spent == 0
    assert len(stage("bcd", Pick(fraction=0.5), ["a"], most=4).targets) == 1
    assert len(stage("bcde", Pick(fraction=0.5), ["a"], most=4).targets) == 1, "it was replaced"
    assert stage("", Pick(every=True), ["a"], most=1) == Choice(0, (), spent=1)
    half = BlastRadius(max_percent=0.5)
    assert not stage("bcd", Pick(count=2), ["a"], half, most=4).refusals
    assert stage("bcd", Pick(count=3), ["a"], half, most=4).refusals, "three of four"


def test_those_of_the_stages_before_and_then_those_of_the_plan_come_first() -> None:
    for seed in range(20):
        assert names(stage("abcd", Pick(count=2), [], prefer=["d", "b"], seed=seed)) == ["b", "d"]
        assert names(stage("abcd", Pick(count=1), [], prefer=["d", "b"], seed=seed)) == ["d"]
        assert names(stage("abcd", Pick(count=2), ["d"], prefer=["b", "d"], seed=seed)) == [
            "b",
            "d",
        ]
        assert names(stage("abcd", Pick(count=1), ["d"], prefer=["b", "d"], seed=seed)) == ["d"]


def test_a_process_is_hurt_with_its_container() -> None:
    @dataclass(frozen=True)
    class Inside(Things):
        def find(self, binding: Binding) -> list[Target]:
            return [Thing("p", binding, inside=frozenset({"box"})), Thing("q", binding)]

    step = FaultStep(Pause(), Inside(()), Pick(count=1), 1.0, Position("f", 1, 1))
    for limits in (BlastRadius(max_percent=0.5), BlastRadius(min_healthy=1)):
        for seed in range(10):
            choice = choose(
                step,
                step.pick,
                Binding("run", "1", Path("/nowhere")),
                limits,
                seed,
                hurt={"box": frozenset({"box"})},
            )
            assert bool(choice.refusals) == (names(choice) == ["q"])


def test_what_another_run_has_ended_counts_until_it_has_a_successor() -> None:
    mark = claims.mark_of("things")
    dead = [claims.Held("other", n, Claim(frozenset({n})), mark, 4) for n in ("x", "y")]
    half = BlastRadius(max_percent=0.5)
    assert "3 of 4 would be hurt" in stage("ab", Pick(count=1), [], half, held=dead).refusals[0]
    assert not stage("abcd", Pick(count=1), [], half, held=dead).refusals
    others = [replace(one, of=claims.mark_of("other things")) for one in dead]
    assert not stage("ab", Pick(count=1), [], half, held=others).refusals


def test_what_this_run_hurts_already_counts_once() -> None:
    limits = BlastRadius(max_targets=2)
    assert pick(4, Pick(count=1), limits, hurt=["x", "y"]).refusals
    assert not pick(1, Pick(count=1), limits, hurt=["t0", "y"]).refusals


@given(
    matches=st.integers(1, 40),
    chosen=st.one_of(
        st.builds(Pick, count=st.integers(1, 50)),
        st.builds(Pick, fraction=st.floats(0.01, 1.0)),
        st.just(Pick(every=True)),
    ),
    seed=st.integers(0, 2**32),
    held=st.sets(st.integers(0, 39)),
    hurt=st.sets(st.integers(0, 60)),
    most=st.none() | st.integers(0, 40),
    percent=st.none() | st.floats(0, 1),
    healthy=st.none() | st.integers(0, 40),
)
def test_nothing_outside_the_blast_radius_is_ever_chosen(
    matches: int,
    chosen: Pick,
    seed: int,
    held: set[int],
    hurt: set[int],
    most: int | None,
    percent: float | None,
    healthy: int | None,
) -> None:
    limits = BlastRadius(max_targets=most, max_percent=percent, min_healthy=healthy)
    choice = pick(
        matches,
        chosen,
        limits,
        seed,
        held=[f"t{n}" for n in held],
        hurt=[f"t{n}" for n in hurt],
    )
    if choice.refusals:
        return
    here = set(names(choice))
    known = {f"t{n}" for n in range(matches)}
    assert here and here <= known and not here & {f"t{n}" for n in held}
    assert len(here) == len(choice.targets)
    all_hurt = (here | {f"t{n}" for n in held | hurt}) & known
    assert most is None or len(here | {f"t{n}" for n in hurt}) <= most
    assert percent is None or len(all_hurt) <= percent * matches + 1e-6
    assert healthy is None or matches - len(all_hurt) >= healthy


def test_the_seed_decides_and_steps_do_not_mirror_each_other() -> None:
    assert names(pick(50, Pick(count=5), seed=7)) == names(pick(50, Pick(count=5), seed=7))
    assert len({tuple(names(pick(50, Pick(count=5), seed=s))) for s in range(10)}) > 5


def test_the_preferred_are_taken_first() -> None:
    assert names(pick(50, Pick(count=2), prefer=["t40", "t3", "gone"])) == ["t3", "t40"]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    yield State(tmp_path / "state")


def test_claims_of_runs_that_are_not_clean_count(state: State) -> None:
    folder, lock = state.new_run()
    journal = Journal(folder.path)
    journal.append("claim", label="thing", keys=["a", "b"], within=["c"])
    journal.append("change", cell=1)
    journal.close()
    assert claims.others(state, own=folder.id) == []
    for _ in ("alive", "dead"):
        (held,) = claims.others(state, own="me")
        assert held.run == folder.id
        lock.drop()
    assert claims.holder(Claim(frozenset({"b"})), [held]) is held
    assert claims.holder(Claim(frozenset({"z"}), frozenset({"a"})), [held]) is held
    assert claims.holder(Claim(frozenset({"c"})), [held]) is held
    assert claims.holder(Claim(frozenset({"z"}), frozenset({"c"})), [held]) is None
    folder.settled()
    assert claims.others(state, own="me") == []


def test_the_cord(state: State) -> None:
    assert halt.current(state) is None and halt.release(state) is None
    pulled = halt.pull(state, 'customers "complain"\n')
    assert halt.current(state) == pulled and "complain" in str(pulled)
    assert halt.pull(state, "another").reason == pulled.reason
    assert halt.release(state) == pulled
    assert halt.current(state) is None
    assert list(state.path.glob("halt*")) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reason": 1}', json.dumps({"a": 1})])
def test_a_halt_that_cannot_be_read_halts_all_the_same(state: State, text: str) -> None:
    state.prepare()
    halt.halt_file(state).write_text(text)
    assert halt.current(state) is not None
    halt.release(state)
    assert halt.current(state) is None
