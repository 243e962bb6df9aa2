"""What may be asked of a target that is made of processes."""

from __future__ import annotations

import signal
from typing import Protocol, runtime_checkable

from chaoskit.model.binding import Binding


class Proc(Protocol):
    """One incarnation of a process. Every method raises Gone once it has ended."""

    @property
    def key(self) -> str:
        """pid, start time and boot id."""

    @property
    def pid(self) -> int: ...

    def state(self) -> str:
        """`running`, `stopped` or `traced`; a zombie is Gone."""

    def age(self) -> float:
        """Seconds since it was started."""

    def stopping(self) -> bool:
        """Whether it has stopped, or a SIGSTOP that was sent is about to stop it."""

    def signal(self, number: signal.Signals) -> None:
        """Send to this incarnation and to no successor of its pid."""

    def file_limit(self) -> tuple[int, int]:
        """RLIMIT_NOFILE as (soft, hard)."""

    def set_file_limit(self, soft: int) -> None: ...

    def open_files(self) -> int:
        """How many descriptors it has open."""


@runtime_checkable
class HasProcesses(Protocol):
    """A tree of processes: can be paused, killed, limited."""

    binding: Binding

    def tree(self) -> list[Proc]:
        """The target's processes now, parents first. Empty when it has ended."""

    def process(self, key: str) -> Proc:
        """The process of that key; does no look-up, its methods raise Gone."""


@runtime_checkable
class HasRole(HasProcesses, Protocol):
    """Fills a role that others may take over: what matches the selector that found it."""

    @property
    def has_role(self) -> bool:
        """Whether a successor could be told: a process named by its pid has none."""

    def describe(self, process: Proc) -> str:
        """A process for people, on one line."""

    def peers(self) -> list[Proc]:
        """All that match the role now (protected ones left out), without the newcomers."""

    def newcomers(self) -> bool:
        """Whether somebody matches who was not there when this target was found, and who has begun
        too recently to tell whether he stays."""

    @property
    def complement(self) -> int:
        """How many matched when this target was found."""

    def successors(self) -> list[Proc]:
        """The peers that were not there when this target was found, oldest first."""

    def start(self, command: str | tuple[str, ...], token: str) -> None:
        """Start a process that outlives chaoskit, its output in the run's folder, and which can be
        found again by its token however soon after the call everybody else dies."""

    def called(self, token: str) -> bool:
        """Whether that was done already, in this undo."""

    def started(self, token: str, since: float = 0.0) -> bool:
        """Whether a process that was started under this token is alive, and has been for so many
        seconds."""
