"""A daemon on another machine by ssh, as the docker command does it: the machine's own ssh client
runs `docker system dial-stdio` there, and the requests go over its standard input and output.

The SDK does the same only where paramiko is installed. The client has the user's configuration,
keys and agent; it must get along without asking anybody, for a guardian has nobody to ask.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from typing import Any
from urllib.parse import urlsplit

from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)

from chaoskit.docker.trouble import Told

_END = 1.0
"""Seconds that ssh may take to end when its connection has been closed."""


def words_of(url: str, patience: float) -> list[str]:
    """How ssh is called for a URL like ssh://user@machine:22. Raises ValueError."""
    at = urlsplit(url)
    if not at.hostname or at.path.strip("/") or at.password or at.hostname.startswith("-"):
        raise ValueError(f"expected ssh://user@machine:port, not {url}")
    program = shutil.which("ssh")
    if program is None:
        raise ValueError("ssh is not installed (Debian's package openssh-client)")
    options = ("BatchMode=yes", f"ConnectTimeout={patience:.0f}", "ServerAliveInterval=10")
    words = [program, "-T", *(f"-o{option}" for option in options)]
    words += ["-l", at.username] if at.username else []
    words += ["-p", str(at.port)] if at.port else []
    return [*words, "--", at.hostname, "docker system dial-stdio"]


class Adapter(UnixHTTPAdapter):  # type: ignore[misc]
    """For `requests`: each connection is an ssh of its own."""

    def __init__(self, url: str, timeout: float, max_pool_size: int) -> None:
        super().__init__("http+unix:///ssh", timeout, max_pool_size=max_pool_size)
        self._words = words_of(url, timeout)

    def get_connection(self, url: str, proxies: object = None) -> Any:
        with self.pools.lock:
            if (pool := self.pools.get(url)) is None:
                pool = _Pool(self._words, self.timeout, self.max_pool_size)
                self.pools[url] = pool
        return pool


class _Pool(UnixHTTPConnectionPool):  # type: ignore[misc]
    def __init__(self, words: list[str], timeout: float, maxsize: int) -> None:
        super().__init__("", "", timeout, maxsize)
        self._words = words

    def _new_conn(self) -> _Connection:
        return _Connection(self._words, self.timeout)


class _Connection(UnixHTTPConnection):  # type: ignore[misc]
    """It ends with its socket, like that of any server."""

    def __init__(self, words: list[str], timeout: float) -> None:
        super().__init__("", "", timeout)
        self._words = words
        self._ssh: _Ssh | None = None
        self._through = False

    def connect(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._ssh = _Ssh(self._words, theirs)
        ours.settimeout(self.timeout)
        self.sock = ours
        self._through = False

    def getresponse(self) -> Any:
        try:
            response = super().getresponse()
        except ConnectionError as error:
            if self._ssh and (told := self._ssh.last_words()):
                raise Told(told) from error
            raise
        self._through = True
        return response

    def close(self) -> None:
        super().close()
        # One that is through ends by itself, and may have the rest of an answer to pass on.
        if self._ssh and not self._through:
            self._ssh.end()


class _Ssh:
    """A client that runs, and what it complains of."""

    def __init__(self, words: list[str], end: socket.socket) -> None:
        self._process = subprocess.Popen(
            words,
            stdin=end.fileno(),
            stdout=end.fileno(),
            stderr=subprocess.PIPE,
            # Ctrl-C is the runner's to handle, and it may need the daemon to undo.
            start_new_session=True,
        )
        self._said = b""
        self._listener = threading.Thread(target=self._listen, name="ssh", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        self._said = self._process.communicate()[1]

    def last_words(self) -> str:
        """The last line that it, or docker on the other side, has said before it ended."""
        self._listener.join(_END)
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def end(self) -> None:
        """For one that has not got through, and need not notice that nobody listens any more."""
        later = threading.Timer(_END, self._process.kill)
        later.daemon = True
        later.start()
