"""Everything that can go wrong, as one tree, so that each error knows the exit code it leads to.

ChaoskitError
├── InputError      2  the file, a variable or an option is wrong: all problems at once
├── Refused         3  nothing was injected, and this is why
├── StateError      7  the state folder cannot be written or read
├── ProbeError      -  a reading could not be had (a failed check, never a pass)
├── Nobody          -  a name that was looked up is surely nobody's now
├── Gone            -  the incarnation that held a cell is gone
└── Interrupted     -  an abort cut into an injection that was going on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ChaoskitError(Exception):
    """The root: every error that chaoskit raises on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with the input, and where. `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class InputError(ChaoskitError):
    """The input is wrong; nothing was done. Carries every problem found, in file order."""

    def __init__(self, problems: Sequence[Problem | str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class Refused(ChaoskitError):
    """The run may not start or go on: blast radius, halt, claim, no target, missing privilege."""


class StateError(ChaoskitError):
    """The state folder or a journal cannot be used."""


class ProbeError(ChaoskitError):
    """A probe could not read. The message says what was tried and what came back."""


class Nobody(ChaoskitError):
    """Who was asked answers that nobody has that name now. No answer at all is another error."""


class Gone(ChaoskitError):
    """The incarnation that holds a cell is gone (a process ended, a container was removed)."""


class Interrupted(ChaoskitError):
    """The run is aborting: an injection or a wait was cut short."""
