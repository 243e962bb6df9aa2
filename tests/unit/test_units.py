"""Quantities: read, shown, and read again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.model.units import (
    PARSERS,
    Unit,
    parse_duration,
    parse_percent,
    parse_rate,
    parse_size,
    show,
    show_duration,
    show_percent,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("1d2h3m4s5ms6us", 93784.005006),
        ("0s", 0.0),
        ("250us", 0.00025),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("64MiB", 64 * 2**20), ("10MB", 10_000_000), ("1.5 KiB", 1536), ("2TiB", 2**41)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_rate(text + "/s") == size


def test_percentages() -> None:
    assert parse_percent("1%") == 0.01
    assert parse_percent("99.9 %") == pytest.approx(0.999)
    assert parse_percent("150%") == 1.5


BAD = {
    Unit.DURATION: [
        "",
        "5",
        "s",
        "1s1m",
        "1s1s",
        "-1s",
        "1 s",
        "1S",
        "1e3s",
        "٣s",
        "1s\n",
        "9" * 400 + "s",
    ],
    Unit.SIZE: [
        "",
        "5",
        "MiB",
        "5M",
        "5mib",
        "-5MiB",
        "5MiB ",
        "9" * 400 + "B",
        "5  MiB",
        "5MiB/s",
    ],
    Unit.PERCENT: ["", "5", "%", "-5%", "5%%", "nan%", "9" * 400 + "%"],
    Unit.RATE: ["", "5", "5MiB", "5/s", "5MiB/m", "5MiB/s/s"],
}


@pytest.mark.parametrize(("unit", "text"), [(u, t) for u, texts in BAD.items() for t in texts])
def test_what_is_no_quantity(unit: Unit, text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        PARSERS[unit](text)


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in PARSERS.values():
        try:
            assert math.isfinite(parse(text))
        except ValueError as error:
            assert "expected" in str(error)


@given(st.floats(0, 1e7))
def test_a_shown_duration_reads_as_nearly_the_same(seconds: float) -> None:
    again = parse_duration(show_duration(seconds))
    assert again == pytest.approx(seconds, rel=0.04, abs=0.000_001)
    assert parse_duration(show_duration(again)) == pytest.approx(again, rel=0.04)


@given(st.integers(0, 2**50))
def test_a_shown_size_reads_as_nearly_the_same(size: int) -> None:
    assert parse_size(show_size(size)) == pytest.approx(size, rel=0.05)
    assert parse_rate(show(float(size), Unit.RATE)) == pytest.approx(size, rel=0.05)


@given(st.integers(0, 10_000))
def test_a_shown_percentage_reads_as_the_same(hundredths: int) -> None:
    fraction = hundredths / 10_000
    assert parse_percent(show_percent(fraction)) == pytest.approx(fraction)


def test_people_read_units() -> None:
    assert [show_duration(s) for s in (0, 0.0005, 0.25, 2.5, 59.96, 90, 3661, -2)] == [
        "0s",
        "500us",
        "250ms",
        "2.5s",
        "1m",
        "1m30s",
        "1h1m1s",
        "-2s",
    ]
    assert [show_size(s) for s in (640, 1536, 2**20, 3 * 2**40)] == [
        "640B",
        "1.5KiB",
        "1MiB",
        "3TiB",
    ]
    assert show(0.01, Unit.PERCENT) == "1%"
    assert show("a  b\nc", Unit.TEXT) == "'a b c'"
    assert len(show("x" * 200, Unit.TEXT)) == 82
    assert [show(v, Unit.NUMBER) for v in (None, True, 3, 0.1234567)] == [
        "nothing",
        "true",
        "3",
        "0.123457",
    ]


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans()))
def test_anything_can_be_shown(value: float | int | str | bool | None) -> None:
    for unit in Unit:
        assert "\n" not in show(value, unit)
