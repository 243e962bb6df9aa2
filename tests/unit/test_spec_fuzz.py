"""Whatever the bytes are: an experiment or InputError, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoskit import spec
from chaoskit.errors import InputError, Problem
from chaoskit.model.experiment import Experiment

GOOD = """\
chaoskit: 1
title: T
variables: {A: 1, S: {secret: true}}
steady-state:
  - {name: c, process: {name: w}, expect: {count: {above: 0}, rss: {below: 10MiB}, within: 1s}}
  - {name: d, http: {url: "http://h"}, expect: {json: {"$.a": 1}, status: 200}}
method:
  - {fault: pause, target: {process: {name: w}, pick: 50%}, for: 10s}
  - {run: [a, b], env: {X: "${A}"}, undo: c}
  - {http: {url: "http://h"}, undo: {http: {url: "http://h"}}}
  - parallel: [{wait: 1s}]
gates: [{check: c, every: 1s}]
blast-radius: {max-percent: 50%}
verify: [{check: d, within: 5s}]
"""

either = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: not every machine has the one in C."""
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    return str(request.param)


def attempt(text: str | bytes) -> Experiment | None:
    try:
        return spec.load_text(text, "f.yaml", environ={"S": "geheim"})
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert isinstance(problem, Problem)
            assert problem.line >= 1 and problem.column >= 1
            assert "\n" not in str(problem)
        return None


def test_both_parsers_read_the_same(parser: str) -> None:
    experiment = attempt(GOOD)
    assert experiment is not None
    assert str(experiment.method[3].where) == "f.yaml:11:5"


@either
@given(st.binary(max_size=200))
def test_any_bytes(parser: str, data: bytes) -> None:
    attempt(data)


@either
@given(st.text("abc:-[]{}&*!|>'\"%@#?,<~ \n\t\r0.$é\u2028\0", max_size=60))
def test_any_punctuation(parser: str, text: str) -> None:
    attempt(text)
    attempt("title: " + text)


@either
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 12), st.text(max_size=6))
def test_any_damage(parser: str, start: int, length: int, put: str) -> None:
    attempt(GOOD[:start] + put + GOOD[start + length :])


words = st.sampled_from(sorted(set(re.findall(r"[a-z-]+|\d+\w*%?|[${}A-Z]+", GOOD))))
leaves = st.one_of(
    words,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just("${A}"),
    st.just("${S}"),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(words | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def spoil(node: Any, path: list[int], put: Any) -> Any:
    """The document with one of its parts replaced; the path says which."""
    children = (
        list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    )
    if not path or not children:
        return put
    key = list(children)[path[0] % len(children)]
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[key] = spoil(node[key], path[1:], put)
    return copy


@settings(max_examples=400)
@given(st.lists(st.integers(0, 9), max_size=7), trees)
def test_any_part_replaced_by_anything(path: list[int], put: Any) -> None:
    document = yaml.safe_load(GOOD)
    attempt(json.dumps(spoil(document, path, put)))


@settings(max_examples=100)
@given(trees)
def test_any_tree(tree: Any) -> None:
    attempt(json.dumps(tree))


durations = st.sampled_from(["500ms", "2s", "1m30s", "0.5s"])
names = st.from_regex(r"[a-z]{1,8}( [a-z]{1,4})?", fullmatch=True)
texts = st.text(
    st.characters(
        codec="utf-8",
        exclude_characters="\u2028\u2029\ufeff\ufffe\uffff",
        exclude_categories=["Cc", "Cs"],
    ),
    max_size=20,
)
picks = st.one_of(st.integers(1, 9), st.just("all"), st.sampled_from(["1%", "25%", "100%"]))
optional: dict[str, Any] = {"for": durations}
faults = st.fixed_dictionaries(
    {
        "fault": st.just("pause"),
        "target": st.fixed_dictionaries(
            {"process": st.fixed_dictionaries({"name": names})}, optional={"pick": picks}
        ),
    },
    optional=optional,
)
commands = st.one_of(names, st.lists(names, min_size=1, max_size=3))
runs = st.fixed_dictionaries(
    {"run": commands},
    optional={
        "timeout": durations,
        "env": st.dictionaries(names, texts, max_size=2),
        "undo": commands,
    },
)
waits = st.fixed_dictionaries({"wait": durations})
steps = st.one_of(faults, runs, waits)
matchers = st.one_of(
    st.integers(0, 9),
    st.fixed_dictionaries({"between": st.just([1, 3])}, optional={"above": st.integers(0, 9)}),
)
checks = st.fixed_dictionaries(
    {
        "process": st.fixed_dictionaries({"name": names}, optional={"timeout": durations}),
        "expect": st.fixed_dictionaries({"count": matchers}, optional={"within": durations}),
    }
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    called = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": draw(names),
        "tags": draw(st.lists(names, max_size=2)),
        "steady-state": [{"name": name} | draw(checks) for name in called],
        "method": draw(
            st.lists(
                st.one_of(steps, st.fixed_dictionaries({"parallel": st.lists(steps, min_size=1)})),
                min_size=1,
                max_size=4,
            )
        ),
        "verify": [{"check": draw(st.sampled_from([*called, "steady-state"]))}],
        "blast-radius": {"max-duration": "1d"},
    }
    if draw(st.booleans()):
        document["gates"] = [{"check": name, "every": draw(durations)} for name in called]
    return document


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_what_is_right_loads_and_its_resolved_document_loads_to_the_same(
    document: dict[str, Any],
) -> None:
    first = spec.load_text(json.dumps(document), "f.yaml", environ={})
    escaped = json.loads(json.dumps(document).replace("$${", "${"))
    assert json.loads(json.dumps(first.document).replace("$${", "${")) == escaped
    again = spec.load_text(json.dumps(first.document), "f.yaml", environ={})
    as_yaml = yaml.safe_dump(first.document, allow_unicode=True, sort_keys=False)
    third = spec.load_text(as_yaml, "f.yaml", environ={})
    for other in (again, third):
        assert bare(other) == bare(first)


def bare(experiment: Experiment) -> str:
    """Without positions, nor the order of keys."""
    shown = re.sub(r"Position\([^)]*\)", "", repr(experiment))
    return re.sub(r"document=.*?, hypothesis=", "", shown, flags=re.DOTALL)
