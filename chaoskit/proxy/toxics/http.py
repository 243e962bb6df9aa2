"""What happens to some of the HTTP/1.1 requests of a link: an error in the service's place, or a
wait before the service gets them. All that is not HTTP/1.x passes as it is."""

from __future__ import annotations

import random
import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType

from chaoskit.proxy.answer import EMPTY, Answer
from chaoskit.proxy.exchange import Requests
from chaoskit.proxy.http1 import Request, is_token
from chaoskit.proxy.stage import Direction, Stage
from chaoskit.proxy.toxic import Toxic
from chaoskit.proxy.toxics.delays import LONGEST

LONGEST_PATH = 4096
"""Bytes of a path that is compared with a pattern; a longer one does not match."""
LONGEST_MATCH = 0.05
"""Seconds of computing that a pattern may take for a path: to wait for a processor is no fault of
its own."""
_OURS_ALONE = ("content-length", "transfer-encoding")
"""The framing of an answer is for us to say."""


class _OfRequests(Toxic):
    """Base of the toxics that pick requests.

    method: exact, any when empty. path: a regular expression for the whole path without the
    query, any when empty. share: how many of those that match, drawn for each.
    """

    streams = ("upstream",)
    protocols = ("tcp",)
    method: str
    path: str
    share: float
    gave_up: bool = False
    """Its pattern takes too long: it picks no more requests."""

    def stage(self, stream: Direction) -> Stage:
        return Requests(stream, self)

    def problems(self) -> str | None:
        if self.method and not is_token(self.method):
            return "method must be one HTTP method, or empty for any"
        try:
            re.compile(self.path)
        except (re.error, OverflowError, RecursionError) as error:
            return f"path is no regular expression: {error}"
        return None if 0 <= self.share <= 1 else "share must be between 0 and 1"

    def take(self, other: Toxic) -> None:
        super().take(other)
        self.gave_up = False

    def show(self) -> dict[str, object]:
        return super().show() | ({"gave_up": True} if self.gave_up else {})

    def picks(self, request: Request, chance: random.Random) -> bool:
        if self.method and request.method != self.method:
            return False
        if self.path:
            path = request.path
            if self.gave_up or len(path) > LONGEST_PATH:
                return False
            try:
                if not _clock.matches(self.path, path):
                    return False
            except _TooLong:
                # Some words may cost a bad pattern hours, in which nobody would be served and
                # nothing let go of; and each time some of the others' time.
                self.gave_up = True
                return False
        return chance.random() < self.share


@dataclass(eq=False)
class HttpError(_OfRequests):
    """The client gets this answer, and the upstream never sees the request."""

    status: int = 503
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    path: str = ""
    share: float = 1.0
    type = "http_error"

    def problems(self) -> str | None:
        if not 200 <= self.status <= 599:
            return "status must be between 200 and 599"
        if self.body and self.status in EMPTY:
            return f"an answer of status {self.status} has no body"
        for name, value in self.headers.items():
            if not is_token(name):
                return f"headers: {name!r} is no name of a header"
            if name.lower() in _OURS_ALONE:
                return f"headers: {name} is set by the proxy"
            if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
                return f"headers: {name} has a control character in it"
        return super().problems()

    def treat(self, request: Request, chance: random.Random) -> Answer | float | None:
        if not self.picks(request, chance):
            return None
        asked = ",".join(
            value for name, value in self.headers.items() if name.lower() == "connection"
        )
        # Behind a CONNECT there may already be the other protocol, which nobody is there to read.
        closes = (
            not request.persists
            or request.method == "CONNECT"
            or "close" in [word.strip().lower() for word in asked.split(",")]
        )
        return Answer(
            request.method, self.status, self.body, self.headers, closes, not request.minor
        )

    def most(self) -> float:
        return 0.0


@dataclass(eq=False)
class HttpDelay(_OfRequests):
    """The request, and all behind it on its connection, waits `delay` milliseconds, more or less
    by `jitter`."""

    delay: float = 0.0
    jitter: float = 0.0
    method: str = ""
    path: str = ""
    share: float = 1.0
    type = "http_delay"

    def problems(self) -> str | None:
        if not (0 <= self.delay <= LONGEST and 0 <= self.jitter <= LONGEST):
            return "delay and jitter must be between 0 ms and one day"
        return super().problems()

    def treat(self, request: Request, chance: random.Random) -> Answer | float | None:
        if not self.picks(request, chance):
            return None
        return max(0.0, self.delay + chance.uniform(-self.jitter, self.jitter)) / 1000

    def most(self) -> float:
        return (self.delay + self.jitter) / 1000


class _TooLong(Exception):
    pass


class _Clock:
    """Limits the computing of one match at a time; only the main thread can be interrupted."""

    armed = False
    running = False

    def matches(self, pattern: str, path: str) -> bool:
        """Whether the whole path does. Raises _TooLong."""
        if threading.current_thread() is not threading.main_thread():
            return bool(re.fullmatch(pattern, path))
        if not self.armed:
            signal.signal(signal.SIGVTALRM, self._stop)
            self.armed = True
        self.running = True
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_MATCH)
            return bool(re.fullmatch(pattern, path))
        finally:
            self.running = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.running:
            raise _TooLong


_clock = _Clock()
