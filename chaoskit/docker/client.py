"""A Docker daemon, or Podman's compatible socket, asked by the SDK, with its errors in our words.

Whatever goes wrong with a daemon (missing, refusing, hanging, too old) is one ChaoskitError that
names it, within some seconds; a container or network that is not there is Gone.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

# Loaded here and not when first asked: a guardian has it in memory, even when the disk is gone.
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION as NEWEST
from docker.errors import APIError, DockerException, NotFound
from docker.tls import TLSConfig
from docker.utils import version_lt
from requests.exceptions import RequestException
from urllib3.exceptions import InsecureRequestWarning

from chaoskit.clock import now, within
from chaoskit.docker.ssh import Adapter
from chaoskit.docker.trouble import NoDaemon, Silent, Told, no_daemon, no_docker
from chaoskit.errors import ChaoskitError, Gone

R = TypeVar("R")

FIRST = 3.5
"""Seconds in which a daemon says who it is and lists what it has, or counts as hanging."""
ANSWER = 10.0
"""The same for what it has to look up of one container: while it starts that, nobody is told."""
WORK = 30.0
"""The same for what it has to do: it may have much to do at once."""
LISTED = 0.2
"""Seconds for which one list serves all who look at the same time."""
SILENT = 5.0
"""Seconds for which one that did not answer is not asked again: each step would cost as long."""
OLDEST = "1.24"
"""The oldest API that we speak: that of Docker 1.12, from 2016."""
_SCHEMES = ("unix://", "tcp://", "ssh://", "http://", "https://")
CONNECTIONS = 16
"""How many are kept open: as many targets are worked on at once."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a daemon listens. url: unix://, tcp:// or ssh://. tls: the folder with ca.pem, cert.pem
    and key.pem, empty without TLS. verify: whether its certificate is checked."""

    url: str
    tls: str = ""
    verify: bool = True

    def __str__(self) -> str:
        return self.url


def where(url: str | None, environment: Mapping[str, str] = os.environ) -> Where:
    """The daemon of that URL; without one that of DOCKER_HOST, or of the usual socket."""
    url = url or environment.get("DOCKER_HOST") or _usual(environment)
    tls, verify = "", bool(environment.get("DOCKER_TLS_VERIFY"))
    if url.startswith(("tcp://", "https://")):
        home = Path(environment.get("HOME", "/root")) / ".docker"
        tls = environment.get("DOCKER_CERT_PATH") or (str(home) if verify else "")
        # The guardian works elsewhere, and `recover` may be called from anywhere.
        tls = os.path.abspath(tls) if tls else ""
    return Where(url, tls, verify)


def _usual(environment: Mapping[str, str]) -> str:
    docker = Path("/var/run/docker.sock")
    mine = Path(environment.get("XDG_RUNTIME_DIR") or "/run")
    others = [mine / "docker.sock", mine / "podman/podman.sock", Path("/run/podman/podman.sock")]
    found = next((path for path in (docker, *others) if path.exists()), docker)
    return f"unix://{found}"


class Daemon:
    """One daemon. Safe to use from several threads; nothing is asked before the first call."""

    def __init__(self, place: Where) -> None:
        self.where = place
        self._guard = threading.Lock()
        self._clients: dict[float, Any] = {}
        self._silent = -SILENT
        self._version = ""
        self._listed: tuple[float, list[dict[str, Any]]] = (-math.inf, [])
        self._hosts: dict[str, frozenset[str]] = {}

    def look(self, ask: Callable[[Any], R]) -> R:
        """What `ask` gets from the SDK's APIClient. Raises Gone, NoDaemon, ChaoskitError."""
        return self._call(ask, ANSWER)

    def do(self, ask: Callable[[Any], R], longer: float = 0.0) -> R:
        """The same for what takes the daemon its time. longer: seconds that it may take more."""
        return self._call(ask, WORK + longer)

    def containers(self, age: float = 0.0) -> list[dict[str, Any]]:
        """Every container as its list tells of it, in one request; or as the last answer to that
        did, if it is not older than `age` seconds."""
        listed, found = self._listed
        if now() - listed <= age:
            return found
        began = now()
        found = self._call(lambda api: api.containers(all=True), FIRST)
        if not isinstance(found, list) or not all(_has(one, "Id") for one in found):
            raise no_docker(str(self.where), "its list of containers is none")
        self._listed = began, found
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the daemon knows of a container. Raises Gone."""
        found: Any = self.look(lambda api: api.inspect_container(container))
        if not (_has(found, "Id") and isinstance(found.get("State"), dict)):
            raise no_docker(str(self.where), "it does not say how a container is")
        return dict(found)

    def hosts_of(self, containers: Iterable[str]) -> dict[str, frozenset[str]]:
        """Of each of these, by id, the containers (by id or by name) in whose network, among whose
        processes or in whose shared memory it was started. That never changes: each is asked for
        once, several at a time. Without those that are gone."""

        def ask(container: str) -> None:
            with contextlib.suppress(Gone):
                modes = self.inspect(container).get("HostConfig") or {}
                words = [str(modes.get(key)) for key in ("NetworkMode", "PidMode", "IpcMode")]
                self._hosts[container] = frozenset(
                    word.removeprefix("container:")
                    for word in words
                    if word.startswith("container:")
                )

        wanted = list(containers)
        if new := [one for one in wanted if one not in self._hosts]:
            with ThreadPoolExecutor(min(CONNECTIONS, len(new))) as pool:
                list(pool.map(ask, new))
        return {one: self._hosts[one] for one in wanted if one in self._hosts}

    def close(self) -> None:
        """Let go of the connections; the next call makes new ones."""
        with self._guard:
            while self._clients:
                self._clients.popitem()[1].close()

    def _call(self, ask: Callable[[Any], R], patience: float) -> R:
        try:
            return ask(self._client(patience))
        except NotFound as error:
            raise Gone(_told(error)) from error
        except APIError as error:
            raise ChaoskitError(f"the Docker daemon says: {_told(error)}") from error
        except (DockerException, RequestException, OSError, ValueError) as error:
            raise self._trouble(error, patience) from error

    def _client(self, patience: float) -> Any:
        with self._guard:
            # Whoever waited for the lock while another one waited for the daemon need not, too.
            if now() - self._silent < SILENT:
                raise NoDaemon(f"the Docker daemon at {self.where} has just not answered")
            if not self._version:
                self._version = self._handshake()
            if patience not in self._clients:
                self._clients[patience] = self._connect(self._version, patience)
            return self._clients[patience]

    def _handshake(self) -> str:
        """The version of its API that we speak with it. Raises NoDaemon."""

        def ask() -> Any:
            with self._connect(OLDEST, FIRST) as api:
                return api.version(api_version=False)

        try:
            about = within(FIRST, ask)
        except APIError as error:
            raise no_docker(str(self.where), _told(error)) from error
        except (DockerException, RequestException, OSError, ValueError) as error:
            raise self._trouble(error, FIRST) from error
        if not _has(about, "ApiVersion"):
            raise no_docker(str(self.where), "it does not tell the version of its API")
        told = about["ApiVersion"]
        try:
            old = version_lt(told, OLDEST)
        except (ValueError, TypeError) as error:
            raise no_docker(str(self.where), f"it says that its API is {told}") from error
        if old:
            raise NoDaemon(
                f"the Docker daemon at {self.where} is too old: it speaks version {told} of the "
                f"API, and {OLDEST} is the oldest that we do"
            )
        return str(NEWEST if version_lt(NEWEST, told) else told)

    def _connect(self, version: str, patience: float) -> Any:
        if not self.where.url.startswith(_SCHEMES):
            raise ValueError(f"expected {', '.join(_SCHEMES[:2])} or {_SCHEMES[2]}")
        options = {"version": version, "timeout": patience, "max_pool_size": CONNECTIONS}
        if self.where.url.startswith("ssh://"):
            api = APIClient(base_url="unix:///ssh", **options)
            api.mount("http+docker://", Adapter(self.where.url, patience, CONNECTIONS))
        else:
            api = APIClient(base_url=self.where.url, tls=self._tls(), **options)
        # A proxy or a list of authorities for the web is not for daemons; and the guardian and
        # `recover` shall reach what the runner has reached, whatever their environment.
        api.trust_env = False
        return api

    def _tls(self) -> Any:
        if not self.where.tls:
            return False
        folder = Path(self.where.tls)
        authority, *ours = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        needed = [*([authority] if self.where.verify else []), *ours]
        if missing := [str(path) for path in needed if not path.is_file()]:
            raise Told(f"TLS needs {missing[0]}, which is not there")
        if not self.where.verify:
            warnings.simplefilter("ignore", InsecureRequestWarning)  # The user has said so.
        return TLSConfig(
            client_cert=tuple(map(str, ours)),
            ca_cert=str(authority) if self.where.verify else None,
            verify=self.where.verify,
        )

    def _trouble(self, error: BaseException, patience: float) -> NoDaemon:
        found = no_daemon(str(self.where), error, patience)
        if isinstance(found, Silent):
            self._silent = now()
        return found


def _has(found: Any, key: str) -> bool:
    return isinstance(found, dict) and bool(found.get(key))


def _told(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())


@cache
def daemon(place: Where) -> Daemon:
    """The daemon at that place, one for each process and place."""
    return Daemon(place)
