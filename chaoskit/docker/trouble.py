"""What went wrong with a daemon, in one sentence that says where it was looked for.

The SDK wraps what requests wraps, that wraps urllib3, and that what the system says: only the last
of these helps anybody.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

from requests.exceptions import Timeout

from chaoskit.errors import ChaoskitError


class NoDaemon(ChaoskitError):
    """No daemon answers there. Nothing is known of any container."""


class Silent(NoDaemon):
    """It is there and does not answer."""


class Told(OSError):
    """Its text is the reason, whatever has led to it."""


def no_daemon(place: str, error: BaseException, patience: float) -> NoDaemon:
    """What to tell of an error that is none of a daemon's own answers."""
    causes = list(_causes(error))
    if any(isinstance(cause, Timeout | TimeoutError) for cause in causes):
        return Silent(f"the Docker daemon at {place} did not answer within {patience:g}s")
    for cause in causes:
        if isinstance(cause, OSError) and (why := _of_system(cause)):
            return NoDaemon(f"no Docker daemon answers at {place}: {why}")
    last = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
    return NoDaemon(f"no Docker daemon answers at {place}: {last}")


def no_docker(place: str, told: str) -> NoDaemon:
    """Of something that answers, but not as a daemon does."""
    hint = " (DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are for that)" if "HTTPS" in told else ""
    return NoDaemon(f"what answers at {place} is no Docker daemon: {told[:200]}{hint}")


def _of_system(error: OSError) -> str:
    """Why, in the system's words; empty when it gives no reason."""
    if isinstance(error, Told):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        # What is no TLS record has no version that we know.
        if error.reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS"
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"TLS failed ({reason}): it may not take our certificate"
    if isinstance(error, socket.gaierror):
        return "there is no machine of that name"
    if error.errno:
        return os.strerror(error.errno).lower() + _HINTS.get(error.errno, "")
    return ""


_HINTS = {
    errno.ENOENT: " (is it running? DOCKER_HOST or the target's `host:` name another place)",
    errno.ECONNREFUSED: " (is it running?)",
    errno.EACCES: " (be root, or a member of the group docker)",
}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, what is nearest first."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        at = todo.pop(0)
        if not isinstance(at, BaseException) or id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        todo += [*at.args, getattr(at, "reason", None), at.__cause__, at.__context__]
