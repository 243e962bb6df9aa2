"""Helper processes of ours beside a target: what burns or holds something while a fault is in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import ClassVar

from chaoskit.capabilities import Proc
from chaoskit.cgroups import (
    groups_of,
    held_back,
    memory_free,
    own_groups,
    take_out,
    time_group,
    to_join,
)
from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.procfs import Process, not_inherited, processes, tree
from chaoskit.targets.rooted import Rooted

_PROGRAM = Path(__file__).parent.parent / "helpers" / "burden.py"

_DEATH = 5.0
"""Seconds that a helper may take to be gone after SIGKILL: freeing much memory takes its time."""
_MEMBERS = "cgroup.procs"
_HELD = "held"
"""The note of how long its control group's quota had held processes back before."""

MOST_SECONDS = 24 * 3600.0
"""What a helper lives at most when nobody says less."""


class Burdens(Rooted):
    """A target beside which helpers of ours can work: gives the capability `HasBurdens`.

    inside: they work in its control groups, and end with it. That is what a container is to its
    kernel: what they use counts as the container's, whatever its image has.
    """

    inside: ClassVar[bool] = False

    def cpus(self) -> list[int]:
        try:
            found = os.sched_getaffinity(self.root.pid)
        except ProcessLookupError as error:
            raise Gone(f"process {self.root.pid} has ended") from error
        self.root.stat()
        return sorted(found)

    def no_burden(self) -> str | None:
        if self.inside:
            for group in to_join(groups_of(self.root)):
                if not group.may_write(_MEMBERS):
                    return f"we may not put a helper into its control group {group.folder}: be root"
        return None

    def burden(self, mark: str, work: Sequence[str], cpus: Sequence[int] = ()) -> None:
        """Start a helper under that mark; it ends when the run's lifeline closes.

        Our descriptors are closed by the kernel when the helper's program begins (they are
        close-on-exec), not before: the run's lock is held until then, so that the next undoer,
        who needs the lock, sees the mark. No PR_SET_PDEATHSIG: it follows the thread that
        started the helper, and a pool's threads come and go.
        """
        if self.binding.lifeline is None:
            raise ChaoskitError("a helper is only started by a run that is going on")
        ends_at = self.binding.ends_at or now() + MOST_SECONDS
        words = [mark, f"{ends_at:.3f}", *self._where(cpus), *work]
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM), *words],
                # No more than an interpreter needs that was built with a shared library.
                {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.binding.lifeline, 0),
                    (os.POSIX_SPAWN_DUP2, nothing, 1),
                    (os.POSIX_SPAWN_DUP2, nothing, 2),
                    *not_inherited(),
                ],
                # Not in a terminal's group: Ctrl-C is the runner's to handle, and it undoes.
                setsid=True,
                # Nothing that the runner ignores or holds back is ignored by the helper.
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
            )
        finally:
            os.close(nothing)
        _started.append(pid)

    def _where(self, cpus: Sequence[int]) -> list[str]:
        """What tells the helper where to work, and us how it was there when it began."""
        own = own_groups()
        groups = groups_of(self.root) if self.inside else own
        found = [f"{_HELD}={held_back(time_group(groups))[0]:.6f}"]
        if "memory" in groups:
            found.append(f"room={groups['memory'].folder}")
        if self.inside:
            found.append(f"with={self.root.pid}:{self.root.start}")
            found += [f"in={group.folder}" for group in to_join(groups)]
            if (back := time_group(own)) is not None:
                found.append(f"out={back.folder}")
        if cpus:
            found.append(f"on={','.join(map(str, cpus))}")
        return found

    def burden_alive(self, mark: str) -> bool:
        return bool(_of(mark))

    def end_burden(self, mark: str) -> None:
        for helper in _of(mark):
            with contextlib.suppress(Gone):
                if self.inside:
                    take_out(helper.process)
                # Its arguments are gone before its memory is: to a look it would be over.
                helper.process.kill(_DEATH)

    def burden_work(self, mark: str) -> list[str]:
        """What the helper was told to do. Raises Gone."""
        return self._helper(mark).work

    def burden_report(self, mark: str) -> dict[str, float]:
        """What the helper has done and holds; see the capability. Raises Gone."""
        helper = self._helper(mark)
        process = helper.process
        counters, age = process.io(), process.age()
        return {
            "cpu": process.cpu_seconds(),
            "wanted": min(age, _wanted(process) + _held_back(helper)),
            "age": age,
            "held": process.shared(),
            "read": counters.get("rchar", 0),
            "written": counters.get("wchar", 0),
            "files": process.open_files() - 3,
            "stopped": process.state() != "running",
        }

    def _helper(self, mark: str) -> _Helper:
        """The one that works: where it has stayed behind itself, its child does."""
        self.root.stat()
        found = _of(mark)
        for helper in found:
            parent = helper.process.parent()
            if len(found) == 1 or parent in [other.process for other in found]:
                return helper
        raise Gone(f"the helper {mark} has ended")

    def memory_free(self) -> int:
        return self._memory()[0]

    def memory_room(self) -> int:
        return self._memory()[1]

    def _memory(self) -> tuple[int, int]:
        return memory_free(groups_of(self.root) if self.inside else own_groups())

    def descriptors(self) -> tuple[int, int]:
        used, _, most = Path("/proc/sys/fs/file-nr").read_text().split()
        return int(used), int(most)

    def open_numbers(self, key: str) -> set[int]:
        process = Process.from_key(key)
        try:
            found = {int(at.name) for at in Path(f"/proc/{process.pid}/fd").iterdir()}
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {process.pid} has ended") from error
        process.stat()
        return found

    def below(self, key: str) -> list[Proc]:
        return list(tree(Process.from_key(key))[1:])


