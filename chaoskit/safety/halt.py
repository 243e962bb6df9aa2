"""The Andon cord: anyone pulls it, every run undoes and none starts until it is released."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
from dataclasses import asdict, dataclass
from pathlib import Path

from chaoskit.clock import stamp
from chaoskit.errors import StateError
from chaoskit.journal import State


@dataclass(frozen=True, slots=True)
class Halt:
    """Why, who pulled the cord and when (RFC 3339)."""

    reason: str
    who: str
    at: str

    def __str__(self) -> str:
        return f"halted by {self.who} at {self.at}: {self.reason}"


def who() -> str:
    """Who is doing this, for records: `user@host`."""
    try:
        user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def halt_file(state: State) -> Path:
    """There while the cord is pulled. A run looks for it many times a second."""
    return state.path / "halt"


def pull(state: State, reason: str) -> Halt:
    """Halt every run of this state folder. Pulling twice keeps the first reason.

    Raises StateError when the folder cannot be written.
    """
    state.prepare()
    halt = Halt(reason, who(), stamp())
    path = halt_file(state)
    beside = path.with_name(f"halt.{os.getpid()}")
    try:
        beside.write_text(json.dumps(asdict(halt)))
        beside.chmod(state.file_mode)
        try:
            os.link(beside, path)  # Whole at once, and never over an earlier one.
        except FileExistsError:
            return current(state) or halt
    except OSError as error:
        # On a full disk there is no room for a reason, but an empty file halts as well.
        with contextlib.suppress(OSError):
            path.touch(exist_ok=True)
        if not path.exists():
            raise StateError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    return halt


def current(state: State) -> Halt | None:
    """The halt that is on, or None. One that cannot be read is on all the same."""
    try:
        text = halt_file(state).read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Halt(f"(the halt file cannot be read: {error.strerror})", "somebody", "some time")
    try:
        return Halt(**json.loads(text))
    except (ValueError, TypeError):
        return Halt("(no reason in the halt file)", "somebody", "some time")


def release(state: State) -> Halt | None:
    """Let runs start again; the halt that was on, or None. Raises StateError."""
    halt = current(state)
    try:
        halt_file(state).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{halt_file(state)} cannot be removed: {error.strerror}") from error
    return halt
