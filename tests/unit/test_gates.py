"""The default gate: N failures in a row, and no data is a failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.gates.consecutive import Consecutive
from chaoskit.model.gate import Sample, Sight
from chaoskit.model.verdict import Verdict, worst


def fed(consecutive: int, sights: list[Sight]) -> list[bool]:
    gate = Consecutive(consecutive)
    return [gate.feed(Sample("c", 0.0, sight, detail="bad")).abort for sight in sights]


@pytest.mark.parametrize("bad", [Sight.FAILED, Sight.UNREAD])
def test_it_fires_at_the_nth_failure_and_not_before(bad: Sight) -> None:
    assert fed(3, [bad, bad, Sight.OK, bad, bad, bad]) == [False] * 5 + [True]
    assert fed(1, [Sight.OK, bad]) == [False, True]


@given(st.integers(1, 6), st.lists(st.sampled_from(Sight), max_size=40))
def test_it_fires_exactly_when_the_last_n_all_failed(n: int, sights: list[Sight]) -> None:
    for at, abort in enumerate(fed(n, sights)):
        last = sights[max(0, at + 1 - n) : at + 1]
        assert abort == (len(last) == n and Sight.OK not in last)


def test_the_gate_says_what_it_saw() -> None:
    gate = Consecutive(2)
    assert gate.feed(Sample("door", 0.0, Sight.FAILED, detail="shut")).text == (
        "1 of 2 failures in a row"
    )
    assert gate.feed(Sample("door", 0.0, Sight.FAILED, detail="shut")).text == (
        "door: shut (2 times in a row)"
    )


def test_the_worst_verdict_counts() -> None:
    order = ["stuck", "failed", "input", "aborted", "deviated", "inconclusive", "refused", "held"]
    for index, word in enumerate(order):
        assert worst(Verdict(w) for w in reversed(order[index:])) is Verdict(word)
    assert worst([]) is Verdict.HELD
    codes = {v.value: v.exit_code for v in Verdict}
    assert codes == {"held": 0, "deviated": 1, "input": 2, "refused": 3, "aborted": 4, "stuck": 5,
                     "inconclusive": 6, "failed": 7}  # fmt: skip
