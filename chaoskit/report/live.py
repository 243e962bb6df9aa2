"""Shows a run while it goes on: the live view on a terminal, plain lines anywhere else.

The engine only drops its events into a queue and never waits: a terminal that is held by Ctrl-S,
or a pipe that nobody reads, delays no undo. One thread of ours does all the writing.
"""

from __future__ import annotations

import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from chaoskit.clock import now
from chaoskit.model.result import Event
from chaoskit.report.stream import on_terminal, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live as RichLive

    from chaoskit.report.board import Board, Signs, Units

REFRESH = 0.1
"""Seconds between two pictures of the live view."""

_LINE_STYLES = {"abort": "bold red", "problem": "yellow", "note": "yellow", "injected": "bold"}


class View(ABC):
    """An Observer that writes in a thread of its own, until `close`."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="view", daemon=True)
        self._thread.start()
        self.aborted_by = ""
        """What pulled the cord, as the run told: `gate`, `halt`, `signal`, ...; or ""."""

    def __call__(self, event: Event) -> None:
        if event.kind == "abort":
            self.aborted_by = str(event.data.get("by", ""))
        self._events.put(event)

    def close(self) -> None:
        """Show all that was told, and stop."""
        self._events.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._show()
        except Exception:  # A view that fails (its reader is gone) fails alone.
            while self._events.get() is not None:
                pass

    @abstractmethod
    def _show(self) -> None:
        """Take from the queue and show, until it gives None."""


class Silent(View):
    """Shows nothing: for --json."""

    def _show(self) -> None:
        while self._events.get() is not None:
            pass


class Plain(View):
    """A line for each event that has a text: `[  1.204s] paused process 812: proven`."""

    def _show(self) -> None:
        stream = sys.stdout
        while (event := self._events.get()) is not None:
            for line in event_lines(event):
                stream.write(line + "\n")
            if self._events.empty():
                stream.flush()


class Live(View):
    """The picture at the bottom of the terminal, with the lines of the run scrolling above."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._began = now()
        super().__init__()

    def _show(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        picture = _Picture(self._board, lambda: now() - self._began)
        with RichLive(
            picture,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        ) as live:
            while self._step(console, live):
                live.refresh()

    def _step(self, console: Console, live: RichLive) -> bool:
        """Take what there is, waiting for one picture's time; whether to go on."""
        from rich.text import Text

        for event in self._pending():
            if event is None:
                return False
            self._began = now() - event.at
            self._board.feed(event)
            for line in event_lines(event):
                console.print(Text(line, style=_LINE_STYLES.get(event.kind, "")))
        return True

    def _pending(self) -> Iterator[Event | None]:
        try:
            yield self._events.get(timeout=REFRESH)
            while True:
                yield self._events.get_nowait()
        except queue.Empty:
            return


class _Picture:
    """The board as rich shows it: each row cut to the width, never wrapped."""

    def __init__(self, board: Board, clock: Callable[[], float]) -> None:
        self._board = board
        self._clock = clock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for row in self._board.rows(self._clock(), options.max_width):
            text = Text(no_wrap=True, overflow="ellipsis", end="\n")
            for piece, style in row:
                text.append(piece, style)
            yield text


def event_lines(event: Event) -> list[str]:
    """The event as plain lines; none when only the live view needs it."""
    lines = [f"[{event.at:7.3f}s] {printable(event.text)}"] if event.text else []
    if event.kind == "abort" and event.data.get("by") == "signal":
        lines.append(f"[{event.at:7.3f}s] undoing; a second Ctrl-C changes nothing")
    return lines


def _signs() -> Signs:
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    from chaoskit.report.board import ASCII, Signs

    return Signs() if encoding.replace("-", "").startswith("utf8") else ASCII


def choose(
    *, json: bool, plain: bool, title: str, hypothesis: str = "", units: Units | None = None
) -> View:
    """The view that fits: none with JSON, the live one on a terminal that can show it."""
    if json:
        return Silent()
    if plain or not on_terminal(sys.stdout):
        return Plain()
    from chaoskit.report.board import Board

    return Live(Board(title, hypothesis, units, _signs()))
