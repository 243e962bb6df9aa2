"""The live view: what it shows at which moment, and on what kinds of terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyte
import pytest

from chaoskit.model.result import Event
from chaoskit.model.units import Unit
from chaoskit.report.board import ASCII, MOST_ROWS, Board
from chaoskit.report.live import Plain, event_lines

CHECKS = ["shop answers", "queue is short"]
UNITS = {"shop answers": {"latency": Unit.DURATION}}


def event(kind: str, at: float, text: str = "", **data: Any) -> Event:
    return Event(kind, at, text, data)


def sample(check: str, at: float, sight: str = "ok", gate: str = "ok", **data: Any) -> Event:
    return event("sample", at, check=check, sight=sight, gate=gate, **{"detail": "", **data})


STORY = [
    event("plan", 0.0, plan={"checks": CHECKS}),
    event("phase", 0.01, "reading the steady state", phase="before"),
    sample("shop answers", 0.05, found={"latency": 0.012}, gate=""),
    event("phase", 0.1, phase="method"),
    event(
        "step",
        0.2,
        "step 1: pause on process 812",
        step="1",
        title="pause process cmdline=worker",
        what="fault",
        hold=10.0,
        targets=["process 812 (python worker.py)"],
    ),
    event("injected", 0.5, "pause is in and proven", step="1", targets=["process 812"], until=10.5),
    sample("shop answers", 1.0, found={"latency": 0.25}),
    sample(
        "shop answers",
        2.0,
        "failed",
        "1 of 3 failures in a row",
        found={"latency": 2.0},
        detail="latency is 2s, expected below 500ms",
    ),
]


def board(events: list[Event], **options: Any) -> Board:
    made = Board("Shop stays quick", "One worker is enough.", UNITS, **options)
    for one in events:
        made.feed(one)
    return made


def shown(made: Board, at: float, width: int = 120) -> str:
    return "\n".join("".join(text for text, _ in row) for row in made.rows(at, width))


def test_a_fault_that_is_in_shows_its_target_and_counts_down() -> None:
    early, late = (shown(board(STORY), at) for at in (3.0, 9.5))
    assert "IN   1 pause process cmdline=worker" in early
    assert "on process 812" in early
    assert "7.5s left of 10s" in early
    assert "1.0s left of 10s" in late
    assert early.count("━") < late.count("━")


def test_a_fault_that_is_not_proven_yet_is_not_said_to_be_in() -> None:
    text = shown(board(STORY[:5]), 0.4)
    assert "into 1 pause" in text
    assert "IN " not in text


def test_readings_are_marks_with_the_last_value_in_its_unit_and_what_the_gate_thinks() -> None:
    healthy = shown(board(STORY[:7]), 1.5)
    assert "✓✓" in healthy
    assert "latency 250ms" in healthy
    text = shown(board(STORY), 2.5)
    assert "✓✓✗" in text
    assert "latency is 2s, expected below 500ms" in text
    assert "gate: 1 of 3 failures in a row" in text
    assert "queue is short" in text
    assert "not read yet" in text


def test_an_unread_check_has_a_mark_of_its_own() -> None:
    text = shown(board([*STORY, sample("queue is short", 3, "unread", detail="refused")]), 3)
    assert "?" in text
    assert "refused" in text


def test_what_is_undone_is_no_longer_shown() -> None:
    text = shown(board([*STORY, event("released", 10.6, "undone", step="1", took=0.1)]), 11.0)
    assert "IN " not in text
    assert "process 812" not in text


def test_a_wait_counts_down_and_goes_when_the_next_step_begins() -> None:
    wait = event("step", 11.0, "step 2: wait 5s", step="2", title="wait 5s", what="wait", hold=5.0)
    text = shown(board([*STORY[:4], wait]), 13.0)
    assert "now  2 wait 5s" in text
    assert "3.0s left of 5s" in text
    third = event("step", 16.0, "x", step="3", title="run x", what="run", hold=30.0, targets=[])
    text = shown(board([*STORY[:4], wait, third]), 16.1)
    assert "wait 5s" not in text
    assert "run x" in text


def test_parallel_steps_are_shown_together() -> None:
    both = [
        event("step", 1, "a", step=f"2.{n}", title=f"wait {n}s", what="wait", hold=n)
        for n in (1, 2)
    ]
    text = shown(board([*STORY[:4], *both]), 1.1)
    assert "wait 1s" in text
    assert "wait 2s" in text


def test_an_abort_says_why_and_that_a_second_ctrl_c_changes_nothing() -> None:
    assert "Ctrl-C undoes everything and stops" in shown(board(STORY), 3)
    text = shown(board([*STORY, event("abort", 3, "aborting: SIGINT received", by="signal")]), 3)
    assert "aborting: SIGINT received" in text
    assert "undoing; a second Ctrl-C changes nothing" in text
    assert "Ctrl-C undoes everything" not in text


def test_many_checks_and_steps_do_not_fill_the_screen() -> None:
    names = [f"check {n}" for n in range(40)]
    steps = [
        event("step", 1, "a", step=f"1.{n}", title=f"wait {n}s", what="wait", hold=9)
        for n in range(40)
    ]
    made = board([event("plan", 0, plan={"checks": names}), *steps])
    assert len(made.rows(2, 120)) <= 2 * MOST_ROWS + 6
    assert "and 34 more checks" in shown(made, 2)
    assert "and 34 more steps" in shown(made, 2)


def test_ascii_terminals_get_ascii() -> None:
    text = shown(board(STORY, signs=ASCII), 3)
    assert text.isascii()
    assert "++x" in text


def test_nothing_from_outside_steers_the_terminal() -> None:
    nasty = "\x1b[2J\x07\nHELD"
    made = Board(nasty, nasty)
    for one in [
        event("plan", 0, plan={"checks": [nasty]}),
        event("step", 0, nasty, step="1", title=nasty, what="fault", hold=1, targets=[nasty]),
        sample(nasty, 1, "failed", nasty, found={nasty: nasty}, detail=nasty),
        event("abort", 2, nasty, by="halt"),
    ]:
        made.feed(one)
    for width in (40, 120):
        for row in made.rows(3, width):
            assert all(text.isprintable() for text, _ in row)
    assert all(line.isprintable() for line in event_lines(event("note", 1, nasty)))


def test_plain_lines_carry_the_time_and_silent_events_have_none() -> None:
    assert event_lines(event("note", 1.2042, "paused")) == ["[  1.204s] paused"]
    assert event_lines(sample("x", 1)) == []
    assert event_lines(event("abort", 2, "aborting: SIGINT", by="signal"))[1:] == [
        "[  2.000s] undoing; a second Ctrl-C changes nothing"
    ]


def test_a_terminal_that_is_held_delays_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-S, or a pipe that nobody reads: the observer returns at once all the same."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    view = Plain()
    told = threading.Event()

    def flood() -> None:
        for n in range(3000):
            view(event("note", n, "x" * 100))
        told.set()

    threading.Thread(target=flood, daemon=True).start()
    try:
        assert told.wait(20), "the observer waited for the reader"
    finally:
        drained = threading.Thread(target=_drain, args=(reading,))
        drained.start()
        view.close()
        stream.close()
        drained.join()


def _drain(file: int) -> None:
    while os.read(file, 65536):
        pass
    os.close(file)


def test_a_reader_that_goes_away_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as raw:
        monkeypatch.setattr(sys, "stdout", _Unbuffered(raw))
        view = Plain()
        for n in range(100):
            view(event("note", n, "x"))
        view(event("abort", 1, "aborting", by="halt"))
        view.close()
    assert view.aborted_by == "halt"


class _Unbuffered:
    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def write(self, text: str) -> None:
        self.raw.write(text.encode())

    def flush(self) -> None:
        self.raw.flush()


PLAYER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_live import STORY, UNITS
from chaoskit.model.result import Event
from chaoskit.report import live
view = live.choose(
    json=False, plain="--plain" in sys.argv, title="Shop stays quick \\u2744 " + "long " * 30,
    hypothesis="One worker is enough.", units=UNITS)
for event in STORY:
    view(event)
sys.stdin.readline()
view(Event("abort", 3.0, "aborting: SIGINT received", {"by": "signal"}))
sys.stdin.readline()
view.close()
print("THE END")
"""


