"""Each measure loads the peers in turn, round by round, so that noise hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import percentile

from proxy_load.peers import Field, Peer, carried
from proxy_load.results import Result, medians

DELAY = 100
"""Milliseconds of the latency toxic."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often things are measured."""

    rounds: int
    seconds: float
    trips: int
    connections: int
    idle: int


FULL = Effort(rounds=5, seconds=1.0, trips=2500, connections=6000, idle=10_000)
QUICK = Effort(rounds=2, seconds=0.5, trips=1000, connections=800, idle=3000)


def in_turn(
    peers: Sequence[Peer], rounds: int, once: Callable[[Peer], Figures]
) -> dict[str, Figures]:
    """Medians by peer. Each round begins with another one: nobody always follows the same."""
    found: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        first = number % len(peers)
        for peer in (*peers[first:], *peers[:first]):
            found[peer.name].append(once(peer))
    return {name: medians(many) for name, many in found.items()}


def throughput(field: Field, effort: Effort) -> Result:
    """Bytes a second without a toxic, and the proxy's processor time for them."""
    result = Result("Pass-through: GB/s with 1 and 8 connections; processor seconds for a GB")

    def once(peer: Peer) -> Figures:
        figures = {}
        for connections in (1, 8):
            used = peer.processor() if peer.pid else 0.0
            rate = field.measure(peer, "bulk", connections, effort.seconds)["rate"] / 1e9
            figures[f"GB/s {connections}"] = rate
            if peer.pid:
                used = peer.processor() - used
                # The load's first quarter of a second is not in the rate.
                figures[f"s/GB {connections}"] = used / (rate * effort.seconds * 1.25)
        return figures

    result.figures = in_turn(list(field.peers.values()), effort.rounds, once)
    for peer, limit in (("haproxy", 1.5), ("toxiproxy", 2.5)):
        for connections in (1, 8):
            _over(result, "throughput", "chaoskit", peer, f"GB/s {connections}", limit)
    return result


def round_trips(field: Field, effort: Effort) -> Result:
    """64 bytes there and back, one after the other."""
    result = Result("A 64-byte round trip without a toxic: us")

    def once(peer: Peer) -> Figures:
        took = field.measure(peer, "pingpong", effort.trips)
        return {key: took[key] for key in ("p50", "p99", "mean")}

    result.figures = in_turn(_plain(field), effort.rounds * 2, once)
    ours = result.figures["chaoskit"]
    if result.has("haproxy"):
        for key in ("p50", "p99"):
            value = ours[key] / result.figures["haproxy"][key]
            result.at_most(f"round trip {key}, ours over haproxy's", value, 1)
    added = ours["mean"] - result.figures["direct"]["mean"]
    result.at_most("us that a proxy without a toxic adds to a round trip, mean", added, 300)
    return result


def new_connections(field: Field, effort: Effort) -> Result:
    """Connect, one exchange, close."""
    result = Result("New connections a second, 1 and 16 at a time")

    def once(peer: Peer) -> Figures:
        return {f"{at_once} at a time":
                field.measure(peer, "connects", effort.connections, at_once)["rate"]
                for at_once in (1, 16)}  # fmt: skip

    result.figures = in_turn(_plain(field), effort.rounds, once)
    for at_once in (1, 16):
        _over(result, "new connections", "chaoskit", "haproxy", f"{at_once} at a time", 0.9)
    return result


def delayed_throughput(field: Field, effort: Effort) -> Result:
    result = Result(f"With a latency toxic of {DELAY} ms: GB/s with 1 and 8 connections")

    def once(peer: Peer) -> Figures:
        with peer.toxic("latency", latency=DELAY):
            return {f"GB/s {connections}":
                    field.measure(peer, "bulk", connections, effort.seconds * 1.5)["rate"] / 1e9
                    for connections in (1, 8)}  # fmt: skip

    result.figures = in_turn(field.faulty(), effort.rounds, once)
    # With eight the machine is the limit, not what either may hold: shown and not judged.
    _over(result, "delayed throughput", "chaoskit", "toxiproxy", "GB/s 1", 3)
    return result


def delay_errors(field: Field, effort: Effort) -> Result:
    """How long messages took one way, without the delay that was asked for and without what the
    same message takes when no proxy is there."""
    result = Result(f"The error of a delay of {DELAY} ms, one way: ms")

    def once(peer: Peer) -> Figures:
        figures = {}
        for connections in (1, 100):
            every = 0.01 if connections == 1 else 0.1
            plain = field.measure(field.peers["direct"], "delays", connections, 0.5, every)["p50"]
            with peer.toxic("latency", latency=DELAY):
                took = field.measure(peer, "delays", connections, effort.seconds * 2, every)
            for key in ("least", "p50", "p99"):
                figures[f"{key} {connections}"] = (took[key] - plain) / 1e3 - DELAY
        return figures

    result.figures = in_turn(field.faulty(), effort.rounds, once)
    for connections in (1, 100):
        for key, limit in (("p50", 0.6), ("p99", 2)):
            value = result.figures["chaoskit"][f"{key} {connections}"]
            result.at_most(f"delay error {key}, ms, {connections} connections", value, limit)
    return result


