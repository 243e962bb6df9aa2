"""Processes that outlive chaoskit, started at most once and found again by a token.

The token is in the environment, which children inherit: a wrapper may end and its daemon live on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from chaoskit.errors import Gone
from chaoskit.procfs import not_inherited, processes

VARIABLE = "CHAOSKIT_RESTARTED"
CALLED = ".called"
"""How the note in a run's folder ends that a restart was called. A person who recovers the run has
it called again, and nobody else."""


def start(
    command: str | tuple[str, ...],
    token: str,
    *,
    folder: str,
    output: Path,
    environment: Mapping[str, str],
) -> None:
    """Start it in a session of its own, in `folder` if that is there, its output appended to the
    file `output`. Does not wait for anything. Raises OSError.

    Our descriptors are closed by the kernel when the command begins (they are close-on-exec),
    not before: the run's lock is ours and the child's until then, so that the next undoer, who
    needs the lock, sees either no child or one whose environment holds the token.
    """
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    # posix_spawn cannot change the folder; a shell that becomes the command can.
    script = 'cd "$0" && exec "$@"'
    if int(Path("/proc/self/oom_score_adj").read_text()) < 0:
        script = f"echo 0 >/proc/self/oom_score_adj; {script}"  # A guardian's, not a service's.
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    log = _log(output, nothing)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", script, folder if Path(folder).is_dir() else "/", *words],
            {**os.environ, **environment, VARIABLE: token},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, nothing, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *not_inherited(),
            ],
            setsid=True,
            # What chaoskit ignores or blocks is its own affair (`nohup chaoskit run`).
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            setsigmask=[],
        )
    finally:
        os.close(nothing)
        if log != nothing:
            os.close(log)
    with _guard:
        _children.add(pid)


def _log(output: Path, otherwise: int) -> int:
    """A full disk or a folder that is gone must not keep anybody from being started again."""
    try:
        return os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return otherwise


def started(token: str, since: float = 0.0) -> bool:
    """Whether something that was started under this token, or a child of it, is alive, and has been
    for so many seconds."""
    _reap()
    wanted = f"{VARIABLE}={token}".encode()
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            if wanted in process.environ() and process.age() >= since:
                return True
    return False


_children: set[int] = set()
_guard = threading.Lock()


def _reap() -> None:
    """Take note of those of ours that ended again, so that they are no zombies for ever."""
    with _guard:
        for pid in list(_children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            _children.remove(pid)
