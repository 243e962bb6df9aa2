"""What comes later: latency, a slow close, the stalls of lost segments; and nothing at all."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.proxy.stage import SEGMENT, Chunk, Delaying, Direction, Stage
from chaoskit.proxy.toxic import Toxic

LONGEST = 24 * 3600 * 1000
"""Milliseconds that a delay may be."""

_PARETO = 3.0
_PARETO_MEAN = 1.5
_PARETO_DEVIATION = 0.75**0.5


@dataclass(eq=False)
class Noop(Toxic):
    """Does nothing, as Toxiproxy's."""

    type = "noop"

    def stage(self, stream: Direction) -> Stage:
        return Stage(stream, self)


@dataclass(eq=False)
class Latency(Toxic):
    """Everything arrives later: `latency` milliseconds, more or less by `jitter`.

    distribution: uniform between latency - jitter and latency + jitter; normal with jitter as its
    standard deviation; pareto (shape 3, shifted to the same mean and deviation), whose rare delays
    are long ones. Never less than nothing, and never out of order.
    correlation: how much of each draw is the one before, as netem has it.
    """

    latency: float = 0.0
    jitter: float = 0.0
    distribution: str = field(default="uniform", metadata={"ours": True})
    correlation: float = field(default=0.0, metadata={"ours": True})
    type = "latency"

    def problems(self) -> str | None:
        if not (0 <= self.latency <= LONGEST and 0 <= self.jitter <= LONGEST):
            return "latency and jitter must be between 0 ms and one day"
        if self.distribution not in ("uniform", "normal", "pareto"):
            return "distribution must be uniform, normal or pareto"
        if not 0 <= self.correlation <= 1:
            return "correlation must be between 0 and 1"
        return None

    def stage(self, stream: Direction) -> Stage:
        return _Late(stream, self)


class _Late(Delaying):
    __slots__ = ("_before",)

    # At a gigabyte a second, a tenth of a second is so much.
    capacity = 128 * 1024 * 1024

    def __init__(self, stream: Direction, toxic: Latency) -> None:
        super().__init__(stream, toxic)
        self._before: float | None = None

    def delay(self, data: Chunk | None) -> float:
        toxic: Latency = self.toxic
        if not toxic.jitter:
            return toxic.latency / 1000
        return max(0.0, toxic.latency + toxic.jitter * self._draw(toxic)) / 1000

    def most(self) -> float:
        toxic: Latency = self.toxic
        if toxic.jitter and toxic.distribution != "uniform":
            return float("inf")
        return (toxic.latency + toxic.jitter) / 1000

    def _draw(self, toxic: Latency) -> float:
        match toxic.distribution:
            case "normal":
                drawn = self.chance.gauss(0, 1)
            case "pareto":
                drawn = (self.chance.paretovariate(_PARETO) - _PARETO_MEAN) / _PARETO_DEVIATION
            case _:
                drawn = self.chance.uniform(-1, 1)
        if toxic.correlation and self._before is not None:
            drawn = toxic.correlation * self._before + (1 - toxic.correlation) * drawn
        self._before = drawn
        return drawn


@dataclass(eq=False)
class SlowClose(Toxic):
    """The end of the connection arrives `delay` milliseconds late."""

    delay: float = 0.0
    type = "slow_close"
    protocols = ("tcp",)

    def problems(self) -> str | None:
        return None if 0 <= self.delay <= LONGEST else "delay must be between 0 ms and one day"

    def stage(self, stream: Direction) -> Stage:
        return _SlowEnd(stream, self)


class _SlowEnd(Delaying):
    __slots__ = ()

    def delay(self, data: Chunk | None) -> float:
        return float(self.toxic.delay) / 1000 if data is None else 0.0

    def most(self) -> float:
        return float(self.toxic.delay) / 1000


@dataclass(eq=False)
class Loss(Toxic):
    """A `share` of the packets is lost. A lost datagram is dropped. A lost TCP segment (of 1448
    bytes) comes `stall` milliseconds later, when it would have been sent again, and all behind it
    wait; lost again, twice as much later, as RFC 6298 backs off."""

    share: float = 0.0
    stall: float = 200.0
    type = "loss"

    def problems(self) -> str | None:
        if not 0 <= self.share <= 1:
            return "share must be between 0 and 1"
        return None if 0 < self.stall <= LONGEST else "stall must be more than 0 ms, at most a day"

    def stage(self, stream: Direction) -> Stage:
        return _Dropped(stream, self) if stream.datagrams else _Stalled(stream, self)


class _Dropped(Stage):
    __slots__ = ()

    def feed(self, data: Chunk) -> None:
        if self.chance.random() >= self.toxic.share:
            self.emit(data)


class _Stalled(Delaying):
    __slots__ = ()

    MOST_TIMES = 6
    """A segment that is lost as often as this goes through the next time."""

    def delay(self, data: Chunk | None) -> float:
        if data is None:
            return 0.0
        toxic: Loss = self.toxic
        segments = -(-len(data) // SEGMENT)
        share = 1 - (1 - toxic.share) ** segments
        times = 0
        while times < self.MOST_TIMES and self.chance.random() < share:
            times += 1
            share = toxic.share
        return toxic.stall / 1000 * (2.0**times - 1)
