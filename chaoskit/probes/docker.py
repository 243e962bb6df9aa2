"""Look at containers: whether they run and are well, what they use, and what they log."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaoskit.clock import within
from chaoskit.docker.logs import Lines
from chaoskit.docker.match import ContainerMatch
from chaoskit.errors import ChaoskitError, Gone, ProbeError
from chaoskit.model.container import ContainerState, seconds_of
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Regex, Unit

FIRST_LOOK = 0.2
"""Seconds over which the first reading measures what is used."""
_STATES = ("state", "health", "restarts", "exit")
_USED = ("cpu", "memory", "memory-share", "received", "sent")
_LOGGED = ("lines", "lines-total", "line")
_WORST = ("unhealthy", "starting", "healthy")


@dataclass(frozen=True)
class DockerProbe(ContainerMatch, Probe):
    """How many containers run, their state, health and restarts, what they use and what they log.

    Only what the expectations name is asked for, besides `count`.
    """

    log: Regex | None = field(
        default=None, metadata={"doc": "which lines of their logs are counted, without a time"}
    )
    timeout: Duration = field(default=2.0, metadata={"doc": "for all that is asked of the daemon"})
    wants: tuple[str, ...] = field(default=(), metadata={"internal": True})
    kind = "docker"
    readings = {
        "count": Unit.NUMBER,
        "state": Unit.TEXT,
        "health": Unit.TEXT,
        "restarts": Unit.NUMBER,
        "exit": Unit.NUMBER,
        "cpu": Unit.PERCENT,
        "memory": Unit.SIZE,
        "memory-share": Unit.PERCENT,
        "received": Unit.RATE,
        "sent": Unit.RATE,
        "lines": Unit.NUMBER,
        "lines-total": Unit.NUMBER,
        "line": Unit.TEXT,
    }
    main = "count"

    def problems(self) -> list[tuple[str, str]]:
        found = ContainerMatch.problems(self)
        if self.log is None and any(name in self.wants for name in _LOGGED):
            found.append(("log", "say which lines: a regular expression"))
        return found

    def read(self, context: Context) -> Reading:
        """count: how many match and run. Of all that match, running or not: state (several of them
        with commas between), health (the worst), restarts by a policy (the sum), exit (the highest
        last exit code). Of those that run: cpu (1 is one processor), memory, received and sent
        (sums), memory-share (of its limit, the highest). lines: that were logged since the last
        reading and match; lines-total: since the first reading; line: the last of them."""
        try:
            return within(self.timeout, lambda: self._read(context))
        except TimeoutError as error:
            raise ProbeError(
                f"the Docker daemon did not answer within {self.timeout:g}s"
            ) from error
        except ChaoskitError as error:
            raise ProbeError(str(error)) from error

    def describe(self) -> str:
        return f"docker {self.written()}"

    def _read(self, context: Context) -> Reading:
        found = self.matching()
        running = [str(told["Id"]) for told in found if told.get("State") == "running"]
        reading: dict[str, Json] = {"count": len(running)}
        if self._wanted(_STATES) and found:
            reading |= _states([self._state(str(told["Id"])) for told in found])
        if self._wanted(_USED) and running:
            reading |= self._used(context, running)
        if self._wanted(_LOGGED) and self.log is not None:
            reading |= self._logged(context, [str(told["Id"]) for told in found])
        return reading

    def _wanted(self, names: Sequence[str]) -> bool:
        return any(name in self.wants for name in names)

    def _state(self, id: str) -> ContainerState:
        try:
            return ContainerState.of(self.daemon().inspect(id))
        except Gone as error:
            raise ProbeError(f"container {id[:12]} was removed while it was looked at") from error

    def _used(self, context: Context, running: Sequence[str]) -> dict[str, Json]:
        """What is used by the second is known from two looks: the last reading's and this one's."""
        before = context.memory.get("used")
        if before is None:
            before = self._stats(running)
            context.cancel.wait(min(FIRST_LOOK, self.timeout / 4))
        used = context.memory["used"] = self._stats(running)
        # One that was restarted has begun to count anew: what it used in between is not known.
        both = [
            (before[id], one)
            for id, one in used.items()
            if id in before and one["cpu"] >= before[id]["cpu"]
        ]
        if not used:
            raise ProbeError("none of them runs any more")
        found: dict[str, Json] = {
            "memory": round(sum(one["memory"] for one in used.values())),
            "memory-share": max(one["share"] for one in used.values()),
        }
        if not both:
            if self._wanted(("cpu", "received", "sent")):
                raise ProbeError("none of them was running at the last reading and has since")
            return found

        def by_second(name: str) -> float:
            # By the daemon's own clock: how long it took to answer is no part of it.
            return sum(
                max(0.0, late[name] - early[name]) / max(late["at"] - early["at"], 1e-3)
                for early, late in both
            )

        return found | {name: by_second(name) for name in ("cpu", "received", "sent")}

    def _stats(self, running: Sequence[str]) -> dict[str, dict[str, float]]:
        daemon = self.daemon()
        found = {}
        for id in running:
            try:
                told = daemon.look(lambda api, id=id: api.stats(id, stream=False, one_shot=True))  # type: ignore[misc]
            except Gone:
                continue
            found[id] = _of_stats(told)
        return found

    def _logged(self, context: Context, ids: Sequence[str]) -> dict[str, Json]:
        lines = context.memory.get("lines")
        if lines is None:
            assert self.log is not None
            lines = context.memory["lines"] = Lines(re.compile(self.log), self._now())
        count = lines.read(self.daemon(), ids)
        found: dict[str, Json] = {"lines": count, "lines-total": lines.total}
        return found if lines.last is None else found | {"line": lines.last}

    def _now(self) -> float:
        """Seconds of the wall clock that stamps the logs: the daemon's."""
        try:
            return seconds_of(self.daemon().look(lambda api: api.info())["SystemTime"])
        except (KeyError, TypeError, ValueError):
            return time.time()


def _states(states: Sequence[ContainerState]) -> dict[str, Json]:
    healths = [state.health for state in states]
    return {
        "state": ",".join(sorted({state.status for state in states})),
        "health": next((word for word in _WORST if word in healths), "none"),
        "restarts": sum(state.restarts for state in states),
        "exit": max(state.exit for state in states),
    }


def _of_stats(told: Mapping[str, Any]) -> dict[str, float]:
    """Of one look: when, seconds of processor time, bytes of memory, received and sent. Raises
    ProbeError when the daemon has no numbers (the container has just ended)."""
    try:
        memory = told["memory_stats"]
        inside = memory.get("stats") or {}
        # As `docker stats` counts: what is cached of files is given back when it is needed.
        used = memory["usage"] - inside.get("total_inactive_file", inside.get("inactive_file", 0))
        networks = (told.get("networks") or {}).values()
        return {
            "at": seconds_of(told["read"]),
            "cpu": told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
            "memory": max(0, used),
            "share": max(0, used) / memory["limit"] if memory.get("limit") else 0.0,
            "received": float(sum(one["rx_bytes"] for one in networks)),
            "sent": float(sum(one["tx_bytes"] for one in networks)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError("the daemon has no numbers of it") from error
