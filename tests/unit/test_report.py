"""The reports of a run: nothing is lost, nothing in them can be taken for something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chaoskit.journal import RunFolder, State
from chaoskit.model.result import (
    CheckResult,
    Left,
    Plan,
    PlannedStep,
    PlannedTarget,
    Result,
    StepResult,
)
from chaoskit.model.verdict import Verdict
from chaoskit.report import markdown, write
from chaoskit.report.page import escape
from chaoskit.report.stream import dumps, printable
from chaoskit.report.text import plan_lines, result_lines

STEP = StepResult(
    number="1",
    text="pause process cmdline=worker",
    kind="fault",
    targets=("process 812 (python worker.py)",),
    began=0.5,
    injected=0.75,
    undone=5.81,
    undo_took=0.012,
    proven=True,
    proven_again=True,
)
CHECK = CheckResult(
    name="shop answers",
    probe="GET http://127.0.0.1:8080/health",
    expect="status equals 200",
    before="ok",
    during_ok=10,
    during_failed=2,
    first_failure="at 3.2s: status is 503, expected equals 200",
    after="ok",
)
LEFT = Left(
    3,
    "pause",
    "process 812 (python worker.py)",
    "812:9:b",
    "running",
    "stopped",
    "traced",
    "somebody else changed it, so it was left alone",
)
RESULT = Result(
    run="20261123-053812-3f9a1c",
    title="Shop stays quick",
    file="shop.yaml",
    state="done",
    verdict=Verdict.DEVIATED,
    reason="shop answers failed while faults were in",
    hypothesis="One worker is enough.",
    tags=("shop", "worker"),
    who="ann@host",
    why="before the release",
    started="2026-11-23T05:38:12.000Z",
    ended="2026-11-23T05:38:24.400Z",
    seconds=12.4,
    seed=42,
    plan_hash="abcdef0123456789",
    undone_by="runner",
    steps=(STEP,),
    checks=(CHECK,),
    left=(),
    learnt=("shop answers: failed in 2 of 12 readings.",),
    timeline=((0.5, "step 1: pause"), (0.75, "pause is in and proven")),
    folder="/var/state/runs/20261123-053812-3f9a1c",
    version="0.1.0",
)


def text(result: Result, **options: Any) -> str:
    return "\n".join(result_lines(result, **options))


def test_the_verdict_block_begins_with_the_verdict_and_tells_everything() -> None:
    lines = result_lines(RESULT)
    assert lines[0] == "DEVIATED  Shop stays quick"
    assert "shop answers failed while faults were in" in lines[1]
    whole = "\n".join(lines)
    for part in (
        "proven, still there at the end, undone in 12ms",
        "process 812 (python worker.py)",
        "before ok, during 10 ok, 2 failed, after ok",
        "first failure at 3.2s: status is 503",
        "- shop answers: failed in 2 of 12 readings.",
        "run 20261123-053812-3f9a1c, 12.4s, seed 42, plan abcdef0123456789",
        "/var/state/runs/20261123-053812-3f9a1c",
    ):
        assert part in whole
    assert "what is left" not in whole


def test_what_is_left_comes_first_with_commands_that_can_be_pasted() -> None:
    stuck = replace(RESULT, verdict=Verdict.STUCK, left=(LEFT,), state="left")
    lines = result_lines(stuck, state=" --state /tmp/s")
    head = "\n".join(lines[:10])
    run = "chaoskit recover --state /tmp/s 20261123-053812-3f9a1c"
    assert "what is left, and how to remove it" in head
    assert f"{run} --accept 3" in head
    assert f"{run} --force 3" in head
    assert "'traced'" in head


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"proven": False, "proven_again": None}, "NOT proven"),
        ({"proven_again": False}, "ENDED EARLY"),
        ({"injected": None, "undo_took": None, "undone": None}, "not injected"),
        (
            {"began": None, "injected": None, "undo_took": None, "undone": None},
            "not reached",
        ),
        ({"problem": "pause did not take", "injected": None}, "pause did not take"),
        ({"one_way": True}, "one way: nothing undoes it"),
    ],
)
def test_a_step_is_never_said_to_be_more_than_it_was(change: dict[str, Any], said: str) -> None:
    result = replace(RESULT, steps=(replace(STEP, **change),))
    line = next(line for line in result_lines(result) if line.startswith("  1 "))
    assert said in line
    assert ": proven" not in line or "ENDED EARLY" in line or "undone in" not in line


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({"began": None}, "done", "not reached"),
        ({}, "done", "cut short"),
        ({}, "running", "going on"),
        ({"acted": 0.7}, "done", "done"),
        ({"acted": 0.7, "undone": 2.0, "undo_took": 0.1}, "done", "done, undone in 100ms"),
        ({"problem": "it ended with exit code 1"}, "done", "it ended with exit code 1"),
    ],
)
def test_an_action_is_only_done_when_it_was(change: dict[str, Any], state: str, said: str) -> None:
    step = StepResult(number="1", text="wait 5s", kind="wait", began=0.5)
    result = replace(RESULT, state=state, steps=(replace(step, **change),))
    assert f"  1  wait 5s: {said}" in result_lines(result)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"undone_by": "guardian"}, "undone by guardian"),
        ({"state": "running", "verdict": None}, "in now"),
        ({"state": "left", "verdict": None, "left": (LEFT,)}, "NOT undone by its run"),
    ],
)
def test_a_step_that_its_runner_did_not_undo_says_who_did(
    change: dict[str, Any], said: str
) -> None:
    step = replace(STEP, undone=None, undo_took=None, proven_again=None)
    assert said in text(replace(RESULT, steps=(step,), **change))


def test_a_run_without_a_verdict_says_what_it_is() -> None:
    lines = result_lines(replace(RESULT, verdict=None, reason="", state="left"))
    assert lines[0].startswith("LEFT  ")
    assert "has not been undone" in lines[1]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_folding_keeps_every_word_and_the_width(width: int) -> None:
    whole = replace(RESULT, left=(LEFT,))
    folded = result_lines(whole, width=width)
    assert max(map(len, folded)) <= width
    plain = "".join("".join(result_lines(whole)).split())
    assert "".join("".join(folded).split()) == plain


def test_colour_is_only_there_when_asked_for() -> None:
    assert "\x1b" not in text(RESULT)
    assert "\x1b[1;31mDEVIATED\x1b[0m" in text(RESULT, colour=True)


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\u202egnp\x9b31m\r\nHELD  all is well"
    result = replace(
        RESULT,
        title=nasty,
        reason=nasty,
        left=(replace(LEFT, target=nasty, why=nasty),),
        steps=(replace(STEP, text=nasty, targets=(nasty,), outcomes=(nasty,), problem=nasty),),
        checks=(replace(CHECK, name=nasty, first_failure=nasty),),
        learnt=(nasty,),
    )
    for line in [*result_lines(result), *result_lines(result, width=40)]:
        assert line.isprintable(), line
    assert not any(line.startswith("HELD") for line in result_lines(result))


@given(st.text())
def test_printable_is_one_printable_line(raw: str) -> None:
    shown = printable(raw)
    assert not {"\n", "\r", "\x1b", "\x9b", "\u202e"} & set(shown)
    shown.encode()


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
    | st.text(alphabet="_*`[]()<>|~&!#+-=.:;\\/ 1ab\n", max_size=30)
)
@example("_a_ *b* `c` ~~d~~ [e](f) <g> &amp; ![h](i)")
@example("1. a")
@example("# a")
@example("0 #")
@example("- a")
@example("= a")
def test_escaped_text_is_nothing_but_text_in_markdown(raw: str) -> None:
    wanted = " ".join(printable(raw).split())
    for before in ("", "- ", "| | |\n|---|---|\n| a | ", "# "):
        page = MarkdownIt("commonmark").enable("table").enable("strikethrough")
        tokens = page.parse(before + escape(raw) + (" |" if before.startswith("|") else ""))
        inline = [token for token in tokens if token.type == "inline"]
        shown = "".join(
            child.content
            if child.type == "text" or child.type == "text_special"
            else f"<{child.type}>"
            for token in inline
            for child in token.children or []
        )
        shown = shown.removeprefix("a") if before.startswith("|") else shown
        assert " ".join(shown.split()) == wanted
        assert all(token.type in _TAMED for token in tokens), (before, tokens)


_TAMED = {
    *("inline", "paragraph_open", "paragraph_close", "heading_open", "heading_close"),
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"),
    *("tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close"),
}


def test_the_page_holds_everything_in_order() -> None:
    page = markdown(replace(RESULT, left=(LEFT,)))
    assert page.startswith("# Shop stays quick\n\n**DEVIATED**: shop answers failed")
    order = [
        "> One worker is enough.",
        "## What is left, and how to remove it",
        "| By | ann@host |",
        "## What was learnt",
        "## Steps",
        "## Checks",
        "## Timeline",
    ]
    places = [page.index(part) for part in order]
    assert places == sorted(places)
    for part in ("before the release", "10 ok, 2 failed", "abcdef0123456789", "0.75s to 5.81s"):
        assert part in page
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert html.count("<table>") == 2
    assert html.count("<h2>") == 5


def test_empty_parts_leave_no_empty_sections() -> None:
    bare = replace(RESULT, steps=(), checks=(), learnt=(), timeline=(), hypothesis="")
    assert "##" not in markdown(bare)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    state = State.open(tmp_path / "state")
    made, lock = state.new_run()
    lock.drop()
    return made


def test_both_reports_are_written_whole(folder: RunFolder) -> None:
    assert write(folder, RESULT) == ""
    document = json.loads((folder.path / "report.json").read_text())
    assert (document["schema"], document["verdict"], document["exit"]) == (1, "deviated", 1)
    assert document == json.loads(dumps(RESULT.to_json()))
    assert (folder.path / "report.md").read_text() == markdown(RESULT)
    assert (folder.path / "report.md").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "journal.jsonl",
        "lock",
        "report.json",
        "report.md",
    ]


def test_a_report_that_cannot_be_written_is_told_and_leaves_nothing(folder: RunFolder) -> None:
    (folder.path / "report.json").mkdir()
    told = write(folder, RESULT)
    assert "could not be written" in told
    assert str(folder.path) in told
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "journal.jsonl",
        "lock",
        "report.json",
    ]
    (folder.path / "report.json").rmdir()
    (folder.path / "lock").unlink()
    (folder.path / "journal.jsonl").unlink()
    folder.path.rmdir()
    assert "could not be written" in write(folder, RESULT)


def test_text_that_no_encoding_has_can_still_be_reported(folder: RunFolder) -> None:
    odd = replace(RESULT, title="a\udcffb", left=(replace(LEFT, found=float("nan")),))
    assert write(folder, odd) == ""
    document = json.loads((folder.path / "report.json").read_text())
    assert document["title"] == "a\udcffb"
    assert document["left"][0]["found"] is None


PLAN = Plan(
    title="Shop stays quick",
    file="shop.yaml",
    seed=42,
    hash="abcdef0123456789",
    steps=(
        PlannedStep(
            number="1",
            text="pause process cmdline=worker",
            kind="fault",
            hold=10.0,
            matched=40,
            pick="50%",
            targets=tuple(
                PlannedTarget("process", f"{n}:1:b", f"process {n}", (f"{n}:1:b", f"{n}:2:b"))
                for n in range(100, 120)
            ),
            undo="SIGCONT to each process",
            ends="by `chaoskit recover` only",
            passed_over=("process 1: it is pid 1",),
        ),
        PlannedStep(number="2", text="wait 5s", kind="wait", hold=5.0),
    ),
    refusals=(),
    checks=("shop answers",),
    gates=("shop answers: read every 1s, aborts at 3 failures in a row",),
    limits=("at most 3 targets at once", "at most 15m in all"),
    max_duration=900.0,
    seconds=15.0,
)


def test_a_plan_names_every_target_and_what_becomes_of_it() -> None:
    whole = "\n".join(plan_lines(PLAN))
    for number in range(100, 120):
        assert f"- process {number}, 2 changes:" in whole
        assert f"{number}:2:b" in whole
    for part in (
        "picks 50% of 40 that match: 20 chosen",
        "undo: SIGCONT to each process",
        "ends without chaoskit: by `chaoskit recover` only",
        "passed over: process 1: it is pid 1",
        "needs: nothing beyond what you have",
        "at most 3 targets at once",
        "2  wait 5s",
        "seed 42, plan abcdef0123456789",
    ):
        assert part in whole
    assert "REFUSED" not in whole


def test_a_plan_that_may_not_run_says_why() -> None:
    lines = plan_lines(replace(PLAN, refusals=("step 1: nothing matches",), gates=()))
    assert "this run would be REFUSED" in lines
    assert "  - step 1: nothing matches" in lines
    assert any("no gate" in line for line in lines)