def _wanted(process: Process) -> float:
    """Seconds that it ran or waited for a processor; where the kernel does not count the waiting,
    those that it ran."""
    with contextlib.suppress(Gone, ValueError):
        return max(sum(process.scheduled()), process.cpu_seconds())
    return process.cpu_seconds()


def _held_back(helper: _Helper) -> float:
    """Seconds for which the quotas of its control groups kept it from a processor: it wanted one,
    which is not counted as waiting."""
    total, period = held_back(time_group(groups_of(helper.process)))
    since = total - float(helper.notes.get(_HELD, total))
    return since + period if since > 0 else 0.0


_started: list[int] = []


def _reap() -> None:
    """Helpers of this process that have ended are no zombies for longer than need be."""
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with contextlib.suppress(ValueError):
            _started.remove(pid)


@dataclass(frozen=True, slots=True)
class _Helper:
    """One that lives. notes: what it was told of where it works, each key's last."""

    mark: str
    process: Process
    notes: Mapping[str, str]
    work: list[str]


def _helpers() -> list[_Helper]:
    """Every living helper on this machine."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = process.cmdline()
            # The whole shape, not the mark alone: somebody may be searching for the mark.
            if len(words) > 6 and words[3].endswith(f"/{_PROGRAM.parent.name}/{_PROGRAM.name}"):
                notes = dict(word.split("=", 1) for word in takewhile(_is_note, words[6:]))
                work = list(dropwhile(_is_note, words[6:]))
                found.append(_Helper(words[4], process, notes, work))
    _reap()  # After the look: who was not living any more is surely there to be reaped.
    return found


def _is_note(word: str) -> bool:
    return "=" in word


def _of(mark: str) -> list[_Helper]:
    return [helper for helper in _helpers() if helper.mark == mark]


def leftover_helpers() -> list[tuple[str, Process]]:
    """Every helper process on this machine, with its mark."""
    return [(h.mark, h.process) for h in _helpers() if h.mark.startswith("chaoskit-")]
