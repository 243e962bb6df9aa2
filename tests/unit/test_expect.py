"""What is expected of a reading: what holds, what does not, and what no value can satisfy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.model.expect import MATCHERS, Condition, Expectation
from chaoskit.model.units import Json, Unit


def holds(matcher: str, value: Json, found: Json) -> bool:
    return Condition("r", Unit.NUMBER, matcher, value).holds(found)


@pytest.mark.parametrize(
    ("matcher", "value", "found", "expected"),
    [
        ("equals", 200, 200, True),
        ("equals", 200, 200.0, True),
        ("equals", 200, "200", True),
        ("equals", 200, " 200\n", True),
        ("equals", 200, "2OO", False),
        ("equals", 1, True, False),
        ("equals", True, 1, False),
        ("equals", True, True, True),
        ("equals", "ok", "ok\n", True),
        ("equals", "ok", "OK", False),
        ("equals", None, None, True),
        ("equals", 0, None, False),
        ("equals", [1, "a"], [1, "a"], True),
        ("equals", [1], [True], False),
        ("equals", [1], [1, 2], False),
        ("equals", {"a": [1]}, {"a": [1.0]}, True),
        ("equals", {"a": 1}, {"a": True}, False),
        ("equals", {"a": 1}, {"a": 1, "b": 2}, False),
        ("below", 5, 4.999, True),
        ("below", 5, 5, False),
        ("below", 5, "4", True),
        ("below", 5, "four", False),
        ("below", 5, -math.inf, False),
        ("below", 5, True, False),
        ("above", 5, 5.001, True),
        ("above", 5, 5, False),
        ("above", 5, math.inf, False),
        ("above", 5, "inf", False),
        ("above", 5, 10**400, False),
        ("above", 5, [6], False),
        ("between", [1, 3], 1, True),
        ("between", [1, 3], 3, True),
        ("between", [1, 3], 3.01, False),
        ("between", [1, 3], None, False),
        ("matches", r"^2\d\d$", 204, True),
        ("matches", r"^2\d\d$", "500", False),
        ("matches", "rue", True, True),
        ("matches", "x", None, False),
        ("matches", "x", ["x"], False),
        ("contains", "js", "json", True),
        ("contains", "xml", "json", False),
        ("contains", 5, "a5b", True),
        ("contains", True, "it is true", True),
        ("contains", 5, [1, 5], True),
        ("contains", 5, [True], False),
        ("contains", "x", {"x": 1}, False),
        ("contains", "x", None, False),
    ],
)
def test_a_condition(matcher: str, value: Json, found: Json, expected: bool) -> None:
    assert holds(matcher, value, found) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(MATCHERS), json_values, st.integers() | st.floats(allow_nan=False))
def test_no_reading_makes_it_fail(matcher: str, found: Any, number: float) -> None:
    value: Any = [number, number] if matcher == "between" else number
    value = "a" if matcher == "matches" else value
    condition = Condition("r", Unit.TEXT, matcher, value)
    if condition.holds(found) and matcher in ("below", "above", "between"):
        assert math.isfinite(float(found))
    assert condition.reading in str(condition)
    Expectation((condition,)).failures({"r": found})


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_below_above_and_equals_exclude_each_other(found: float, value: float) -> None:
    assert sum(holds(m, value, found) for m in ("below", "above", "equals")) == 1


@pytest.mark.parametrize("matcher", MATCHERS)
def test_no_data_is_never_good_news(matcher: str) -> None:
    value: Json = [0, 1] if matcher == "between" else "." if matcher == "matches" else 1
    for found in (None, math.nan):
        assert not holds(matcher, value, found) or matcher == "matches"
    assert not holds(matcher, value, None)


def test_failures_say_what_was_found_in_units() -> None:
    expectation = Expectation(
        (
            Condition("latency", Unit.DURATION, "below", 0.5),
            Condition("rss", Unit.SIZE, "between", [2**20, 2**21]),
            Condition("status", Unit.NUMBER, "equals", 200),
            Condition("body", Unit.TEXT, "contains", "ok"),
        )
    )
    reading: dict[str, Json] = {"latency": 0.75, "rss": 2**22, "status": 200}
    assert expectation.failures(reading) == [
        "latency is 750ms, expected below 500ms",
        "rss is 4MiB, expected between 1MiB and 2MiB",
        "body is nothing, expected contains 'ok'",
    ]
    assert expectation.failures({"latency": 0.1, "rss": 2**20, "status": 200, "body": "ok"}) == []
