"""What may be asked of a place: helpers beside it, its files, its limits, its clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from chaoskit.capabilities.processes import Proc
from chaoskit.model.binding import Binding
from chaoskit.model.limited import Limited
from chaoskit.model.units import Json


@runtime_checkable
class HasBurdens(Protocol):
    """A place where helper processes of ours can burn or hold something."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run; part of each helper's arguments."""

    def no_burden(self) -> str | None:
        """Why no helper can work there; None when one can."""

    def cpus(self) -> list[int]:
        """The processors that the target may run on. Raises Gone."""

    def burden(self, mark: str, work: Sequence[str], cpus: Sequence[int] = ()) -> None:
        """Start the helper `work` (see `chaoskit.helpers.burden`) under that mark."""

    def burden_alive(self, mark: str) -> bool: ...

    def end_burden(self, mark: str) -> None: ...

    def burden_work(self, mark: str) -> Sequence[str]:
        """The `work` that the helper was started with. Raises Gone when it or the target has
        ended."""

    def burden_report(self, mark: str) -> dict[str, float]:
        """What the helper has done and holds: `cpu` seconds, `wanted` seconds (ran, or waited for
        a processor, or was kept from one by a quota), `age` seconds, `held` bytes of memory, `read`
        and `written` bytes, open `files`, and whether it is `stopped`. Raises Gone when it or the
        target has ended."""

    def memory_free(self) -> int:
        """Bytes that can be taken before the OOM killer is called, cgroup limits included."""

    def memory_room(self) -> int:
        """Bytes that can be taken while the reserve stays free: of the machine 5% or 256 MiB,
        whichever is more, and of each control group with a limit 5% or 16 MiB."""

    def descriptors(self) -> tuple[int, int]:
        """The machine's open descriptors and their limit."""

    def open_numbers(self, key: str) -> Collection[int]:
        """The numbers of the descriptors that the process of that key has open. Raises Gone."""

    def below(self, key: str) -> Sequence[Proc]:
        """The processes below the one of that key; none when it has ended."""


@runtime_checkable
class HasFiles(Protocol):
    """Has a file system."""

    binding: Binding

    def filler(self, path: str) -> str:
        """The key of our filler file in that folder: an absolute path, seen from the host."""

    def mark_of(self, key: str) -> str | None:
        """The mark in that file; None when there is no file; its first line when not ours. Raises
        ChaoskitError when its disk is not mounted."""

    def grow(self, key: str, size: int | None, until: float | None) -> None:
        """Make the filler (O_EXCL) and let it grow to `size` bytes, or until the file system is
        used to that fraction, whichever is given; looks at the abort between parts and keeps the
        reserve (5% or 256 MiB, whichever is more) free, stopping there."""

    def unlink(self, key: str) -> None: ...

    def host_folder(self, path: str) -> str:
        """The folder that the target calls `path`, as this machine sees it, now and when the
        target has ended. Raises ChaoskitError when there is none that we may write in, Gone when
        the target has ended."""

    def space(self, path: str) -> tuple[int, int]:
        """(free bytes for ordinary users, all bytes) of the file system that a folder of this
        machine is on."""

    def reserve(self, path: str) -> int:
        """Bytes that always stay free there."""

    def size_of(self, key: str) -> int:
        """Bytes that the filler occupies."""


@runtime_checkable
class HasLimits(Protocol):
    """Is kept within limits by the kernel, which can be lowered: `cpu` (processors), `memory`
    (bytes), `pids` (processes), `read` and `write` (bytes a second of one disk)."""

    binding: Binding

    def limited(self, what: str, path: str) -> Limited:
        """How that is limited now. path: which disk is meant. Raises Gone, and ChaoskitError saying
        why it cannot be limited here."""

    def limit_text(self, what: str, path: str, most: float) -> str:
        """What its cell would hold, read back, if that were the most. Raises as `limited` does."""

    def limit_now(self, key: str) -> str:
        """What the cell of that key holds. Raises Gone."""

    def set_limit(self, key: str, text: str) -> None:
        """Raises Gone, and ChaoskitError when the kernel does not take it."""


@runtime_checkable
class HasClock(Protocol):
    """Is told its time by libfaketime, which reads it from a file."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run."""

    def clock_file(self) -> str:
        """The path of that file on this machine, which stays valid when the target has ended.
        Raises Gone, and ChaoskitError when its clock cannot be moved, saying why."""

    def clock_settings(self) -> Mapping[str, str]:
        """What `FAKETIME...` it was started with. Raises Gone, ChaoskitError."""

    def clock_text(self, key: str) -> Json:
        """What is in the file; None when there is none; a mapping when it is no small plain text.
        Raises Gone when it went together with the target."""

    def clock_beside(self, key: str) -> str:
        """Where the file lies that is to take that one's place."""

    def lay_beside(self, key: str, text: str) -> None:
        """Write it there, with the owner and the permissions of the old one."""

    def lies_beside(self, key: str) -> bool: ...

    def take_beside(self, key: str) -> None: ...

    def put_clock(self, key: str) -> None:
        """The file beside takes its place, in one step."""

    def drop_clock(self, key: str) -> None:
        """There is no such file any more."""
