"""Helper processes of ours beside a target: what burns or holds something while a fault is in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chaoskit.capabilities import Proc
from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process, processes, tree

_PROGRAM = Path(__file__).parent.parent / "helpers" / "burden.py"

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
            found = os.sched_getaffinity(self.root.pid)
        except ProcessLookupError as error:
            raise Gone(f"process {self.root.pid} has ended") from error
        self.root.stat()
        return sorted(found)

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
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM), mark, f"{ends_at:.3f}", *work],
                # No more than an interpreter needs that was built with a shared library.
                {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.binding.lifeline, 0),
                    (os.POSIX_SPAWN_DUP2, nothing, 1),
                    (os.POSIX_SPAWN_DUP2, nothing, 2),
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
        if cpus:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(pid, cpus)

    def burden_alive(self, mark: str) -> bool:
        return bool(_of(mark))

    def end_burden(self, mark: str) -> None:
        for process, _ in _of(mark):
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)

    def burden_work(self, mark: str) -> list[str]:
        """What the helper was told to do. Raises Gone."""
        return self._helper(mark)[1]

    def burden_report(self, mark: str) -> dict[str, float]:
        """What the helper has done and holds; see the capability. Raises Gone."""
        process, _ = self._helper(mark)
        counters = process.io()
        return {
            "cpu": process.cpu_seconds(),
            "wanted": _wanted(process),
            "age": process.age(),
            "rss": process.rss(),
            "read": counters.get("rchar", 0),
            "written": counters.get("wchar", 0),
            "files": process.open_files() - 3,
            "stopped": process.state() != "running",
        }

    def _helper(self, mark: str) -> tuple[Process, list[str]]:
        self.root.stat()
        for found in _of(mark):
            return found
        raise Gone(f"the helper {mark} has ended")

    def memory_free(self) -> int:
        return _memory()[0]

    def memory_room(self) -> int:
        return _memory()[1]

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


def _memory() -> tuple[int, int]:
    # The helper asks the same before each part that it takes: what refuses and what stops agree.
    from chaoskit.helpers.burden import memory_free

    return memory_free()


def _wanted(process: Process) -> float:
    """Seconds that it ran or waited for a processor; where the kernel does not count the waiting,
    those that it ran."""
    with contextlib.suppress(Gone, ValueError):
        return max(sum(process.scheduled()), process.cpu_seconds())
    return process.cpu_seconds()


_started: list[int] = []


def _reap() -> None:
    """Helpers of this process that have ended are no zombies for longer than need be."""
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with contextlib.suppress(ValueError):
            _started.remove(pid)


def _helpers() -> list[tuple[str, Process, list[str]]]:
    """Every living helper on this machine: its mark, its process, its work."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = process.cmdline()
            # The whole shape, not the mark alone: somebody may be searching for the mark.
            if len(words) > 6 and words[3].endswith(f"/{_PROGRAM.parent.name}/{_PROGRAM.name}"):
                found.append((words[4], process, words[6:]))
    _reap()  # After the look: who was not living any more is surely there to be reaped.
    return found


def _of(mark: str) -> list[tuple[Process, list[str]]]:
    return [(process, work) for found, process, work in _helpers() if found == mark]


def leftover_helpers() -> list[tuple[str, Process]]:
    """Every helper process on this machine, with its mark."""
    return [(mark, p) for mark, p, _ in _helpers() if mark.startswith("chaoskit-")]
