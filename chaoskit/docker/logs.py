"""New lines of containers' logs that match, however much is logged."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from chaoskit.docker.client import Daemon
from chaoskit.errors import ChaoskitError, Gone

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
    """What was logged since then, whole lines of it. Not by the SDK's own `logs`, which reads each
    line by itself: a busy log has ten thousand a second."""
    answer = api.get(
        f"{api.base_url}/v{api.api_version}/containers/{id}/logs",
        params={"stdout": 1, "stderr": 1, "timestamps": 1, "since": f"{since:.3f}"},
        stream=True,
        timeout=api.timeout,
    )
    with answer:
        if answer.status_code == 404:
            raise Gone(f"container {id[:12]} was removed")
        if answer.status_code >= 400:
            raise ChaoskitError(f"the Docker daemon says: {answer.json().get('message')}")
        found = b""
        for chunk in answer.iter_content(64 * 1024):
            found += chunk
            if len(found) > BURST:
                break
    text = _plain(found)
    # The rest of a line comes with the next reading.
    return text[: text.rfind(b"\n") + 1]


def _plain(data: bytes) -> bytes:
    """Without the eight bytes by which a daemon tells output from errors, unless there is a
    terminal: a kind, three zeros, and how long it is."""
    if data[1:4] != b"\0\0\0":
        return data
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(parts)


def _seconds(stamp: str) -> float:
    """A little before that time, so that nothing at the edge is lost; what was read is known."""
    from datetime import datetime

    whole = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", stamp))
    return max(1.0, whole.timestamp() - 0.001)
