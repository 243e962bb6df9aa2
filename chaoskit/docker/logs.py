"""New lines of containers' logs that match, however much is logged."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from chaoskit.docker.client import Daemon
from chaoskit.errors import Gone

BURST = 4 * 1024 * 1024
"""Bytes of one container's log that one reading takes at most; the next goes on from there."""
LONGEST = 64 * 1024
"""Bytes of a line that are searched."""


class Lines:
    """Follows the logs of containers, those that come too, from a moment on.

    since: seconds of the wall clock, as the daemon's clock has it. total: lines that matched so
    far; last: the last of them.
    """

    def __init__(self, wanted: re.Pattern[str], since: float) -> None:
        self.total = 0
        self.last: str | None = None
        self._wanted = wanted
        self._since = since
        self._seen: dict[str, str] = {}
        """The time, as the daemon writes it, of the last line that was read of each."""

    def read(self, daemon: Daemon, ids: Sequence[str]) -> int:
        """How many new lines match. Raises ChaoskitError when a log cannot be read."""
        count = 0
        for id in ids:
            with contextlib.suppress(Gone):
                for line in self._new(daemon, id):
                    if self._wanted.search(line[:LONGEST]):
                        count += 1
                        self.last = line[:1000]
        self.total += count
        return count

    def _new(self, daemon: Daemon, id: str) -> Iterator[str]:
        seen = self._seen.get(id, "")
        since = _seconds(seen) if seen else self._since
        text: bytes = daemon.look(lambda api: _taken(api, id, since))
        for line in text.decode(errors="replace").splitlines():
            stamp, _, told = line.partition(" ")
            # Daemons write nanoseconds, always as many digits: later is greater.
            if stamp > seen:
                self._seen[id] = stamp
                yield told


def _taken(api: Any, id: str, since: float) -> bytes:
    stream: Any = api.logs(id, stream=True, follow=False, timestamps=True, since=since)
    found: bytes = b""
    try:
        for chunk in stream:
            found += chunk
            if len(found) > BURST:
                # Whole lines only: the rest of the last one comes with the next reading.
                return found[: found.rfind(b"\n") + 1]
    finally:
        with contextlib.suppress(Exception):  # The SDK's stream closes what it can.
            stream.close()
    return found


def _seconds(stamp: str) -> float:
    """A little before that time, so that nothing at the edge is lost; what was read is known."""
    from datetime import datetime

    whole = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", stamp))
    return max(1.0, whole.timestamp() - 0.001)
