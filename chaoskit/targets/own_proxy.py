"""A proxy of chaoskit's own that stands for one run: a helper process with one link."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaoskit.clock import backoff, now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.procfs import Process, processes
from chaoskit.targets.proxy_client import Client

MODULE = "chaoskit.proxy"
MOST_SECONDS = 24 * 3600.0
"""What it lives at most when nobody says less."""
UP_WITHIN = 10.0
"""Seconds that it may take to answer."""
_FOLDER = 3
"""The descriptor by which it sees the run's folder."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where it listens and where that leads, as `host:port`."""

    listen: str
    upstream: str
    protocol: str

    @property
    def id(self) -> str:
        """Short, and fit for the name of a file."""
        told = f"{self.listen} {self.upstream} {self.protocol}"
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    def __str__(self) -> str:
        udp = " (udp)" if self.protocol == "udp" else ""
        return f"{self.listen} -> {self.upstream}{udp}"


class OwnProxyTarget(Target):
    """The process of one run's own proxy."""

    kind = "own-proxy"

    def __init__(self, link: Link, binding: Binding) -> None:
        self.link = link
        self.binding = binding

    @property
    def mark(self) -> str:
        return f"chaoskit-{self.binding.run}-proxy-{self.link.id}"

    @property
    def key(self) -> str:
        return f"process {self.mark}"

    @property
    def label(self) -> str:
        return f"chaoskit's own proxy for {self.link}"

    @property
    def control(self) -> Path:
        return self.binding.folder / f"proxy-{self.link.id}.sock"

    @property
    def client(self) -> Client:
        return Client("http://localhost", str(self.control))

    def claim(self) -> Claim:
        return Claim(frozenset({self.key}))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return None

    def ref(self) -> Json:
        return dict(asdict(self.link))

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> OwnProxyTarget:
        known: Any = ref
        return cls(Link(**known), binding)

    def words(self) -> list[str]:
        """Its command line, but for what is only known when it starts."""
        link = self.link
        return [sys.executable, "-P", "-m", MODULE, "--mark", self.mark,
                "--control", f"unix:/proc/self/fd/{_FOLDER}/{self.control.name}",
                "--link", link.listen, link.upstream, link.protocol]  # fmt: skip

    def alive(self) -> bool:
        return bool(_of(self.mark))

    def there(self) -> bool:
        return self.alive()

    def left(self) -> bool:
        """Whether anything of it is there: one that was killed leaves its socket's name."""
        return self.alive() or self.control.exists()

    def start(self) -> None:
        """Start it and wait until it answers. Raises ChaoskitError saying why it does not,
        Interrupted.

        Its standard input is the run's lifeline: it ends when that closes. See `burdens` for the
        rest of it.
        """
        if self.binding.lifeline is None:
            raise ChaoskitError("a proxy is only started by a run that is going on")
        ends_at = self.binding.ends_at or now() + MOST_SECONDS
        log = self.binding.folder / f"proxy-{self.link.id}.log"
        folder = os.open(self.binding.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [*self.words(), "--ends-at", f"{ends_at:.3f}", "--seed", str(self.binding.seed)],
                _environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.binding.lifeline, 0),
                    (os.POSIX_SPAWN_DUP2, said, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                    (os.POSIX_SPAWN_DUP2, folder, _FOLDER),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
            )
        finally:
            os.close(said)
            os.close(folder)
        _started.append(pid)
        self._wait(log)

    def _wait(self, log: Path) -> None:
        for pause in backoff(UP_WITHIN):
            self.binding.cancel.check()
            time.sleep(pause)
            with contextlib.suppress(ChaoskitError):
                if self.client.links():
                    return
            if not self.alive():
                break
        words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise ChaoskitError(f"it did not come up: {words[-1] if words else 'it said nothing'}")

    def end(self) -> None:
        for process in _of(self.mark):
            with contextlib.suppress(Gone):
                process.signal(signal.SIGKILL)
        self.control.unlink(missing_ok=True)

    def answers(self) -> bool:
        try:
            return bool(self.client.links())
        except ChaoskitError:
            return False

    def port_taken(self) -> str | None:
        """Why it could not listen there now; None when it could, or does already."""
        host, _, port = self.link.listen.rpartition(":")
        kind = socket.SOCK_DGRAM if self.link.protocol == "udp" else socket.SOCK_STREAM
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)[0]
            with socket.socket(found[0], kind) as trial:
                if kind == socket.SOCK_STREAM:
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(found[4])
                if kind == socket.SOCK_STREAM:
                    trial.listen(1)
        except OSError as error:
            if self.alive():
                return None
            why = (error.strerror or str(error)).lower()
            return f"a proxy of ours cannot listen on {self.link.listen}: {why}"
        return None

    def upstream_silent(self) -> str | None:
        """Why nobody was heard at the other end; None when somebody was, or with UDP, where
        nobody need answer."""
        if self.link.protocol == "udp":
            return None
        host, _, port = self.link.upstream.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), 1.0).close()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            return f"nobody answers at {self.link.upstream} now: {why}"
        return None


class OwnProxySelector(Selector):
    """Only so that the journal's own proxies are made again like everything else."""

    kind = "own-proxy"
    target = OwnProxyTarget

    def find(self, binding: Binding) -> list[Target]:
        return []

    def describe(self) -> str:
        return "own-proxy"


_started: list[int] = []


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
            if words[1:5] == ["-P", "-m", MODULE, "--mark"] and len(words) > 5:
                found.append((words[5], process))
    _reap()  # After the look: who was not living any more is surely there to be reaped.
    return found


def _of(mark: str) -> list[Process]:
    return [process for found, process in _proxies() if found == mark]


def _reap() -> None:
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with contextlib.suppress(ValueError):
            _started.remove(pid)


def leftover_proxies() -> list[tuple[str, Process]]:
    """Every proxy process that a run has started on this machine, with its mark."""
    return [(mark, p) for mark, p in _proxies() if mark.startswith("chaoskit-")]
