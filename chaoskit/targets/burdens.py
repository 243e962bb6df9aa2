"""Helper processes of ours beside a target: what burns or holds something while a fault is in."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process, cgroup_memory_free, processes, with_argument

_PROGRAM = Path(__file__).parent.parent / "helpers" / "burden.py"
_MARK = re.compile(r"chaoskit-\d{8}-\d{6}-[0-9a-f]{6}-\d.*")
# A guardian has the run alone in its arguments, a helper its step too.

MOST_SECONDS = 24 * 3600.0
"""What a helper lives at most when nobody says less."""


class Burdens:
    """A target beside which helpers of ours can work: gives the capability `HasBurdens`."""

    binding: Binding
    root: Process

    @property
    def mark(self) -> str:
        return f"{self.binding.mark}-{self.root.pid}"

    def cpus(self) -> list[int]:
        try:
            return sorted(os.sched_getaffinity(self.root.pid))
        except ProcessLookupError as error:
            raise Gone(f"process {self.root.pid} has ended") from error

    def burden(self, mark: str, work: Sequence[str], cpus: Sequence[int] = ()) -> None:
        """Start a helper under that mark; it ends when the run's lifeline closes.

        Our descriptors are closed by the kernel when the helper's program begins (they are
        close-on-exec), not before: the run's lock is held until then, so that the next undoer,
        who needs the lock, sees the mark. No PR_SET_PDEATHSIG: it follows the thread that
        started the helper, and a pool's threads come and go.
        """
        if self.binding.lifeline is None:
            raise ChaoskitError("a helper is only started by a run that is going on")
        from chaoskit.clock import now

        ends_at = self.binding.ends_at or now() + MOST_SECONDS
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM), mark, f"{ends_at:.3f}", *work],
                {"PATH": os.defpath},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.binding.lifeline, 0),
                    (os.POSIX_SPAWN_DUP2, nothing, 1),
                    (os.POSIX_SPAWN_DUP2, nothing, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(nothing)
        _started.append(pid)
        if cpus:
            os.sched_setaffinity(pid, cpus)

    def burden_alive(self, mark: str) -> bool:
        _reap()
        return bool(with_argument(mark))

    def end_burden(self, mark: str) -> None:
        for process in with_argument(mark):
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        _reap()

    def burden_report(self, mark: str) -> dict[str, float]:
        """What the helper has done and holds; see the capability. Raises Gone."""
        found = with_argument(mark)
        if not found:
            raise Gone(f"the helper {mark} has ended")
        (process, *_) = found
        counters = process.io()
        ran, waited = process.scheduled()
        return {
            "cpu": process.cpu_seconds(),
            "wanted": ran + waited,
            "age": process.age(),
            "rss": process.rss(),
            "read": counters.get("rchar", 0),
            "written": counters.get("wchar", 0),
            "files": process.open_files(),
        }

    def memory_free(self) -> int:
        available = _meminfo("MemAvailable")
        limits = [cgroup_memory_free()]
        return min([available, *(limit for limit in limits if limit is not None)])

    def memory_total(self) -> int:
        return _meminfo("MemTotal")

    def descriptors(self) -> tuple[int, int]:
        used, _, most = Path("/proc/sys/fs/file-nr").read_text().split()
        return int(used), int(most)


_started: list[int] = []


def _reap() -> None:
    """Helpers of this process that have ended are no zombies for longer than need be."""
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with contextlib.suppress(ValueError):
            _started.remove(pid)


def _meminfo(name: str) -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def leftover_helpers() -> list[tuple[str, Process]]:
    """Every helper process on this machine, with its mark."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = process.cmdline()
            if any(word.endswith("burden.py") for word in words):
                found += [(word, process) for word in words if _MARK.fullmatch(word)]
    return found
