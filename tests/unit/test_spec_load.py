"""What a file becomes: every form of the format, variables, secrets, JSON and the resolved file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chaoskit import spec
from chaoskit.errors import InputError
from chaoskit.model.experiment import (
    Experiment,
    FaultStep,
    GateSpec,
    HttpAction,
    Parallel,
    Pick,
    RunAction,
    Verify,
    WaitAction,
)
from chaoskit.model.units import Unit
from chaoskit.probes.http import HttpProbe

WHOLE = r"""
chaoskit: 1
title: All of it
hypothesis: It holds.
tags: [one, two]
variables:
  URL: {default: "http://127.0.0.1:8080", description: where it is}
  HOLD: 3s
  COUNT: {default: 2}
  TOKEN: {secret: true}
steady-state:
  - name: web
    http: {url: "${URL}/health", timeout: 500ms, headers: {Authorization: "Bearer ${TOKEN}"}}
    expect:
      status: 200
      latency: {below: 500ms}
      json: {"$.ok": true, "$.queue": {below: 10, above: 1}, "$.names": [a, b]}
      headers: {Content-Type: {contains: json}}
      within: 2s
  - name: lives
    process: {cmdline: "worker\\.py"}
    expect: {count: {between: [1, 3]}, rss: {below: 100MiB}, cpu: {below: 50%}}
  - {name: count, process: {name: w}, expect: {above: 0}}
  - {name: queue, command: {run: "./queue"}, expect: {exit: 0, output: {below: 100}}}
  - {name: ratio, command: {run: [./ratio, -q]}, expect: {output: {below: 1%}}}
method:
  - {fault: pause, target: {process: {cmdline: x}, pick: all}, for: "${HOLD}"}
  - {fault: pause, target: {process: {name: x}, pick: 25%}}
  - {fault: pause, target: {process: {name: x}, pick: "${COUNT}"}}
  - {fault: pause, target: {process: {name: x}}, stages: [1, 25%, all], for: 1s}
  - {run: "./warm $HOME", timeout: 5s, env: {A: "${TOKEN}", B: "${COUNT}"}, undo: [./cool, -f]}
  - http: {url: "${URL}/a", method: POST, body: "$${literal}"}
    undo: {http: {url: "${URL}/b", method: DELETE, timeout: 1s}}
  - wait: 1m30s
  - parallel:
      - {wait: 5s}
      - {run: "true"}
gates: [{check: web, every: 500ms, consecutive: 1}, {check: lives}]
blast-radius:
  {max-targets: 3, max-percent: 50%, min-healthy: 2, max-duration: 10m, allow-users: [www]}
