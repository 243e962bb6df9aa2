"""A Docker daemon, or Podman's compatible socket, asked by the SDK, with its errors in our words.

Whatever goes wrong with a daemon (missing, refusing, hanging, too old) is one ChaoskitError that
names it, within some seconds; a container or network that is not there is Gone.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
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
from requests.exceptions import RequestException, Timeout

from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone

R = TypeVar("R")

ANSWER = 4.0
"""Seconds in which a daemon answers what it only has to look up, or counts as hanging."""
WORK = 30.0
"""The same for what it has to do: it may have much to do at once."""
SILENT = 5.0
"""Seconds for which one that did not answer is not asked again: each step would cost as long."""
OLDEST = "1.24"
"""The oldest API that we speak: that of Docker 1.12, from 2016."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a daemon listens. url: unix://, tcp:// or ssh://. tls: the folder with ca.pem, cert.pem
    and key.pem, empty without TLS. verify: whether its certificate is checked."""

    url: str
    tls: str = ""
    verify: bool = True

    def __str__(self) -> str:
        return self.url


class NoDaemon(ChaoskitError):
    """No daemon answers there. Nothing is known of any container."""


def where(url: str | None, environment: Mapping[str, str] = os.environ) -> Where:
    """The daemon of that URL; without one that of DOCKER_HOST, or of the usual socket."""
    url = url or environment.get("DOCKER_HOST") or _usual(environment)
    tls, verify = "", bool(environment.get("DOCKER_TLS_VERIFY"))
    if url.startswith(("tcp://", "https://")):
        home = Path(environment.get("HOME", "/root")) / ".docker"
        given = environment.get("DOCKER_CERT_PATH") or (str(home) if verify else "")
        tls = given
    return Where(url, tls, verify)


def _usual(environment: Mapping[str, str]) -> str:
    docker = Path("/var/run/docker.sock")
    mine = environment.get("XDG_RUNTIME_DIR", "/run")
    podmans = [Path(mine) / "podman/podman.sock", Path("/run/podman/podman.sock")]
    found = next((path for path in (docker, *podmans) if path.exists()), docker)
    return f"unix://{found}"


class Daemon:
    """One daemon. Safe to use from several threads; nothing is asked before the first call."""

    def __init__(self, place: Where) -> None:
        self.where = place
        self._guard = threading.Lock()
        self._clients: dict[float, Any] = {}
        self._silent = -SILENT
        self._version = ""

    def look(self, ask: Callable[[Any], R]) -> R:
        """What `ask` gets from the SDK's APIClient. Raises Gone, NoDaemon, ChaoskitError."""
        return self._call(ask, ANSWER)

    def do(self, ask: Callable[[Any], R], longer: float = 0.0) -> R:
        """The same for what takes the daemon its time. longer: seconds that it may take more."""
        return self._call(ask, WORK + longer)

    def containers(self) -> list[dict[str, Any]]:
        """Every container as its list tells of it, in one request."""
        found: list[dict[str, Any]] = self.look(lambda api: api.containers(all=True))
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the daemon knows of a container. Raises Gone."""
        found: dict[str, Any] = self.look(lambda api: api.inspect_container(container))
        return found

    def _call(self, ask: Callable[[Any], R], patience: float) -> R:
        if now() - self._silent < SILENT:
            raise NoDaemon(f"the Docker daemon at {self.where} has just not answered")
        try:
            return ask(self._client(patience))
        except NotFound as error:
            raise Gone(_told(error)) from error
        except APIError as error:
            raise ChaoskitError(f"the Docker daemon says: {_told(error)}") from error
        except (DockerException, RequestException, OSError, ValueError) as error:
            raise self._no_daemon(error, patience) from error

    def _client(self, patience: float) -> Any:
        with self._guard:
            if patience not in self._clients:
                self._clients[patience] = self._connect(patience)
            return self._clients[patience]

    def _connect(self, patience: float) -> Any:
        tls: Any = False
        if self.where.tls:
            folder = Path(self.where.tls)
            tls = TLSConfig(
                client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
                ca_cert=str(folder / "ca.pem") if self.where.verify else None,
                verify=self.where.verify,
            )
        if not self._version:
            # Asked once, and with little patience: whoever hangs does so here.
            with_it = APIClient(base_url=self.where.url, version=OLDEST, timeout=ANSWER, tls=tls)
            told = str(with_it.version(api_version=False).get("ApiVersion", ""))
            if not told or version_lt(told, OLDEST):
                raise ValueError(f"it speaks API {told or 'unknown'}; {OLDEST} is the oldest we do")
            self._version = NEWEST if version_lt(NEWEST, told) else told
        return APIClient(base_url=self.where.url, version=self._version, timeout=patience, tls=tls)

    def _no_daemon(self, error: BaseException, patience: float) -> NoDaemon:
        causes = list(_causes(error))
        if any(isinstance(cause, Timeout | TimeoutError) for cause in causes):
            self._silent = now()
            return NoDaemon(
                f"the Docker daemon at {self.where} did not answer within {patience:g}s"
            )
        for cause in causes:
            if isinstance(cause, OSError) and cause.errno:
                why = (os.strerror(cause.errno)).lower()
                hint = _HINTS.get(cause.errno, "")
                return NoDaemon(f"no Docker daemon answers at {self.where}: {why}{hint}")
        return NoDaemon(f"the Docker daemon at {self.where} cannot be asked: {causes[-1]}")


_HINTS = {
    errno.ENOENT: " (is it running? DOCKER_HOST or the target's `host:` name another place)",
    errno.ECONNREFUSED: " (is it running?)",
    errno.EACCES: " (be root, or a member of the group docker)",
}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, the SDK wraps what urllib3 wraps what the system says."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        at = todo.pop(0)
        if not isinstance(at, BaseException) or id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        todo += [*at.args, getattr(at, "reason", None), at.__cause__, at.__context__]


def _told(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())


@cache
def daemon(place: Where) -> Daemon:
    """The daemon at that place, one for each process and place."""
    return Daemon(place)
