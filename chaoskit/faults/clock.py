"""Move the clock of a container, where libfaketime tells its programs the time.

What libfaketime reads is a file: a new one is laid beside it and takes its place in one step, so
that nobody reads half of it. Both are cells of their own: a runner that dies between the two leaves
nothing beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaoskit.capabilities import HasClock
from chaoskit.clock import backoff
from chaoskit.errors import ChaoskitError, Gone, Interrupted, Refused
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Duration, Json

LONGEST = 20 * 365 * 86400.0
"""Seconds: further away, programs fail for reasons of their own."""
_SMALLEST = 0.001
_CACHED = 10
"""Seconds for which libfaketime keeps what it has read, when nobody says otherwise."""
_LOADS = 1.0
"""Seconds that a program which has just begun may take to load it."""
_OURS = "# chaoskit-"
"""How a file of ours begins: a remark to libfaketime."""
_BESIDE = "beside:"
_SAYS_WHO = ("FAKETIME_ONLY_CMDS", "FAKETIME_SKIP_CMDS", "FAKETIME_START_AFTER_SECONDS",
             "FAKETIME_START_AFTER_NUMCALLS", "FAKETIME_STOP_AFTER_SECONDS",
             "FAKETIME_STOP_AFTER_NUMCALLS")  # fmt: skip
"""Settings by which a program is told the true time in spite of the file."""


@dataclass(frozen=True)
class Clock(Fault[HasClock]):
    """Move its clock ahead or behind, where libfaketime is loaded in it and reads a file.

    It is proven that the file says so; not that a program has asked for the time since. Programs
    without libfaketime (static ones) see the true time.
    """

    ahead: Duration | None = field(
        default=None,
        metadata={"min": _SMALLEST, "max": LONGEST, "doc": "how far into the future"},
    )
    behind: Duration | None = field(
        default=None, metadata={"min": _SMALLEST, "max": LONGEST, "doc": "how far into the past"}
    )
    name = "clock"
    needs = HasClock
    examples = ({"ahead": "1h"},)

    def problems(self) -> list[tuple[str, str]]:
        if (self.ahead is None) == (self.behind is None):
            return [("ahead", "say where to: either ahead or behind")]
        return []

    def way_back(self) -> str:
        return "the file that libfaketime reads is as it was"

    def privileges(self, target: HasClock) -> tuple[str, ...]:
        return ("root, to write in the container's file system",)

    def remarks(self, target: HasClock) -> tuple[str, ...]:
        settings = target.clock_settings()
        found = ["of all programs in it that read the same file by libfaketime, and of no others"]
        if settings.get("FAKETIME_NO_CACHE") != "1":
            seconds = settings.get("FAKETIME_CACHE_DURATION", str(_CACHED))
            found.append(f"they see it up to {seconds}s later, and its end too")
        if settings.get("FAKETIME_DONT_FAKE_MONOTONIC") != "1":
            found.append("their CLOCK_MONOTONIC jumps as well, so waits end early or late")
        if now := target.clock_text(target.clock_file()):
            found.append(f"in place of {str(now).strip()!r}, which libfaketime is told now")
        if others := [name for name in _SAYS_WHO if name in settings]:
            found.append(f"{', '.join(others)} may keep programs from seeing it")
        return tuple(found)

    def refuse(self, target: HasClock) -> str | None:
        try:
            now = target.clock_text(key := target.clock_file())
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        if str(now).startswith(_OURS):
            return f"its clock is moved already: {key} is another run's"
        return None

    def changes(self, target: HasClock) -> Iterator[Change]:
        try:
            key = target.clock_file()
            was = target.clock_text(key)
        except Gone:
            return
        except ChaoskitError as error:
            raise Refused(str(error)) from error
        yield Change(f"{_BESIDE}{key}", None, target.mark)
        yield Change(key, was, self._text(target))

    def _text(self, target: HasClock) -> str:
        seconds = self.ahead if self.ahead is not None else -(self.behind or 0.0)
        offset = f"{seconds:+.3f}".rstrip("0").rstrip(".")
        return f"# {target.mark}\n{offset}\n"

    def look(self, target: HasClock, change: Change) -> Json:
        if key := _beside(change):
            return target.mark if target.lies_beside(key) else None
        return target.clock_text(change.key)

    def make(self, target: HasClock, change: Change) -> None:
        if key := _beside(change):
            target.lay_beside(key, self._text(target))
        else:
            target.put_clock(change.key)

    def unmake(self, target: HasClock, change: Change) -> None:
        if key := _beside(change):
            target.take_beside(key)
        elif target.clock_text(change.key) == change.put:
            self.overwrite(target, change)

    def overwrite(self, target: HasClock, change: Change) -> None:
        if key := _beside(change):
            target.take_beside(key)
        elif change.was is None:
            target.drop_clock(change.key)
        else:
            target.lay_beside(change.key, str(change.was))
            target.put_clock(change.key)

    def took(self, target: HasClock, changes: Sequence[Change]) -> bool:
        """The file that its first process is told to read is ours, and libfaketime is loaded there
        (also after a restart: a program that has just begun is given a moment to load it)."""
        for change in changes:
            if not _beside(change):
                try:
                    ours = target.clock_text(change.key) == change.put
                    return ours and _reads(target, change.key)
                except Interrupted:
                    raise
                except ChaoskitError:
                    return False
        return False


def _reads(target: HasClock, path: str) -> bool:
    """Whether its first process reads this file, or will in a moment. Raises Gone, Interrupted."""
    for pause in backoff(_LOADS):
        if pause and target.binding.cancel.wait(pause):
            raise Interrupted("the run is aborting")
        try:
            return target.clock_file() == path
        except Gone:
            raise
        except ChaoskitError:
            continue
    return False


def _beside(change: Change) -> str:
    """The file that the cell lies beside, if it is that one."""
    return change.key.removeprefix(_BESIDE) if change.key.startswith(_BESIDE) else ""
