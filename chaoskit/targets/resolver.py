"""The name servers that a target asks, and a helper process of ours that answers in their place."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chaoskit import nft
from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.namespaces import in_network_of
from chaoskit.procfs import Process, processes
from chaoskit.targets.folders import followed
from chaoskit.targets.network import Network

MOST_SECONDS = 24 * 3600.0
"""What a helper lives at most when nobody says less."""

_PROGRAM = Path(__file__).parent.parent / "helpers" / "dns.py"
_CONFIGURATION = "/etc/resolv.conf"
_LONGEST = 65536
"""Bytes of that file which are read."""
_PORT = 53
_TRIES = 20
"""How often a port is looked for that is free for UDP and for TCP."""
_FIRST = 3
"""The first of the helper's descriptors; ours are moved far above before they are put there."""
_ABOVE = 200


class Resolver(Network):
    """Gives the capability `HasResolver`."""

    def resolvers(self) -> list[str]:
        """See the capability. Raises Gone, ChaoskitError."""
        try:
            text = _read_inside(self.root, _CONFIGURATION)
        except FileNotFoundError:
            self.root.stat()
            text = ""
        except OSError as error:
            self.root.stat()
            raise ChaoskitError(f"its {_CONFIGURATION} cannot be read: {error}") from error
        found: dict[str, None] = {}
        for line in text.splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    found[str(ipaddress.ip_address(words[1]))] = None
        return list(found) or ["127.0.0.1"]  # As resolv.conf(5) has it.

    def answer_names(self, mark: str, plan: Mapping[str, Any]) -> None:
        """See the capability. Raises Gone, ChaoskitError."""
        if self.binding.lifeline is None:
            raise ChaoskitError("a helper is only started by a run that is going on")
        resolvers = self.resolvers()
        with contextlib.ExitStack() as until_started:
            target = os.pidfd_open(self.root.pid)
            until_started.callback(os.close, target)
            self.root.stat()  # What was opened is of this incarnation if it is alive by now.
            ends, descriptors = [], [self._high(target, until_started)]
            for resolver in resolvers:
                end: dict[str, Any] = {"resolver": resolver}
                pair = in_network_of(self.root, partial(_bound, resolver))
                for name, made in zip(("udp", "tcp"), pair, strict=True):
                    until_started.enter_context(made)
                    end[name] = _FIRST + len(descriptors)
                    descriptors.append(self._high(made.fileno(), until_started))
                ends.append(end | {"port": pair[0].getsockname()[1]})
            whole = {
                **plan,
                "nft": nft.program(),
                "table": nft.table_name(self.mark),
                "target": _FIRST,
                "ends": ends,
            }
            self._start(mark, json.dumps(whole), descriptors)

    def _start(self, mark: str, plan: str, descriptors: Sequence[int]) -> None:
        """See `burdens` for how a helper is started."""
        assert self.binding.lifeline is not None
        ends_at = self.binding.ends_at or now() + MOST_SECONDS
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_DUP2, self.binding.lifeline, 0),
            (os.POSIX_SPAWN_DUP2, nothing, 1),
            (os.POSIX_SPAWN_DUP2, nothing, 2),
            *(
                (os.POSIX_SPAWN_DUP2, descriptor, number)
                for number, descriptor in enumerate(descriptors, _FIRST)
            ),
        ]

        def spawn() -> int:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM), mark, f"{ends_at:.3f}", plan],
                {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ},
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
            )

        try:
            _started.append(in_network_of(self.root, spawn))
        finally:
            os.close(nothing)

    @staticmethod
    def _high(descriptor: int, until: contextlib.ExitStack) -> int:
        """The same with a number that the helper has no use for."""
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        until.callback(os.close, high)
        return high

    def answering(self, mark: str) -> dict[str, Any] | None:
        """The plan of the living helper of that mark; None when there is none."""
        return next((json.loads(plan) for found, _, plan in _helpers() if found == mark), None)

    def end_answering(self, mark: str) -> None:
        for found, process, _ in _helpers():
            if found == mark:
                with contextlib.suppress(Gone):
                    process.signal(signal.SIGKILL)

    def ask_resolver(self, resolver: str, query: bytes, wait: float) -> bytes | None:
        """What is answered to a query that is sent as the target sends it; None for silence.
        Raises OSError when it cannot be sent, or is refused; Gone."""

        def ask() -> bytes | None:
            family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as made:
                made.settimeout(wait)
                made.connect(_place(resolver))
                made.send(query)
                try:
                    return made.recv(65535)
                except TimeoutError:
                    return None

        return in_network_of(self.root, ask)


def _bound(resolver: str) -> tuple[socket.socket, socket.socket]:
    """A socket for datagrams and one that listens, on the same port of the loopback."""
    family, loopback = (
        (socket.AF_INET6, "::1") if ":" in resolver else (socket.AF_INET, "127.0.0.1")
    )
    for _ in range(_TRIES):
        udp, tcp = (socket.socket(family, k) for k in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        try:
            udp.bind((loopback, 0))
            tcp.bind((loopback, udp.getsockname()[1]))
            tcp.listen()
            return udp, tcp
        except OSError as error:
            udp.close()
            tcp.close()
            why = error
    raise ChaoskitError(f"no port of {loopback} in its network can be had: {why}")


def _place(resolver: str) -> Any:
    found = socket.getaddrinfo(resolver, _PORT, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    return found[0][4]


def _read_inside(process: Process, path: str) -> str:
    """A small file as the process sees it: links are followed inside its world, not ours."""
    root = f"/proc/{process.pid}/root"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(root + followed(root, path), flags)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError("it is no file")
        found = os.read(file, _LONGEST).decode(errors="replace")
    finally:
        os.close(file)
    process.stat()
    return found


_started: list[int] = []


def _helpers() -> Iterator[tuple[str, Process, str]]:
    """Every living helper on this machine: its mark, its process, its plan."""
    found = []
    for process in processes():
        with contextlib.suppress(Gone, PermissionError):
            words = process.cmdline()
            # The whole shape, not the mark alone: somebody may be searching for the mark.
            if len(words) == 7 and words[3].endswith(f"/{_PROGRAM.parent.name}/{_PROGRAM.name}"):
                found.append((words[4], process, words[6]))
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with contextlib.suppress(ValueError):
            _started.remove(pid)
    return iter(found)


def leftover_resolvers() -> list[tuple[str, Process]]:
    """Every such helper on this machine, with its mark."""
    return [(mark, p) for mark, p, _ in _helpers() if mark.startswith("chaoskit-")]