verify: [{check: web, within: 5s}, {check: steady-state}]
"""
SECRET = "p%55w0rd /geheim"


def load(text: str, **more: Any) -> Experiment:
    return spec.load_text(text, "f.yaml", **({"environ": {"TOKEN": SECRET}} | more))


def small(**parts: Any) -> dict[str, Any]:
    """A small experiment as a document, with some of its parts replaced."""
    return {
        "chaoskit": 1,
        "title": "T",
        "steady-state": [{"name": "c", "process": {"name": "w"}, "expect": {"count": 1}}],
        "method": [{"wait": "1s"}],
    } | parts


def load_small(given: dict[str, str] | None = None, **parts: Any) -> Experiment:
    return load(json.dumps(small(**parts)), variables=given)


def test_every_form_of_a_step() -> None:
    pause, quarter, two, staged, command, request, wait, parallel = load(WHOLE).method
    assert isinstance(pause, FaultStep) and isinstance(quarter, FaultStep)
    assert isinstance(two, FaultStep) and isinstance(staged, FaultStep)
    assert (pause.hold, pause.pick) == (3.0, Pick(every=True))
    assert (quarter.hold, quarter.pick) == (10.0, Pick(fraction=0.25))
    assert two.pick == Pick(count=2)
    assert staged.stages == (Pick(count=1), Pick(fraction=0.25), Pick(every=True))
    assert str(pause.where) == "f.yaml:27:5"
    assert isinstance(command, RunAction)
    assert (command.command, command.timeout) == ("./warm $HOME", 5.0)
    assert command.env == {"A": SECRET, "B": "2"}
    assert command.undo == ("./cool", "-f")
    assert isinstance(request, HttpAction) and request.undo
    assert (request.url, request.method, request.body) == (
        "http://127.0.0.1:8080/a",
        "POST",
        "${literal}",
    )
    assert (request.undo.method, request.undo.timeout, request.undo.undo) == ("DELETE", 1.0, None)
    assert isinstance(wait, WaitAction) and wait.seconds == 90.0
    assert isinstance(parallel, Parallel) and len(parallel.steps) == 2


def test_checks_know_what_they_read_and_in_which_unit() -> None:
    web, lives, count, queue, ratio = load(WHOLE).steady_state
    assert isinstance(web.probe, HttpProbe)
    assert web.probe.timeout == 0.5
    assert web.probe.headers == {"Authorization": f"Bearer {SECRET}"}
    assert web.probe.wants == (
        "status",
        "latency",
        "json $.ok",
        "json $.queue",
        "json $.names",
        "headers content-type",
    )
    assert web.expect.within == 2.0
    assert [(c.reading, c.unit, c.matcher, c.value) for c in web.expect.conditions] == [
        ("status", Unit.NUMBER, "equals", 200),
        ("latency", Unit.DURATION, "below", 0.5),
        ("json $.ok", Unit.TEXT, "equals", True),
        ("json $.queue", Unit.TEXT, "below", 10),
        ("json $.queue", Unit.TEXT, "above", 1),
        ("json $.names", Unit.TEXT, "equals", ["a", "b"]),
        ("headers content-type", Unit.TEXT, "contains", "json"),
    ]
    assert [c.value for c in lives.expect.conditions] == [[1, 3], 100 * 2**20, 0.5]
    assert count.expect.conditions[0].reading == "count"
    assert [c.value for c in queue.expect.conditions] == [0, 100]
    assert (ratio.expect.conditions[0].value, ratio.expect.conditions[0].unit) == (
        0.01,
        Unit.PERCENT,
    )


def test_gates_limits_and_verification() -> None:
    experiment = load(WHOLE)
    assert experiment.gates is not None
    web, lives = experiment.gates
    assert (web.check, web.every, web.consecutive) == ("web", 0.5, 1)
    assert (lives.every, lives.consecutive, str(lives.where)) == (1.0, 3, "f.yaml:38:53")
    limits = experiment.blast_radius
    assert (limits.max_targets, limits.max_percent, limits.min_healthy) == (3, 0.5, 2)
    assert (limits.max_duration, limits.allow_users) == (600.0, ("www",))
    assert experiment.verify == (Verify("web", 5.0), Verify("steady-state", 60.0))
    assert experiment.tags == ("one", "two")


def test_what_a_file_does_not_say() -> None:
    experiment = load_small()
    assert experiment.gates is None
    assert experiment.gate_specs() == (GateSpec("c"),)
    assert experiment.blast_radius.max_duration == 900.0
    assert experiment.verify == (Verify("steady-state", 60.0),)
    assert load_small(gates=[]).gates == ()


@pytest.mark.parametrize(
    "word",
    [
        "on",
        "off",
        "yes",
        "no",
        "012",
        "1:30",
        "2020-01-01",
        "0b1",
        "1_000",
        "+012",
        "=",
        "0o8",
        "1e",
    ],
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(word: str) -> None:
    text = f"chaoskit: 1\ntitle: {word}\n" + "".join(WHOLE.partition("steady-state:\n")[1:])
    text = text.replace("${URL}", "http://h").replace("${TOKEN}", "t")
    text = text.replace("${HOLD}", "3s").replace('B: "${COUNT}"', "B: x").replace('"${COUNT}"', "2")
    assert load(text).title == word


def test_numbers_by_yaml_1_2() -> None:
    for written, value in (("0x10", 16), ("0o17", 15), ("+5", 5), ("!!int '7'", 7)):
        text = f"chaoskit: 1\ntitle: T\nmethod: [wait: 1s]\nsteady-state:\n- name: c\n  process: \
{{name: w}}\n  expect: {{count: {written}}}\n"
        assert load(text).steady_state[0].expect.conditions[0].value == value


def test_json_with_tabs_and_escapes() -> None:
    text = json.dumps(small(title="\U0001f600/é"), indent="\t").replace("/", "\\/")
    assert "\\ud83d" in text
    experiment = load(text)
    assert experiment.title == "\U0001f600/é"
    assert experiment.steady_state[0].where.line == text[: text.index('"name"')].count("\n")


def test_a_variable_is_read_again_where_it_stands_alone() -> None:
    experiment = load_small(
        {"N": "1:1", "D": "500ms"},
        title="${N}",
        variables={"N": 3, "D": "5s"},
        method=[{"wait": "${D}"}],
    )
    assert experiment.title == "1:1"
    assert isinstance(experiment.method[0], WaitAction) and experiment.method[0].seconds == 0.5


def test_text_stays_text_when_a_variable_looks_like_a_number() -> None:
    experiment = load_small(
        {"N": "200"},
        title="${N}",
        variables={"N": None},
        method=[{"run": ["echo", "${N}"], "env": {"A": "${N}"}}],
    )
    assert experiment.title == "200"
    (step,) = experiment.method
    assert isinstance(step, RunAction)
    assert (step.command, step.env) == (("echo", "200"), {"A": "200"})


def test_who_wins_over_whom(tmp_path: Path) -> None:
    first, second = tmp_path / "a.env", tmp_path / "b.yaml"
    first.write_text("# a comment\n\nexport A='first'\nB = first\nNOT_IN_THE_FILE=x\n")
    second.write_text("B: second\nC: 5\n")
    text = json.dumps(small(variables=dict.fromkeys("ABCDE", "default")))
    experiment = spec.load_text(
        text,
        "f.yaml",
        variables={"A": "given"},
        var_files=[first, second],
        environ={"A": "env", "B": "env", "D": "env"},
    )
    assert experiment.environment() == {
        "A": "given",
        "B": "second",
        "C": "5",
        "D": "env",
        "E": "default",
    }


def test_variables_given_by_hand_must_be_declared() -> None:
    with pytest.raises(InputError) as caught:
        load_small({"CHEKOUT": SECRET})
    assert "--var CHEKOUT: f.yaml declares no such variable" in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match=r"did you mean 'CHECKOUT'\?"):
        load(json.dumps(small(variables={"CHECKOUT": 1})), variables={"CHEKOUT": "x"})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("v.env", f"A=1\n{SECRET}\n", ":2:1: expected NAME=value"),
        ("v.yaml", f"A: [{SECRET}]\n", ":1:4: the value of 'A' is neither text nor a number"),
        ("v.yaml", f"- {SECRET}\n", ":1:1: expected a mapping of names to values"),
        ("v.json", f'{{"A": "{SECRET}"', "is no YAML"),
        ("v.yaml", f"A: !{SECRET}\n", ":1:4: tags are not supported"),
        ("v.yaml", f"A: *{SECRET}\n", ":1:4: there is no anchor of this alias's name"),
        ("v.yaml", "A: 1\nA: 2\n", ":2:1: the key 'A' is there already, at 1:1"),
    ],
)
def test_a_bad_file_of_variables(tmp_path: Path, name: str, text: str, expected: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load(json.dumps(small()), var_files=[file, tmp_path / "none.env"])
    assert expected in str(caught.value)
    assert "none.env:1:1: there is no such file" in str(caught.value)
    assert SECRET not in str(caught.value) and SECRET.split()[0] not in str(caught.value)


def test_a_variable_that_no_argument_can_hold() -> None:
    text = json.dumps(small(variables={"A": None}, title="${A}"))
    with pytest.raises(
        InputError, match=r"1:\d+: the value given for A holds the character U\+DC80"
    ):
        load(text, environ={"A": "x\udc80"})


SECRETIVE: list[dict[str, Any]] = [
    {"method": [{"wait": "${TOKEN}"}]},
    {"method": [{"wait": "x${TOKEN}y"}]},
    {"method": [{"run": "echo ${TOKEN}"}]},
    {"method": [{"run": ["echo", "${TOKEN}"]}]},
    {"method": [{"run": "x", "undo": "echo ${TOKEN}"}]},
    {"method": [{"http": {"url": "x${TOKEN}"}}]},
    {"method": [{"http": {"url": "http://h/a b${TOKEN}"}}]},
    {"method": [{"http": {"url": "http://a:${TOKEN}@h:x/"}}]},
    {"method": [{"http": {"url": "http://a:${TOKEN}/x@h:8080/"}}]},
    *(
        {"method": [{"fault": "latency", "delay": "1s", "target": {"proxy": link}}]}
        for link in (
            {"name": "${TOKEN}"},
            {"url": "http://${TOKEN}"},
            {"listen": "127.0.0.1:1", "upstream": "${TOKEN}:2"},
            {"listen": "${TOKEN}:1", "upstream": "127.0.0.1:2"},
        )
    ),
    {"method": [{"fault": "${TOKEN}", "target": {"process": {"name": "x"}}}]},
    {"method": [{"fault": "kill", "signal": "${TOKEN}", "target": {"process": {"name": "x"}}}]},
    {"method": [{"fault": "pause", "target": {"process": {"cmdline": "(${TOKEN}"}}}]},
    {"method": [{"fault": "pause", "target": {"process": {"pid": "${TOKEN}"}}}]},
    {"method": [{"fault": "pause", "target": {"process": {"name": "x"}, "pick": "${TOKEN}"}}]},
    {"title": "${TOKEN}"},
    {"tags": ["${TOKEN}"]},
    {"tags": "${TOKEN}"},
    {"gates": [{"check": "${TOKEN}"}]},
    {"verify": ["${TOKEN}"]},
    {"blast-radius": {"max-percent": "${TOKEN}"}},
    {"title": f"it is {SECRET}", "tags": [{SECRET: 1}], SECRET: 1},
    {"steady-state": [{"name": "c", "process": {"name": "w"}, "expect": {"count": "${TOKEN}"}}]},
    {"steady-state": [{"name": "c", "process": {"name": "w"}, "expect": {"rss": "${TOKEN}"}}]},
    {"steady-state": [{"name": "c", "command": {"run": "x ${TOKEN}"}, "expect": {"exit": 0}}]},
]


@pytest.mark.parametrize("parts", SECRETIVE, ids=[str(i) for i in range(len(SECRETIVE))])
@pytest.mark.parametrize("secret", [SECRET, "hunter2" * 20, "7777777", "q'\"\\ü\n\tz", "[bad-a"])
def test_a_secret_is_in_no_message(parts: dict[str, Any], secret: str) -> None:
    parts = {secret if k == SECRET else k: v for k, v in parts.items()}
    document = small(**parts, variables={"TOKEN": {"secret": True}})
    text = json.dumps(document).replace(json.dumps(SECRET)[1:-1], json.dumps(secret)[1:-1])
    with pytest.raises(InputError) as caught:
        load(text, environ={"TOKEN": secret})
    shown = str(caught.value)
    for shape in (secret, repr(secret)[1:-1], secret[:10]):
        assert shape not in shown
    if "run" in str(parts):
        assert "the command finds it in its environment, as $TOKEN" in shown


def test_the_resolved_file_has_no_secret_and_loads_to_the_same() -> None:
    experiment = load(WHOLE)
    document = json.dumps(experiment.document)
    assert SECRET not in document
    assert "Bearer ${TOKEN}" in document
    assert "$${literal}" in document
    again = load(document)
    assert again.document == experiment.document
    assert _without_positions(again) == _without_positions(experiment)
    assert experiment.secrets() == {"TOKEN": SECRET}


def test_a_value_that_looks_like_a_variable_stays_what_it_is() -> None:
    first = load_small({"A": "${B}"}, title="x ${A} $${C}", variables={"A": 1, "D": "$${E}"})
    assert first.title == "x ${B} ${C}"
    assert first.environment() == {"A": "${B}", "D": "${E}"}
    again = load(json.dumps(first.document))
    assert (again.title, again.environment()) == (first.title, first.environment())


def test_the_resolved_file_tells_two_values_of_a_variable_apart() -> None:
    one, other = (load_small({"A": v}, variables={"A": None}) for v in "12")
    assert one.document != other.document


def _without_positions(experiment: Experiment) -> str:
    return re.sub(r"Position\([^)]*\)", "", repr(experiment))


def test_a_folder_means_the_experiments_below_it(tmp_path: Path) -> None:
    for name in ("b/x.yml", "a.yaml", "c.json", "d.txt", ".hidden.yaml", ".git/y.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.yaml").mkdir()
    expected = [tmp_path / name for name in ("a.yaml", "b/x.yml", "c.json")]
    assert spec.experiment_files([tmp_path]) == expected
    assert spec.experiment_files([tmp_path / "c.json", tmp_path]) == [
        expected[2],
        expected[0],
        expected[1],
    ]
    assert spec.experiment_files([tmp_path / "none.yaml"]) == [tmp_path / "none.yaml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no experiment in it"):
        spec.experiment_files([tmp_path, tmp_path / "empty"])
