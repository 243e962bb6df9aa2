"""What is registered meets the loader: capabilities, units in unions, plug-ins that are wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import pytest

from chaoskit import registry, spec
from chaoskit.capabilities import HasProcesses
from chaoskit.errors import InputError
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Amount, Duration, Json, Percent, Rate, Share


@runtime_checkable
class HasWings(Protocol):
    """Nothing here can fly."""

    wings: int

    def fly(self) -> None: ...


class Nothing(Fault[Any]):
    def changes(self, target: Any) -> Iterator[Change]:
        return iter(())

    def look(self, target: Any, change: Change) -> Json:
        return None

    def make(self, target: Any, change: Change) -> None: ...

    def unmake(self, target: Any, change: Change) -> None: ...


@dataclass(frozen=True)
class Fly(Nothing):
    """Fly away."""

    name = "fly"
    needs = HasWings


@dataclass(frozen=True)
class Inner:
    deep: int = field(metadata={"min": 2, "max": 4})


@dataclass(frozen=True)
class Rich(Nothing):
    """Has a field of every kind."""

    name = "rich"
    needs = HasProcesses
    amount: Amount | None = None
    cores: float | Percent | None = None
    rate: Rate | None = None
    mode: Literal["slow", "fast"] = "slow"
    inner: Inner | None = None
    holds: tuple[Duration, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    either: int | tuple[str, ...] | None = None
    from_: str | None = None
    hidden: str = field(default="", metadata={"internal": True})
    flag: bool = False

    def problems(self) -> list[tuple[str, str]]:
        return [("from_", "not from\nthere")] if self.from_ == "there" else []


@dataclass(frozen=True)
class Unreadable(Nothing):
    """Has a field that no file can write."""

    name = "unreadable"
    needs = HasProcesses
    what: complex = 0j


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Fly, Rich, Unreadable):
        place = f"{kind.__module__}:{kind.__name__}"
        assert sys.modules[kind.__module__]
        monkeypatch.setitem(registry._BUILT_IN["faults"], kind.name, place)


def load(fault: str, **keys: Any) -> Any:
    step = {"fault": fault, "target": {"process": {"name": "w"}}, **keys}
    check = {"name": "c", "process": {"name": "w"}, "expect": {"count": 1}}
    document = {"chaoskit": 1, "title": "T", "steady-state": [check], "method": [step]}
    text = json.dumps(document)
    (found,) = spec.load_text(text, "f.json", environ={}).fault_steps()
    return found.fault


def problem(fault: str, **keys: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(fault, **keys)
    (found,) = caught.value.problems
    return str(found).split(": ", 1)[1]


def test_a_fault_that_the_target_cannot_bear() -> None:
    assert problem("fly") == "fly is not possible on a process; it lacks fly, wings"
    assert (
        problem("loss", share="1%") == "loss is not possible on a process; only on: proxy, docker"
    )


def test_the_schema_offers_a_fault_no_target_that_cannot_bear_it() -> None:
    steps = {
        step["properties"]["fault"]["const"]: step["properties"]["target"]["anyOf"]
        for step in spec.schema()["$defs"]["step"]["oneOf"]
        if "fault" in step["properties"]
    }
    assert steps["fly"] == []
    assert len(steps["rich"]) == len(next(iter(registry.kinds_of("rich").values()))) > 0
    assert "unreadable" not in steps


def test_an_annotation_that_no_file_can_write() -> None:
    assert problem("unreadable") == (
        "Unreadable.what: <class 'complex'> cannot be read from a file"
    )


@pytest.mark.parametrize(
    ("keys", "name", "value"),
    [
        ({"amount": "64MiB"}, "amount", 64 * 2**20),
        ({"amount": "10%"}, "amount", Share(0.1)),
        ({"amount": None}, "amount", None),
        ({"cores": 0.5}, "cores", 0.5),
        ({"cores": "50%"}, "cores", Share(0.5)),
        ({"rate": "1KiB/s"}, "rate", 1024.0),
        ({"mode": "fast"}, "mode", "fast"),
        ({"inner": {"deep": 3}}, "inner", Inner(3)),
        ({"holds": ["1s", "500ms"]}, "holds", (1.0, 0.5)),
        ({"labels": {"a": "b"}}, "labels", {"a": "b"}),
        ({"either": 5}, "either", 5),
        ({"either": ["a"]}, "either", ("a",)),
        ({"from": "here"}, "from_", "here"),
        ({"flag": True}, "flag", True),
    ],
)
def test_every_kind_of_field(keys: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(load("rich", **keys), name) == value


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"amount": 5},
            "expected a size such as 64MiB or 10MB or a percentage such as 50%, found the number "
            "5; write 5MiB or 5%",
        ),
        ({"cores": "5x"}, "expected a number or a percentage such as 50%, found '5x'"),
        ({"rate": "1KiB"}, "expected a rate such as 10MiB/s, found '1KiB'"),
        ({"mode": "fas"}, "expected one of slow, fast, found 'fas' (did you mean 'fast'?)"),
        ({"inner": {"deep": 1}}, "must be 2 or more, found the number 1"),
        ({"inner": {"deep": 5}}, "must be 4 or less, found the number 5"),
        ({"inner": {}}, "the key 'deep' is missing"),
        ({"inner": 5}, "expected a mapping of keys to values, found the number 5"),
        ({"holds": "1s"}, "expected a list of a duration such as 500ms, 2s or 1m30s, found '1s'; "
                          "write [...]"),
        ({"labels": {"a": 1}}, 'expected text, found the number 1; write "1"'),
        ({"either": ["a", 5]}, 'expected text, found the number 5; write "5"'),
        ({"either": "x"}, "expected a whole number, found 'x'"),
        ({"from": "there"}, "not from\\nthere"),
        ({"flag": "yes"}, "expected true or false, found 'yes'"),
        ({"mode": None}, "expected one of slow, fast, found nothing"),
    ],
)  # fmt: skip
def test_what_fits_no_field(keys: dict[str, Any], expected: str) -> None:
    assert problem("rich", **keys) == expected


def test_a_hidden_field_is_no_key() -> None:
    assert problem("rich", hidden="x").startswith("unknown key 'hidden'; there are: ")


def test_real_faults_tell_sizes_from_shares() -> None:
    assert load("memory", size="64MiB").size == 64 * 2**20
    assert load("memory", size="10%").size == Share(0.1)
    assert load("cpu", load="50%").load == Share(0.5)
    assert load("cpu", load=2).load == 2
    assert load("disk-fill", path="/tmp", until="95%").until == pytest.approx(0.95)