class Terminal:
    """A program on a terminal of so many columns, and what a person would see on it."""

    def __init__(self, columns: int, environment: Mapping[str, str], *words: str) -> None:
        self.screen = pyte.HistoryScreen(columns, 30, history=1000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.file, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAYER, str(Path(__file__).parent), *words],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**clean, "TERM": "xterm-256color", "PYTHONUTF8": "1", **environment},
            start_new_session=True,
        )
        os.close(inner)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def until(self, text: str) -> list[str]:
        """Read on until the screen shows the text; fails after a while."""
        os.set_blocking(self.file, False)
        end = time.monotonic() + 30
        while not any(text in line for line in self.lines()):
            assert time.monotonic() < end, (text, self.lines())
            try:
                data = os.read(self.file, 65536)
                self.raw += data
                self._stream.feed(data)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # The other end is closed.
                assert any(text in line for line in self.lines()), (text, self.lines())
        return self.lines()

    def enter(self) -> None:
        os.write(self.file, b"\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.file)


@pytest.mark.parametrize("columns", [40, 120])
def test_on_a_terminal_the_picture_stays_below_the_lines(columns: int) -> None:
    terminal = Terminal(columns, {})
    try:
        lines = terminal.until("✓✓✗")
        text = "\n".join(lines)
        bottom = next(n for n, line in enumerate(lines) if "method," in line)
        scrolled = next(n for n, line in enumerate(lines) if "reading the steady" in line)
        assert scrolled < bottom
        for part in ("Shop stays quick ❄", "IN   1 pause", "left of 10s", "✓✓✗", "shop answers"):
            assert part in text
        assert "expected" in text
        assert text.count("Shop stays quick") == 1
        terminal.enter()
        text = "\n".join(terminal.until("a second Ctrl-C changes nothing"))
        assert text.count("left of 10s") == 1, "a picture was left behind"
        terminal.enter()
        lines = terminal.until("THE END")
        assert not any("left of 10s" in line for line in lines), "the picture outlived the run"
        assert any("aborting: SIGINT received" in line for line in lines)
        assert b"\x1b[31m" in terminal.raw or b"\x1b[1;31m" in terminal.raw
    finally:
        terminal.close()


def test_no_color_is_respected() -> None:
    terminal = Terminal(80, {"NO_COLOR": "1"})
    try:
        terminal.until("✓✓✗")
        for colour in (b"[31m", b"[1;31m", b"[32m", b"[33m"):
            assert colour not in terminal.raw
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("environment", "words"), [({"TERM": "dumb"}, []), ({}, ["--plain"])], ids=["dumb", "plain"]
)
def test_a_terminal_that_only_prints_gets_plain_lines(
    environment: dict[str, str], words: list[str]
) -> None:
    terminal = Terminal(80, environment, *words)
    try:
        terminal.until("[  0.500s] pause is in and proven")
        terminal.enter()
        terminal.until("a second Ctrl-C changes nothing")
        terminal.enter()
        terminal.until("THE END")
        assert b"\x1b" not in terminal.raw
    finally:
        terminal.close()