def pace(field: Field, effort: Effort) -> Result:
    """The numbers of Toxiproxy's own tests."""
    result = Result("480 KB at 1 MB/s: ms; Toxiproxy's own test allows 470 to 490")

    def once(peer: Peer) -> Figures:
        with peer.toxic("bandwidth", rate=1000):
            return field.measure(peer, "paced", 480_000)

    result.figures = in_turn(field.faulty(), effort.rounds, once)
    off = abs(result.figures["chaoskit"]["ms"] - 480)
    result.at_most("480 KB at 1 MB/s, ms off 480", off, 10)
    return result


def interface(field: Field, effort: Effort) -> Result:
    """How soon the interface answers while 8 or 200 connections carry all they can."""
    result = Result("The interface's answer under full load, a toxic added and removed: ms")

    def loaded(peer: Peer, connections: int) -> Figures:
        load = field.load(peer, "bulk", connections, effort.seconds * 2)
        time.sleep(0.3)
        times = []
        end = time.monotonic() + effort.seconds * 2
        while time.monotonic() < end:
            for method, path, document in (
                ("POST", "/proxies/bench/toxics", {"name": "noop", "type": "noop"}),
                ("GET", "/proxies", None),
                ("DELETE", "/proxies/bench/toxics/noop", None),
            ):
                began = time.perf_counter()
                peer.ask(method, path, document)
                times.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.002)
        field.answer(load)
        return {
            f"p50 {connections}": percentile(times, 0.5),
            f"p99 {connections}": percentile(times, 0.99),
            f"most {connections}": max(times),
        }

    def once(peer: Peer) -> Figures:
        return loaded(peer, 8) | loaded(peer, 200)

    result.figures = in_turn(field.faulty(), max(2, effort.rounds - 2), once)
    for connections in (8, 200):
        p99 = result.figures["chaoskit"][f"p99 {connections}"]
        result.at_most(f"the interface's answer p99, ms, {connections} connections", p99, 100)
    return result


def idle(field: Field, effort: Effort) -> Result:
    """Open connections that do nothing: what they cost, and what is left when they are gone. Twice
    more shows a leak: what an allocator merely keeps is used again."""
    count = min(effort.idle, carried())
    result = Result(f"{count} open idle connections, three times; MB resident")

    def once(peer: Peer) -> Figures:
        before, files = peer.memory(), peer.descriptors()
        figures = {"before": before / 1e6}
        after: list[int] = []
        for number in (1, 2, 3):
            load = fresh.load(peer, "idle", count)
            assert load.stdout is not None
            if load.stdout.readline() != b"open\n":
                raise SystemExit(f"{peer.name} does not carry {count} connections")
            time.sleep(0.2)
            held, open_ = peer.memory(), peer.descriptors()
            if number == 1:
                figures["KB each"] = (held - before) / count / 1e3
                figures["fds each"] = (open_ - files) / count
                figures["at 1st"] = held / 1e6
            fresh.answer(load, b"\n")
            _settle(peer, files)
            after.append(peer.memory())
            figures[f"after {number}"] = after[-1] / 1e6
        figures["fds left"] = peer.descriptors() - files
        figures["bytes left each"] = (after[2] - after[1]) / count
        return figures

    # What other measures have left in a peer's memory would hide what connections take.
    with Field(field.folder, field.also) as fresh:
        result.figures = in_turn([peer for peer in _plain(fresh) if peer.pid], 1, once)
    ours = result.figures["chaoskit"]
    result.at_most("descriptors left of all idle connections", ours["fds left"], 0)
    result.at_most("bytes left of each, the third time", ours["bytes left each"], 100)
    return result


def _settle(peer: Peer, files: int) -> None:
    """Until it has closed what it will close."""
    end = time.monotonic() + 15
    while peer.descriptors() > files and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.3)


def _plain(field: Field) -> list[Peer]:
    """The second haproxy differs in bulk only."""
    return [peer for name, peer in field.peers.items() if name != "haproxy splice"]


def _over(result: Result, what: str, ours: str, other: str, key: str, limit: float) -> None:
    if result.has(ours, other):
        value = result.figures[ours][key] / result.figures[other][key]
        result.at_least(f"{what}, {key}, over {other}'s", value, limit)


MEASURES: dict[str, Callable[[Field, Effort], Result]] = {
    "throughput": throughput,
    "round-trips": round_trips,
    "connections": new_connections,
    "delayed-throughput": delayed_throughput,
    "delay-errors": delay_errors,
    "pace": pace,
    "interface": interface,
    "idle": idle,
}
