"""Processes as targets: found by what they are, held by incarnation, tree and role."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from chaoskit.capabilities import Proc
from chaoskit.clock import now
from chaoskit.errors import Gone
from chaoskit.matching import ProcessMatch
from chaoskit.model.binding import Binding
from chaoskit.model.redact import Redactor
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.procfs import Process, tree
from chaoskit.targets import restart
from chaoskit.targets.burdens import Burdens
from chaoskit.targets.docker_protect import container_ids, container_key
from chaoskit.targets.files import Files
from chaoskit.targets.protect import why_protected

SETTLED = 0.3
"""Seconds that a process must have lived to count as somebody who fills a role."""
_COME = 1.0
"""Seconds for which those who come one after the other are waited for."""
_WIDE = 60
"""Characters of a command line that are shown."""


class ProcessTarget(Burdens, Files, Target):
    """One process with everything below it, and the role it fills: what its selector matches.

    root: the process. role: the selector that found it, None when it cannot have a successor.
    peers_then: the keys of all that filled the role when this one was found. spared: keys that
    never fill it: the runner and what it runs in, which the guardian would not know for that.
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
        spared: frozenset[str] = frozenset(),
    ) -> None:
        self.root = root
        self.binding = binding
        self.role = role
        self.peers_then = peers_then
        self._label = label
        self._cwd = cwd
        self.spared = spared

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

    def tree(self) -> list[Proc]:
        return list(tree(self.root))

    def process(self, key: str) -> Process:
        return Process.from_key(key)

    def there(self) -> bool:
        return self.root.alive()

    def claim(self) -> Claim:
        within = {p.key for p in self.root.ancestors() if p.pid != 1}
        tree = self.tree()
        for process in tree:
            with contextlib.suppress(Gone, PermissionError):
                within |= {container_key(id) for id in container_ids(self.process(process.key))}
        return Claim(frozenset(p.key for p in tree) | {self.key}, frozenset(within))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return why_protected(tree(self.root), allowed_users)

    def ref(self) -> Json:
        role = None
        if self.role is not None:
            role = {f.name: getattr(self.role, f.name) for f in fields(ProcessMatch)}
        return {
            "key": self.key,
            "role": role,
            "peers": list[Json](sorted(self.peers_then)),
            "spared": list[Json](sorted(self.spared)),
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
            frozenset(known.get("spared", ())),
        )

    def peers(self) -> list[Proc]:
        """All that fill the role now; none where a role cannot be told. One that has only just
        begun does not yet: a shell's subshell and a child before its exec look like their parent
        for a moment."""
        return [p for p in self._alike() if p.key in self.peers_then or _age(p) >= SETTLED]

    def newcomers(self) -> bool:
        return any(p.key not in self.peers_then and _age(p) < SETTLED for p in self._alike())

    def _alike(self) -> list[Process]:
        return self.role.find_processes(self.spared) if self.role is not None else []

    def successors(self) -> list[Proc]:
        new = [p for p in self.peers() if p.key not in self.peers_then]
        return sorted(new, key=lambda process: Process.from_key(process.key).start)

    def describe(self, process: Proc) -> str:
        return _label(Process.from_key(process.key), self.binding.redactor)

    def start(self, command: str | tuple[str, ...], token: str) -> None:
        """In the folder that the target worked in, not in the one that chaoskit was called from:
        that is where its relative paths led."""
        restart.start(
            command,
            self._own(token),
            folder=self._cwd,
            output=self.binding.folder / "restarted.log",
            environment=self.binding.environment,
        )
        with contextlib.suppress(OSError):  # A full disk keeps nobody from being started again.
            self._call(token).touch()

    def _call(self, token: str) -> Path:
        return self.binding.folder / f"{self._own(token)}{restart.CALLED}"

    def called(self, token: str) -> bool:
        return self._call(token).exists()

    def started(self, token: str, since: float = 0.0) -> bool:
        return restart.started(self._own(token), since)

    def _own(self, token: str) -> str:
        """Two targets of one step are two roles: each has its own restart."""
        return f"{token}-{self.key}"


@dataclass(frozen=True)
class ProcessSelector(ProcessMatch, Selector):
    """Processes on this machine."""

    kind = "process"
    target = ProcessTarget

    @classmethod
    def of(cls, match: Mapping[str, Any]) -> ProcessSelector:
        return cls(**match)

    def matching(self) -> list[Process]:
        """All that match, without those that chaoskit itself consists of."""
        return self.find_processes()

    def find(self, binding: Binding) -> list[Target]:
        found = self.matching()
        # Whoever is there for a moment only is neither hurt nor missed; and whoever has just begun
        # and stays is one of them, not the successor of somebody who is hurt next.
        end = now() + _COME
        while (young := any(_age(one) < SETTLED for one in found)) and now() < end:
            time.sleep(SETTLED / 3)
            found = self.matching()
        if young:
            found = [process for process in found if _age(process) >= SETTLED]
        role = None if self.pid is not None else self
        peers = frozenset(process.key for process in found)
        own = Process.at(os.getpid())
        spared = frozenset(p.key for p in (own, *own.ancestors()) if p.pid != 1)
        targets: list[Target] = []
        for process in found:
            with contextlib.suppress(Gone):
                try:
                    cwd = process.cwd()
                except PermissionError:
                    cwd = "/"
                label = _label(process, binding.redactor)
                targets.append(ProcessTarget(process, binding, role, peers, label, cwd, spared))
        return targets

    def describe(self) -> str:
        return f"process {self.written()}"


def _age(process: Process) -> float:
    try:
        return process.age()
    except Gone:
        return 0.0


def _label(process: Process, redactor: Redactor) -> str:
    """`process 812 (python worker.py)`: on one line, and long paths by their last part.

    Without secrets before anything is cut: a piece of one would not be known for what it is.
    """
    try:
        words = process.cmdline() or [f"[{process.name()}]"]
    except (Gone, PermissionError):
        return f"process {process.pid}"
    told = redactor.text(" ".join(words))
    if len(told) > _WIDE:
        told = " ".join(word.rstrip("/").rpartition("/")[2] or word for word in told.split(" "))
    told = re.sub(r"\s+", " ", told)
    return f"process {process.pid} ({told if len(told) <= _WIDE else told[: _WIDE - 3] + '...'})"
