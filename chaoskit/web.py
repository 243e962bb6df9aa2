"""One HTTP request, bounded as a whole: a server that drips a byte a second cannot hold us up."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chaoskit.clock import now, within
from chaoskit.errors import ChaoskitError
from chaoskit.model.url import Tls, problem_with

_INTERIM = range(102, 200)
"""Statuses that another follows; http.client waits for that after 100 only, and 101 is the last."""
CAP = 1024 * 1024
"""Bytes of a body that are kept; the rest is read and let go, as its time counts."""


class RequestFailed(ChaoskitError):
    """No whole answer came: the message says what happened instead."""


class NobodyListens(RequestFailed):
    """The machine answered that nobody listens there: the request was never heard."""


@dataclass(frozen=True, slots=True)
class Answer:
    """headers: by lower-case name. latency: seconds until the whole body was there, redirects that
    were followed included.

    expires_in: seconds that the server's certificate is still valid; None without TLS.
    """

    status: int
    headers: Mapping[str, str]
    body: str
    latency: float
    expires_in: float | None = None


def send(
    method: str,
    url: str,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    follow: bool = False,
    tls: Tls | None = None,
    place: str | None = None,
) -> Answer:
    """Ask once, on a connection of its own. Proxies in the environment are not used.

    timeout: seconds for the whole of it. follow: go after up to 5 redirects. place: the path of a
    Unix socket, of any length, at which to ask instead of the URL's host. Raises RequestFailed.
    """
    began = now()
    for _ in range(6):
        answer = _ask(method, url, began, timeout, headers or {}, body, tls or Tls(), place)
        moved = answer.headers.get("location")
        if not follow or answer.status not in (301, 302, 303, 307, 308) or not moved:
            return answer
        from urllib.parse import urljoin

        url = urljoin(url, moved)
        if problem := problem_with(url):
            raise RequestFailed(f"redirected to nowhere: {problem}")
        if answer.status == 303:
            method, body = "GET", None
    raise RequestFailed("redirected more than 5 times")


def connected(host: str, port: int, patience: float) -> socket.socket:
    """A TCP connection to the first address of that name that takes one, within so many seconds in
    all, its time-out what is left of them. Raises OSError, and as what it is where the name is not
    looked up in time: for that the system has no time-out."""
    end = now() + patience
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        try:
            found = within(
                patience, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "it is not looked up in time") from None
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        made = None
        try:
            made = socket.socket(family, kind, protocol)
            made.settimeout(max(0.001, end - now()))
            made.connect(address)
            return made
        except BaseException as error:
            if made is not None:
                made.close()
            if not isinstance(error, OSError) or number == len(found) or now() > end:
                raise
    raise OSError(f"{host} has no address")


def _ask(
    method: str,
    url: str,
    began: float,
    timeout: float,
    headers: Mapping[str, str],
    body: str | None,
    tls: Tls,
    place: str | None,
) -> Answer:
    end = began + timeout
    parts = urlsplit(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    connection = http.client.HTTPConnection(host, port)
    bounded = None
    try:
        left = max(0.001, end - now())
        if place is None:
            plain = connected(host, port, left)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            plain = _unix(place, left)
        bounded = _Bounded(_wrapped(plain, host, tls, end) if secure else plain, end, secure)
        connection.sock = bounded
        shown = {"Connection": "close", "User-Agent": "chaoskit", **headers}
        connection.request(method, path, None if body is None else body.encode(), shown)
        response = connection.getresponse()
        while response.status in _INTERIM and not bounded.ended:
            response.headers = None  # type: ignore[assignment]
            response.begin()
        _check_head(response, bounded.ended)
        # It would look for chunks where there can be no body.
        data = response.read(CAP) if response.length != 0 else b""
        while len(data) == CAP and response.length != 0 and response.read(CAP):
            pass
        if bounded.ended and (response.chunked or response.length):
            raise http.client.IncompleteRead(data)  # http.client does not tell all of them.
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            data.decode(errors="replace"),
            now() - began,
            bounded.expires_in() if secure else None,
        )
    except TimeoutError:
        raise RequestFailed(f"no whole answer within {timeout:g}s") from None
    except ConnectionRefusedError:
        raise NobodyListens(f"connection refused by {place or f'{host}:{port}'}") from None
    except FileNotFoundError as error:
        if place is None:
            raise RequestFailed("a file that tls names is not there") from error
        raise NobodyListens(f"there is no socket {place}") from None
    except socket.gaierror as error:
        raise RequestFailed(f"the host {host} is not known: {error.strerror}") from error
    except http.client.IncompleteRead as error:
        told = "the answer broke off within its body"
        if bounded is None or not bounded.ended:
            told = "no HTTP answer: its body makes no sense"
        raise RequestFailed(told) from error
    except http.client.HTTPException as error:
        told = str(error) or type(error).__name__
        raise RequestFailed(f"no HTTP answer: {told.splitlines()[0][:120]}") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RequestFailed(why.lower() if isinstance(error, OSError) else why) from error
    finally:
        if bounded is not None:
            bounded.finish()


def _check_head(response: http.client.HTTPResponse, ended: bool) -> None:
    """http.client takes what it has understood so far for all of it. Raises RequestFailed."""
    from email.errors import MissingHeaderBodySeparatorDefect

    if ended:
        raise RequestFailed("the answer broke off before its body")
    head = response.headers
    if any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in head.defects):
        raise RequestFailed("no HTTP answer: a line of its head is no header")
    coding = head.get("transfer-encoding", "identity").strip().lower()
    told = "content-length" in head or coding != "identity"
    if told and response.length is None and not response.chunked:
        raise RequestFailed("no HTTP answer: the length that its head tells makes no sense")


def _unix(path: str, timeout: float) -> socket.socket:
    """By way of its folder's descriptor: the kernel takes 107 characters of a path, no more."""
    folder, name = os.path.split(path)
    opened = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect(f"/proc/self/fd/{opened}/{name}")
    except BaseException:
        made.close()
        raise
    finally:
        os.close(opened)
    return made


