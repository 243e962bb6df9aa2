"""Everything that can be wrong with a file: what is said, and exactly where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaoskit import spec
from chaoskit.errors import InputError, Problem

GOOD = """\
chaoskit: 1
title: T
steady-state:
  - name: lives
    process: {name: w}
    expect: {count: {above: 0}}
method:
  - fault: pause
    target: {process: {name: w}}
    for: 10s
"""


def told(text: str | bytes) -> list[str]:
    """What is wrong with a text, as line:column: message."""
    with pytest.raises(InputError) as caught:
        spec.load_text(text, "f.yaml", environ={})
    problems = [problem for problem in caught.value.problems if isinstance(problem, Problem)]
    assert problems == sorted(caught.value.problems)
    return [str(problem).removeprefix("f.yaml:") for problem in problems]


def assert_told(found: list[str], expected: list[str]) -> None:
    """`...` stands for the names of all that is registered, which grows."""
    patterns = [".*".join(map(re.escape, one.split("..."))) for one in expected]
    assert len(found) == len(patterns), found
    for one, pattern in zip(found, patterns, strict=True):
        assert re.fullmatch(pattern, one), (one, pattern)


def test_the_file_that_the_table_spoils_is_good() -> None:
    assert spec.load_text(GOOD, "f.yaml", environ={}).title == "T"


# What is replaced in the good file, by what, and everything that must be said of it.
TABLE: list[tuple[str, str, list[str]]] = [
    (
        "title: T",
        "titel: T",
        ["1:1: the key 'title' is missing", "2:1: unknown key 'titel' (did you mean 'title'?)"],
    ),
    ("title: T", "title: 5", ['2:8: expected text, found the number 5; write "5"']),
    ("title: T", 'title: ""', ["2:8: is empty"]),
    # What is wrong between the fields is told beside what is wrong with one of them.
    (
        "process: {name: w}\n    expect: {count: {above: 0}}",
        'http: {url: "ftp://x", method: get, timeout: 5}\n    expect: {status: 200}',
        [
            "5:17: expected a URL that begins with http:// or https://, found 'ftp://x'",
            "5:36: expected a method such as GET or POST",
            "5:50: expected a duration such as 500ms, 2s or 1m30s, found the number 5; write 5s",
        ],
    ),
    (
        "target: {process: {name: w}}",
        "target: {process: {name: w, port: 0, cmdline: 7}}",
        [
            "9:39: a port is between 1 and 65535",
            '9:51: expected a regular expression, found the number 7; write "7"',
        ],
    ),
    ("chaoskit: 1", "chaoskit: 2", ["1:11: this chaoskit reads version 1 of the format"]),
    ("chaoskit: 1", "chaoskit: yes", ["1:11: expected a whole number, found 'yes'"]),
    ("title: T", "title: T\ntitle: U", ["3:1: the key 'title' is there already, at 2:1"]),
    (
        "title: T",
        "<<: {a: 1}\ntitle: T",
        ["2:1: merge keys (<<) are not part of YAML 1.2: write it out"],
    ),
    ("title: T", "title: !foo T", ["2:8: tags are not supported; is it text for quotes?"]),
    ("title: T", "title: &a [*a]", ["2:12: the alias *a refers to what it is itself part of"]),
    ("title: T", "title: !!seq T", ["2:8: the tag !!seq does not fit here"]),
    (
        "title: T",
        "title: *b",
        ["2:8: there is no anchor of this alias's name before it; is it text for quotes?"],
    ),
    (
        "{name: w}\n    expect",
        "{nam: w}\n    expect",
        ["5:15: unknown key 'nam' (did you mean 'name'?)"],
    ),
    (
        "{name: w}\n    expect",
        "{}\n    expect",
        ["5:14: say which processes: name, cmdline, ..."],
    ),
    (
        "{name: w}\n    expect",
        '{pid: "5"}\n    expect',
        ["5:20: expected a whole number, found '5'"],
    ),
    (
        "{name: w}\n    expect",
        '{cmdline: "("}\n    expect',
        ["5:24: '(' is no regular expression: missing ), unterminated subpattern at position 0"],
    ),
    (
        "process: {name: w}\n    expect",
        "proces: {name: w}\n    expect",
        ["5:5: no probe is called 'proces'... (did you mean 'process'?)"],
    ),
    ("above: 0", "abov: 0", ["6:22: unknown matcher 'abov' (did you mean 'above'?)"]),
    (
        "{count: {above: 0}}",
        "{cout: 1}",
        ["6:14: the probe reads no 'cout' (did you mean 'count'?)"],
    ),
    ("{count: {above: 0}}", "{}", ["6:13: expects nothing: say what the reading must be"]),
    (
        "{count: {above: 0}}",
        "{rss: {below: 5}}",
        ["6:27: expected a size such as 64MiB or 10MB, found the number 5; write 5MiB"],
    ),
    ("{count: {above: 0}}", "{count: {between: [5, 1]}}", ["6:31: the lowest comes first"]),
    (
        "{count: {above: 0}}",
        "{within: 5}",
        ["6:22: expected a duration such as 500ms, 2s or 1m30s, found the number 5; write 5s"],
    ),
    (
        "{count: {above: 0}}",
        '{cpu: {matches: "x"}}',
        ["6:29: cpu is a percentage such as 50%: compare it with below or above"],
    ),
    ("fault: pause", "fault: pase", ["8:12: no fault is called 'pase'... (did you mean 'pause'?)"]),
    ("fault: pause", "fault: run", ["8:12: no fault is called 'run'..."]),
    (
        "fault: pause",
        "falt: pause",
        ["8:5: a step has one of the keys fault, run, ... (did you mean 'fault'?)"],
    ),
    (
        "for: 10s",
        "for: 10",
        ["10:10: expected a duration such as 500ms, 2s or 1m30s, found the number 10; write 10s"],
    ),
    (
        "for: 10s",
        "for: 10sec",
        ["10:10: expected a duration such as 500ms, 2s or 1m30s, found '10sec'"],
    ),
    ("for: 10s", "fro: 10s", ["10:5: unknown key 'fro' (did you mean 'for'?)"]),
    (
        "{process: {name: w}}\n    for",
        "{proces: {name: w}}\n    for",
        ["9:14: no kind of target is called 'proces'... (did you mean 'process'?)"],
    ),
    (
        "{process: {name: w}}\n    for",
        "{process: {name: w}, pick: 0}\n    for",
        ["9:40: expected a number from 1, a percentage up to 100%, or all, found the number 0"],
    ),
    (
        "{process: {name: w}}\n    for",
        "{pick: 1}\n    for",
        ["9:13: no kind of target is named, as {process: {name: worker}}"],
    ),
    ("for: 10s", "stages: [5, 2]", ["10:17: stages widen: 2 is no more than 5"]),
    (
        "for: 10s",
        "stages: []",
        ["10:13: expected a list of how many, as [1, 25%, 50%], found an empty list"],
    ),
    (
        "for: 10s",
        "for: 20m",
        ["7:1: the method holds and waits 20m in all, longer than max-duration (15m)"],
    ),
    ("for: 10s", "delay: 10s", ["10:5: unknown key 'delay'..."]),
    (
        "  - fault: pause",
        "  - parallel: [{parallel: [{wait: 1s}]}]\n  - fault: pause",
        ["8:17: parallel inside parallel: one list is enough"],
    ),
    (
        "  - fault: pause",
        "  - {wait: 0s}\n  - fault: pause",
        ["8:12: must be above 0s, found '0s'"],
    ),
    (
        "  - fault: pause",
        '  - {run: ""}\n  - fault: pause',
        ["8:11: expected a command, or a list of its words, found none"],
    ),
    (
        "  - fault: pause",
        "  - {run: []}\n  - fault: pause",
        ["8:11: expected a command, or a list of its words, found none"],
    ),
    (
        "  - fault: pause",
        "  - {run: x, timeout: 5}\n  - fault: pause",
        ["8:23: expected a duration such as 500ms, 2s or 1m30s, found the number 5; write 5s"],
    ),
    (
        "  - fault: pause",
        '  - {http: {url: "ftp://x"}}\n  - fault: pause',
        ["8:18: expected a URL that begins with http:// or https://, found 'ftp://x'"],
    ),
    (
        "  - fault: pause",
        '  - {http: {url: "http://x"}, undo: {run: y}}\n  - fault: pause',
        ["8:37: the key 'http' is missing", "8:38: unknown key 'run'..."],
    ),
    (
        "  - fault: pause",
        "  - nothing\n  - fault: pause",
        ["8:5: expected a step (fault, run, http, wait, parallel), found 'nothing'"],
    ),
    (
        "  - fault: pause",
        "  - {wait: 1s, run: x}\n  - fault: pause",
        ["8:16: a step is one thing: wait or run"],
    ),
    (
        "method:",
        "gates: [{check: live}]\nmethod:",
        ["7:17: no check is called 'live'... (did you mean 'lives'?)"],
    ),
    (
        "method:",
        "gates: [{check: lives, consecutive: 0}]\nmethod:",
        ["7:37: must be 1 or more, found the number 0"],
    ),
    ("method:", "verify: []\nmethod:", ["7:9: expected at least one check, found none"]),
    ("method:", "verify: [{check: x}]\nmethod:", ["7:18: no check is called 'x'..."]),
    (
        "method:",
        "blast-radius: {max-percent: 150%}\nmethod:",
        ["7:29: must be 100% or less, found '150%'"],
    ),
    (
        "method:",
        "blast-radius: {max-target: 1}\nmethod:",
        ["7:16: unknown key 'max-target' (did you mean 'max-targets'?)"],
    ),
    (
        "method:",
        "blast-radius: {max-duration: 5s}\nmethod:",
        ["7:30: the method holds and waits 10s in all, longer than max-duration (5s)"],
    ),
    (
        "method:",
        "blast-radius: {max-targets: 1.5}\nmethod:",
        ["7:29: expected a whole number, found the number 1.5"],
    ),
    ("title: T", "title: ${A}", ["2:8: no variable A is declared under `variables`"]),
    (
        "title: T",
        "variables: {AB: x}\ntitle: ${AC}",
        ["3:8: no variable AC is declared under `variables`"],
    ),
    (
        "title: T",
        "variables: {AB: }\ntitle: ${AB}${AB}",
        ["3:8: the variable AB has no value: give it by --var, --var-file or the environment"],
    ),
    (
        "title: T",
        "variables: {AB: {secret: true, default: x}}\ntitle: T",
        ["2:41: a secret has no default in the file: give it by the environment or --var-file"],
    ),
    (
        "title: T",
        "variables: {AB: {}}\ntitle: T",
        ["2:13: the variable AB has no value: give it by --var, --var-file or the environment"],
    ),
    (
        "title: T",
        "variables: {A-B: x}\ntitle: T",
        ["2:13: 'A-B' is no name of a variable: letters, digits and _"],
    ),
    (
        "title: T",
        'title: "${A"',
        ["2:8: '${A' is no use of a variable; for a literal ${ write $${"],
    ),
    (
        "title: T",
        "title: T\n---\na: 1",
        ["3:1: a second document begins; a file holds one experiment"],
    ),
    (
        "title: T",
        "title: [T",
        ["3:13: is no YAML: did not find expected ',' or ']' (while parsing a flow sequence)"],
    ),
    (
        "title: T",
        "title: \tT\n\tx: 1",
        ["3:1: is no YAML: found a tab character that violates indentation..."],
    ),
    ("title: T", 'title: "\\0"', ["2:8: the character U+0000 cannot stand in a value"]),
    (
        "title: T",
        "title: T\x01",
        ['2:9: the character U+0001 cannot stand here; in double quotes write "\\u0001"'],
    ),
    (
        "title: T",
        "title: T\u2028",
        ['2:9: the character U+2028 cannot stand here; in double quotes write "\\u2028"'],
    ),
    (
        "title: T",
        "title: T\ntags: x",
        ["3:7: expected a list of tags, as [checkout, nightly], found 'x'"],
    ),
    ("title: T", "title: T\ntags: [1]", ['3:8: expected text, found the number 1; write "1"']),
    (
        "title: T",
        "? [a]\n: b\ntitle: T",
        ["2:3: a key is one text, not a list, a mapping or an alias"],
    ),
    ("title: T", '"": b\ntitle: T', ["2:1: a key is empty"]),
    ("title: T", "title: !!int T", ["2:8: is not what its tag !!int says"]),
    ("title: T", "title: !!map T", ["2:8: the tag !!map does not fit here"]),
    ("{count: {above: 0}}", '{count: {above: "x"}}', ["6:29: expected a number, found 'x'"]),
    (
        "{count: {above: 0}}",
        "5",
        ["6:13: expected a mapping of readings to what each must be, found the number 5"],
    ),
    ("{count: {above: 0}}", "{count: {}}", ["6:21: expects nothing: say what the reading must be"]),
    (
        "{count: {above: 0}}",
        "{count: {between: [1]}}",
        ["6:31: expected the lowest and the highest, as [1, 10], found a list"],
    ),
    (
        "{count: {above: 0}}",
        "{rss: {between: [1MiB, 5s]}}",
        ["6:36: expected a size such as 64MiB or 10MB, found '5s'"],
    ),
    ("- name: lives", "- name: steady-state", ["4:11: steady-state means all checks together"]),
    (
        "- name: lives",
        "- nam: lives",
        [
            "4:5: no probe is called 'nam'... (did you mean 'name'?)",
            "4:5: the key 'name' is missing",
        ],
    ),
    ("    process: {name: w}\n    expect", "    expect", ["4:5: the check has no probe"]),
    (
        "    process: {name: w}\n",
        "    process: {name: w}\n    tcp: {port: 1}\n",
        ["6:5: a check has one probe: process or tcp"],
    ),
    (
        "method:",
        "  - {name: lives, process: {name: v}, expect: {count: 1}}\nmethod:",
        ["7:12: a check is called 'lives' already, at 4:11"],
    ),
    ("    target: {process: {name: w}}\n", "", ["8:5: the key 'target' is missing"]),
    (
        "{process: {name: w}}\n    for",
        "{process: {name: w}, stages: 1}\n    for",
        ["9:34: no kind of target is called 'stages'..."],
    ),
    (
        "{process: {name: w}}\n    for",
        "{process: {name: w}, pick: 150%}\n    for",
        ["9:40: expected a number from 1, a percentage up to 100%, or all, found '150%'"],
    ),
    (
        "{process: {name: w}}\n    for",
        "w\n    for",
        ["9:13: expected a target, as {process: {name: worker}}, found 'w'"],
    ),
    (
        "{process: {name: w}}\n    for",
        "{process: {name: w}, pick: 2}\n    stages: [1]\n    for",
        ["9:34: the stages say how many: leave pick out"],
    ),
    (
        "  - fault: pause",
        "  - {run: [x, 5]}\n  - fault: pause",
        ['8:15: expected a command, or a list of its words, found the number 5; write "5"'],
    ),
    (
        "  - fault: pause",
        '  - {http: {url: "http://x", method: get}}\n  - fault: pause',
        ["8:38: expected a method such as GET or POST"],
    ),
    (
        "method:",
        "gates: {check: lives}\nmethod:",
        ["7:8: expected a list of gates, found a mapping"],
    ),
    (
        "method:",
        "gates: [{check: lives, every: 0s}]\nmethod:",
        ["7:31: must be above 0s, found '0s'"],
    ),
    (
        "method:",
        "blast-radius: 5\nmethod:",
        ["7:15: expected a mapping of keys to values, found the number 5"],
    ),
    ("title: T", "variables: [A]\ntitle: T", ["2:12: expected a mapping of names, found a list"]),
    (
        "title: T",
        'variables: {A: {default: "${B}"}}\ntitle: T',
        ["2:26: a default cannot use variables; write $${ for ${"],
    ),
    (
        "title: T",
        "variables: {A: {defalt: x}}\ntitle: T",
        [
            "2:13: the variable A has no value: give it by --var, --var-file or the environment",
            "2:17: unknown key 'defalt' (did you mean 'default'?)",
        ],
    ),
    (
        "title: T",
        'title: "a\n  ${B} ${C}"',
        [
            "2:8: no variable B is declared under `variables`",
            "2:8: no variable C is declared under `variables`",
        ],
    ),
    (
        "title: T",
        "title: 012\ntags: [on, no, 1:30, 2020-01-01, ~]",
        ["3:34: expected text, found nothing"],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), TABLE, ids=[new for _, new, _ in TABLE])
def test_a_spoilt_file(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    assert_told(told(GOOD.replace(old, new, 1)), expected)


WHOLE: list[tuple[str | bytes, list[str]]] = [
    (b"", ["1:1: the file is empty"]),
    (b"# nothing\n", ["1:1: the file is empty"]),
    (b"null", ["1:1: the file is empty"]),
    (b"[]", ["1:1: expected an experiment, found an empty list"]),
    (b"5", ["1:1: expected an experiment, found the number 5"]),
    ("title: x".encode("utf-16"), ["1:1: is written in UTF-16; save it as UTF-8"]),
    ("title: x".encode("utf-16-le"), ["1:1: is written in UTF-16; save it as UTF-8"]),
    ("title: x".encode("utf-16-be"), ["1:1: is written in UTF-16; save it as UTF-8"]),
    ("title: x".encode("utf-32"), ["1:1: is written in UTF-32; save it as UTF-8"]),
    (
        "a: 1\r\ntitle: caf\xe9".encode("latin-1"),
        ["2:11: is not UTF-8: byte 0xe9 cannot stand here; save the file as UTF-8"],
    ),
    (b"x" * (1024 * 1024 + 1), ["1:1: is larger than 1 MiB, which no experiment is"]),
    (b"[" * 100_000, ["1:65: nested deeper than 64"]),
    (b"[\n" * 100_000, ["65:1: nested deeper than 64"]),
    (b'{"a":' * 100_000, ["1:321: nested deeper than 64"]),
    (b"{a: " * 100_000, ["1:257: nested deeper than 64"]),
    (b"- " * 100_000, ["1:129: nested deeper than 64"]),
    (b"a\n\0", ["2:1: the character U+0000 cannot stand here"]),
    (b'"abc', ["1:5: is no YAML: ..."]),
    (b"a: b: c", ["1:5: is no YAML: ..."]),
    (b"%YAML 3.0\n---\na: 1", ["1:1: is no YAML: ..."]),
    ('{"a": 1,}', ["1:1: the key 'chaoskit' is missing", "..."] + ["..."] * 3),
    ('{"a": 1, "a": 2}', ["..."] * 5 + ["1:10: the key 'a' is there already, at 1:2"]),
    ('{"a": "\\ud800"}', ["..."] * 5 + ["1:7: the character U+D800 cannot stand in a value"]),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE, ids=[str(i) for i in range(len(WHOLE))])
def test_a_file_that_is_something_else(text: str | bytes, expected: list[str]) -> None:
    assert_told(told(text), expected)


def test_a_byte_order_mark_moves_no_column() -> None:
    assert "2:1: unknown key 'titel' (did you mean 'title'?)" in told(b"\xef\xbb\xbfa: 1\ntitel: x")


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(i + 1)}: &{chr(i + 1)} [{','.join([f'*{chr(i)}'] * 9)}]\n" for i in range(97, 120)
    )
    assert told(bomb) == ["6:11: the file stands for more than 100000 values"]


def test_aliases_cannot_nest_deeper_than_brackets() -> None:
    deep = "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30
    assert told(deep) == ["2:34: nested deeper than 64"]


def test_an_alias_stands_for_its_anchor() -> None:
    text = GOOD.replace("{process: {name: w}}", "{process: *who}").replace(
        "process: {name: w}\n    expect", "process: &who {name: w}\n    expect"
    )
    (step,) = spec.load_text(text, "f.yaml", environ={}).fault_steps()
    assert step.selector.describe() == "process name=w"


def test_a_hostile_regular_expression_is_told() -> None:
    for hostile in ("(" * 5000, "a{99999999999999999999}", "[[a]"):
        text = GOOD.replace("{name: w}\n    expect", f"{{cmdline: '{hostile}'}}\n    expect")
        if hostile == "[[a]":  # Python warns of this one; it is right all the same.
            spec.load_text(text, "f.yaml", environ={})
        else:
            assert "is no regular expression" in told(text)[0]


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path, fragment in (
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "none.yaml", "there is no such file"),
        (file / "x.yaml", "cannot be read: Not a directory"),
        (Path("a\0b"), "is no name of a file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (Path("/dev/zero"), "is larger than 1 MiB"),
    ):
        with pytest.raises(InputError) as caught:
            spec.load(path, environ={})
        (problem,) = caught.value.problems
        assert fragment in str(problem)
