"""A proxy of chaoskit's own that stands for one run: a helper process with one link."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.targets import proxy_process
from chaoskit.targets.proxy_client import Client


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
        begin = proxy_process.words(proxy_process.ALONE, self.mark, self.control.name)
        return [*begin, "--link", link.listen, link.upstream, link.protocol]

    def alive(self) -> bool:
        return bool(proxy_process.of(self.mark))

    def there(self) -> bool:
        return self.alive()

    def left(self) -> bool:
        """Whether anything of it is there: one that was killed leaves its socket's name."""
        return self.alive() or self.control.exists()

    def start(self) -> None:
        """Start it and wait until it answers. Raises ChaoskitError saying why it does not,
        Interrupted."""
        log = self.binding.folder / f"proxy-{self.link.id}.log"
        proxy_process.start(self.words(), self.binding, log)
        proxy_process.wait_up(self.mark, self.binding, self.answers, log)

    def end(self) -> None:
        for process in proxy_process.of(self.mark):
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
