"""What a daemon tells of a container, as far as faults and probes ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

ENDED = ("created", "exited", "dead")
"""How the status of those is called that do not run, now or at all."""
_SANDBOXES = ("runsc", "gvisor", "kata")
"""In the name of a runtime (`kata-runtime`, `io.containerd.runsc.v1`)."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One look at a container.

    status: `running`, `paused`, `restarting`, `exited`, `created`, `dead`. started: when it was
    started last, as the daemon writes it: with the container's id it names the incarnation. pid: of
    its first process, 0 when it does not run. exit: its last exit code. restarts: how often its
    restart policy has started it again. policy: that policy, `no` when it has none. health:
    `healthy`, `unhealthy`, `starting`, or `none`. finished: when it ended last, as `started`.
    removes_itself: it was started with `--rm`. runtime: what the daemon runs it by, as it is
    configured there.
    """

    status: str
    started: str
    pid: int
    exit: int
    restarts: int
    policy: str
    health: str
    finished: str
    removes_itself: bool
    runtime: str

    @property
    def runs(self) -> bool:
        """It has processes, frozen ones too."""
        return self.pid > 0 and self.status in ("running", "paused")

    @property
    def sandboxed(self) -> bool:
        """A kernel of its own runs it (gVisor, Kata): its pid is the sandbox's, and ours neither
        freezes nor limits what is in it."""
        return any(word in self.runtime for word in _SANDBOXES)

    @property
    def native(self) -> bool:
        """What our kernel says of its processes is so; of another runtime that is not known."""
        return self.runtime in ("runc", "crun")

    @property
    def away(self) -> float | None:
        """Seconds between its last end and its last start; None when that cannot be told."""
        try:
            ended, started = map(seconds_of, (self.finished, self.started))
        except ValueError:
            return None
        return started - ended if started >= ended else None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> ContainerState:
        """From what `inspect` tells."""
        state, host = told["State"], told.get("HostConfig") or {}
        policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
        # A daemon may say `running` of one that it is just bringing up again.
        status = "restarting" if state.get("Restarting") else str(state.get("Status", ""))
        return cls(
            status=status,
            started=str(state.get("StartedAt", "")),
            pid=int(state.get("Pid") or 0),
            exit=int(state.get("ExitCode") or 0),
            restarts=int(told.get("RestartCount") or 0),
            policy=str(policy),
            health=str((state.get("Health") or {}).get("Status") or "none"),
            finished=str(state.get("FinishedAt", "")),
            removes_itself=bool(host.get("AutoRemove")),
            runtime=str(host.get("Runtime") or ""),
        )


class Standing(Enum):
    """What has become of a container that is removed and made again, for people."""

    THERE = "there"
    READY = "there, with a double of it that stands ready"
    GOING = "being removed"
    AWAY = "removed"
    TAKEN = "removed, and somebody has started its double"
    PART = "made again in part"
    AGAIN = "made again"
    OTHERWISE = "made again otherwise"

    @property
    def as_before(self) -> bool:
        return self in (Standing.THERE, Standing.AGAIN)


def seconds_of(stamp: str) -> float:
    """RFC 3339 with any number of decimals, as daemons write it. Raises ValueError."""
    from datetime import datetime

    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if found is None:
        raise ValueError(stamp)
    whole = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
    return whole.timestamp() + float(found[2] or 0)
