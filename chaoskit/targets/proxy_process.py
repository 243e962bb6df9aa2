"""Proxy processes of ours: started for one run, told by the mark in their command line, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chaoskit.clock import backoff, now, until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process, processes

ALONE = "chaoskit.proxy"
"""Stands for a run, on this machine."""
INSIDE = "chaoskit.proxy.redirected"
"""Is in the network namespace of a target."""
MOST_SECONDS = 24 * 3600.0
"""What one lives at most when nobody says less."""
UP_WITHIN = 10.0
"""Seconds that one may take to answer."""
PARTING = 4.0
"""Seconds in which one that was told to end has ended: inside, it gives open connections two."""
_FOLDER = 3
"""The descriptor by which it sees the run's folder: a socket's path there would be too long."""


def words(program: str, mark: str, control: str) -> list[str]:
    """How its command line begins. control: the name of its socket in the run's folder."""
    place = f"unix:/proc/self/fd/{_FOLDER}/{control}"
    return [sys.executable, "-P", "-m", program, "--mark", mark, "--control", place]


def start(
    command: Sequence[str],
    binding: Binding,
    log: Path,
    spawn: Callable[[Callable[[], int]], int] = lambda work: work(),
) -> None:
    """Start it: in the thread and so in the namespaces in which `spawn` calls what it gets.

    Its standard input is the run's lifeline: it ends when that closes. See `burdens` for the rest
    of it. Raises ChaoskitError, Gone.
    """
    if binding.lifeline is None:
        raise ChaoskitError("a proxy is only started by a run that is going on")
    ends_at = binding.ends_at or now() + MOST_SECONDS
    arguments = [*command, "--ends-at", f"{ends_at:.3f}", "--seed", str(binding.seed)]
    folder = os.open(binding.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    actions = [
        (os.POSIX_SPAWN_DUP2, binding.lifeline, 0),
        (os.POSIX_SPAWN_DUP2, said, 1),
        (os.POSIX_SPAWN_DUP2, said, 2),
        (os.POSIX_SPAWN_DUP2, folder, _FOLDER),
    ]

    def work() -> int:
        return os.posix_spawn(
            sys.executable,
            arguments,
            _environment(),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
        )

    try:
        pid = spawn(work)
    finally:
        os.close(said)
        os.close(folder)
    _started[pid] = command[command.index("--mark") + 1]


def wait_up(mark: str, binding: Binding, answers: Callable[[], bool], log: Path) -> None:
    """Wait until it answers. Raises ChaoskitError saying why it does not, Interrupted."""
    for pause in backoff(UP_WITHIN):
        binding.cancel.check()
        time.sleep(pause)
        if answers():
            return
        _reap()
        if mark not in _started.values():  # Its arguments are not to be seen at first.
            break
    raise ChaoskitError(f"its proxy did not come up: {last_words(log)}")


def part(*those: Process) -> None:
    """Have them end, and wait until they have: by force when they do not by themselves."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in those:
            with contextlib.suppress(Gone):
                process.signal(number)
        if until(lambda: not any(process.alive() for process in those), PARTING):
            return


def last_words(log: Path) -> str:
    """The last line that one has written, and where the others are."""
    said = []
    with contextlib.suppress(OSError):
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{said[-1] if said else 'it said nothing'} (its log: {log})"


_started: dict[int, str] = {}
"""Those that were started here and have not ended, with their marks."""


def _environment() -> dict[str, str]:
    kept = {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _proxies() -> list[tuple[str, Process]]:
    """Every living one on this machine, with its mark."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = process.cmdline()
            # The whole shape, not the mark alone: somebody may be searching for the mark.
            if (
                words[1:3] == ["-P", "-m"]
                and len(words) > 5
                and words[3] in (ALONE, INSIDE)
                and words[4] == "--mark"
            ):
                found.append((words[5], process))
    _reap()  # After the look: who was not living any more is surely there to be reaped.
    return found


def of(mark: str) -> list[Process]:
    """Those of that mark."""
    return [process for found, process in _proxies() if found == mark]


def _reap() -> None:
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _started.pop(pid, None)


def leftover_proxies() -> list[tuple[str, Process]]:
    """Every proxy process that a run has started on this machine, with its mark."""
    return [(mark, p) for mark, p in _proxies() if mark.startswith("chaoskit-")]
