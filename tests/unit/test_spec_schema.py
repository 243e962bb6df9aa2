"""The schema for editors, against the loader that it describes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema
import pytest

from chaoskit import registry, spec
from chaoskit.errors import InputError

GOOD: dict[str, Any] = {
    "chaoskit": 1,
    "title": "T",
    "steady-state": [{"name": "c", "process": {"name": "w"}, "expect": {"count": {"above": 0}}}],
    "method": [{"fault": "pause", "target": {"process": {"name": "w"}}}],
}
HTTP = {"http": {"url": "http://h", "timeout": "1s", "headers": {"A": "b"}}}


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(spec.schema())


def expecting(expect: Any, probe: dict[str, Any] = HTTP) -> dict[str, Any]:
    return {"steady-state": [{"name": "c", **probe, "expect": expect}]}


def doing(*steps: Any) -> dict[str, Any]:
    return {"method": list(steps)}


BOTH_ACCEPT: list[dict[str, Any]] = [
    {},
    {"hypothesis": "x", "tags": ["a"], "gates": [], "verify": [{"check": "c", "within": "5s"}]},
    {"gates": [{"check": "c", "every": "500ms", "consecutive": 1}]},
    {"blast-radius": {"max-targets": 1, "max-percent": "50%", "max-duration": "1h"}},
    {
        "variables": {
            "A": 1,
            "B": "x",
            "C": {"default": True},
            "D": {"default": "", "secret": False},
        }
    },
    {"variables": {"D": "5s"}, "method": [{"wait": "${D}"}]},
    {
        "variables": {"N": 3, "K": "use"},
        "verify": [{"check": "c", "within": "${N}s"}],
        **doing(
            {"wait": "${N}s"},
            {
                "fault": "pause",
                "target": {"process": {"name": "${K}"}, "pick": "${N}%"},
                "for": "1m${N}s",
            },
        ),
    },
    {"variables": {"P": "all", "N": 3}, "gates": [{"check": "c", "consecutive": "${N}"}]},
    expecting(
        {"status": 200, "latency": {"below": "1s"}, "json": {"$.a": {"above": 1}, "$.b": [1]}}
    ),
    expecting({"headers": {"A": {"contains": "b", "matches": "c"}}, "within": "1s"}),
    expecting({"below": 300, "above": 199}),
    expecting({"output": {"below": 100}, "exit": 0}, {"command": {"run": ["a", "b"]}}),
    expecting(
        {"rss": {"between": ["1MiB", "2GiB"]}, "cpu": {"below": "150%"}}, {"process": {"pid": 1}}
    ),
    doing(
        {"fault": "pause", "target": {"process": {"cmdline": "x"}, "pick": "all"}, "for": "1m30s"}
    ),
    doing({"fault": "pause", "target": {"process": {"pid": 5}}, "stages": [1, "25%", "all"]}),
    doing({"run": "x", "timeout": "1s", "env": {"A": "b"}, "undo": ["a", "b"]}),
    doing({**HTTP, "undo": {"http": {"url": "http://h", "method": "DELETE", "body": "x"}}}),
    doing({"parallel": [{"wait": "1s"}, {"run": "x"}]}),
]

BOTH_REFUSE: list[dict[str, Any]] = [
    {"titel": "x"},
    {"chaoskit": 2},
    {"title": 5},
    {"tags": "x"},
    {"variables": {"A-B": 1}},
    {"variables": {"A": {"defalt": 1}}},
    {"gates": [{"check": "c", "every": 1}]},
    {"gates": [{"check": "c", "consecutive": 0}]},
    {"blast-radius": {"max-percent": 0.5}},
    {"blast-radius": {"max-targets": 0}},
    {"verify": []},
    expecting({}),
    expecting({"latency": {"below": 5}}),
    expecting({"latency": {"contains": "x"}}),
    expecting({"statu": 200}),
    expecting({"json": {}}),
    expecting({"status": {"abov": 1}}),
    expecting({"status": 200}, {}),
    expecting({"status": 200}, {"http": {"uri": "x"}}),
    expecting({"status": 200}, HTTP | {"tcp": {"address": "h:1"}}),
    doing(),
    doing({"fault": "nothing", "target": {"process": {"name": "x"}}}),
    doing({"fault": "pause"}),
    doing({"fault": "pause", "target": {"process": {"name": "x"}}, "for": 10}),
    doing({"fault": "pause", "target": {"process": {"name": "x"}, "pick": 0}}),
    doing({"fault": "pause", "target": {"process": {"nam": "x"}}}),
    doing({"fault": "action", "target": {"action": {}}}),
    doing({"wait": "5"}),
    doing({"wait": "1s", "run": "x"}),
    doing({"run": []}),
    doing({"parallel": [{"parallel": [{"wait": "1s"}]}]}),
]


def loads(document: dict[str, Any]) -> bool:
    try:
        spec.load_text(json.dumps(document), "f.json", environ={})
    except InputError:
        return False
    return True


def test_it_is_a_schema_each_time_it_is_asked_for() -> None:
    assert spec.schema() == spec.schema()
    jsonschema.Draft202012Validator.check_schema(spec.schema())


@pytest.mark.parametrize("parts", BOTH_ACCEPT, ids=[str(i) for i in range(len(BOTH_ACCEPT))])
def test_what_loads_is_valid(parts: dict[str, Any]) -> None:
    assert loads(GOOD | parts)
    validator().validate(GOOD | parts)


@pytest.mark.parametrize("parts", BOTH_REFUSE, ids=[str(i) for i in range(len(BOTH_REFUSE))])
def test_what_is_invalid_does_not_load(parts: dict[str, Any]) -> None:
    assert not loads(GOOD | parts)
    assert not validator().is_valid(GOOD | parts)


EVERY = [
    (name, kind, target)
    for name in registry.built_in("faults")
    for kind, targets in registry.kinds_of(name).items()
    for target in sorted(set(targets) & set(registry.built_in("targets")))
]


@pytest.mark.parametrize(("name", "kind", "target"), EVERY, ids=lambda at: str(at))
def test_the_examples_of_every_fault_load_and_are_valid(
    name: str, kind: type[Any], target: str
) -> None:
    for example in kind.examples:
        # A placeholder stands for an address, or for a folder or a command, which are paths.
        written = json.dumps(example).replace("${PEER}", "198.51.100.7")
        parameters = json.loads(re.sub(r"\$\{[A-Z]+\}", "/tmp", written))
        step = {"fault": name, "target": {target: {"name": "w"}}, "for": "1s", **parameters}
        document = GOOD | doing(step)
        spec.load_text(json.dumps(document), "f.json", environ={})
        validator().validate(document)


def test_it_explains_every_registered_name() -> None:
    text = json.dumps(spec.schema())
    for group in ("faults", "targets", "probes"):
        for name in registry.built_in(group):
            assert f'"{name}"' in text
    assert "how full it shall be" in text
