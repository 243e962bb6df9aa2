"""Processes as targets: found by what they are, held by incarnation, tree and role."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from chaoskit.capabilities import Proc
from chaoskit.errors import Gone
from chaoskit.matching import ProcessMatch
from chaoskit.model.binding import Binding
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.procfs import Process, tree, with_environment
from chaoskit.targets.burdens import Burdens
from chaoskit.targets.files import Files
from chaoskit.targets.protect import why_protected

RESTARTED = "CHAOSKIT_RESTARTED"
"""In the environment of what a `restart` command starts: its token."""


class ProcessTarget(Burdens, Files, Target):
    """One process with everything below it, and the role it fills: what its selector matches.

    root: the process. role: the selector that found it, None when it cannot have a successor.
    peers_then: the keys of all that filled the role when this one was found.
    """

    kind = "process"

    def __init__(
        self,
        root: Process,
        binding: Binding,
        role: ProcessSelector | None,
        peers_then: frozenset[str],
        label: str,
        cwd: str,
    ) -> None:
        self.root = root
        self.binding = binding
        self.role = role
        self.peers_then = peers_then
        self._label = label
        self._cwd = cwd

    @property
    def key(self) -> str:
        return self.root.key

    @property
    def label(self) -> str:
        return self._label

    @property
    def complement(self) -> int:
        return len(self.peers_then)

    @property
    def has_role(self) -> bool:
        return self.role is not None

    def tree(self) -> list[Process]:
        return tree(self.root)

    def process(self, key: str) -> Process:
        return Process.from_key(key)

    def claim(self) -> Claim:
        within = frozenset(p.key for p in self.root.ancestors() if p.pid != 1)
        return Claim(frozenset(p.key for p in self.tree()) | {self.key}, within)

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return why_protected(self.tree(), allowed_users)

    def ref(self) -> Json:
        role = None
        if self.role is not None:
            role = {f.name: getattr(self.role.match, f.name) for f in fields(ProcessMatch)}
        return {
            "key": self.key,
            "role": role,
            "peers": sorted(self.peers_then),
            "label": self._label,
            "cwd": self._cwd,
        }

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> ProcessTarget:
        assert isinstance(ref, Mapping)
        known: Any = ref
        role = None if known["role"] is None else ProcessSelector.of(known["role"])
        return cls(
            Process.from_key(known["key"]),
            binding,
            role,
            frozenset(known["peers"]),
            known["label"],
            known["cwd"],
        )

    def peers(self) -> list[Proc]:
        """All that fill the role now; none where a role cannot be told."""
        return list(self.role.matching()) if self.role is not None else []

    def successors(self) -> list[Proc]:
        new = [p for p in self.peers() if p.key not in self.peers_then]
        return sorted(new, key=lambda process: Process.from_key(process.key).start)

    def describe(self, process: Proc) -> str:
        return _label(Process.from_key(process.key))

    def start(self, command: str | tuple[str, ...], token: str) -> None:
        """In a session of its own and in the folder that the target worked in.

        Our descriptors are closed by the kernel when the command begins (they are close-on-exec),
        not before: the run's lock is ours and the child's until then, so that the next undoer,
        who needs the lock, sees either no child or one whose environment holds the token.
        """
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        output = os.open(
            self.binding.folder / "restarted.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            where = self._cwd if Path(self._cwd).is_dir() else "/"
            # posix_spawn cannot change the folder; a shell that becomes the command can.
            pid = os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", 'cd "$0" && exec "$@"', where, *words],
                {**os.environ, **self.binding.environment, RESTARTED: token},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, nothing, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP],
            )
        finally:
            os.close(output)
            os.close(nothing)
        _restarted.append(pid)

    def started(self, token: str) -> bool:
        _reap()
        return bool(with_environment(f"{RESTARTED}={token}".encode()))


_restarted: list[int] = []


def _reap() -> None:
    """Take note of those of ours that ended again, so that they are no zombies for ever."""
    for pid in list(_restarted):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _restarted.remove(pid)


@dataclass(frozen=True)
class ProcessSelector(ProcessMatch, Selector):
    """Processes on this machine."""

    kind = "process"
    target = ProcessTarget

    @classmethod
    def of(cls, match: Mapping[str, Any]) -> ProcessSelector:
        return cls(**match)

    @property
    def match(self) -> ProcessSelector:
        return self

    def matching(self) -> list[Process]:
        """All that match, without those that chaoskit itself consists of."""
        return self.find_processes()

    def find(self, binding: Binding) -> list[Target]:
        found = self.matching()
        role = None if self.pid is not None else self
        peers = frozenset(process.key for process in found)
        targets: list[Target] = []
        for process in found:
            with contextlib.suppress(Gone):
                try:
                    cwd = process.cwd()
                except PermissionError:
                    cwd = "/"
                label = _label(process)
                targets.append(ProcessTarget(process, binding, role, peers, label, cwd))
        return targets

    def describe(self) -> str:
        return f"process {self.written()}"


def _label(process: Process) -> str:
    try:
        words = " ".join(process.cmdline()) or f"[{process.name()}]"
    except (Gone, PermissionError):
        return f"process {process.pid}"
    words = re.sub(r"\s+", " ", words)
    return f"process {process.pid} ({words if len(words) <= 60 else words[:57] + '...'})"