def _wrapped(plain: socket.socket, host: str, tls: Tls, end: float) -> socket.socket:
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
        plain.settimeout(max(0.001, end - now()))
        return context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
    except BaseException:
        plain.close()
        raise


class _Bounded:
    """A socket whose every operation ends at one moment, however slowly the bytes come.

    ended: whether a reader has asked for more than came before the other side closed.
    """

    def __init__(self, inner: socket.socket, end: float, secure: bool) -> None:
        self._inner = inner
        self._end = end
        self._secure = secure
        self.ended = False

    def _left(self) -> None:
        left = self._end - now()
        if left <= 0:
            raise TimeoutError
        self._inner.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._left()
        self._inner.sendall(data)

    def makefile(self, *arguments: Any, **named: Any) -> Any:
        return io.BufferedReader(_Raw(self), 65536)

    def receive_into(self, buffer: Any) -> int:
        self._left()
        try:
            count = self._inner.recv_into(buffer)
        except OSError as error:
            if self._secure:
                import ssl

                if isinstance(error, ssl.SSLEOFError):  # Anybody could have cut it there.
                    raise RequestFailed("the answer broke off: TLS was not ended") from error
            raise
        self.ended = not count
        return count

    def expires_in(self) -> float | None:
        import ssl
        import time

        assert isinstance(self._inner, ssl.SSLSocket)
        certificate = self._inner.getpeercert()
        if not certificate:
            return None  # Only a certificate that was checked is told.
        return ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()

    def close(self) -> None:
        """Nothing: http.client closes before the body is read; `finish` is ours."""

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            self._inner.close()


class _Raw(io.RawIOBase):
    """What the response is read through; closing it leaves the socket to its owner."""

    def __init__(self, bounded: _Bounded) -> None:
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.receive_into(buffer)
