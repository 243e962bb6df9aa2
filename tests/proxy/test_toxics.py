"""What each toxic does, on connections that were there and on those that come.

Times are bounded so widely that a busy machine passes; how exact they are is measured in bench/.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from inline import Inline, inline

from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.stage import SEGMENT
from chaoskit.proxy.toxics.delays import Latency


@pytest.fixture
def made() -> Iterator[Inline]:
    with inline() as made:
        yield made


def took(made: Inline, source: socket.socket, sink: socket.socket, data: bytes) -> float:
    """Seconds until all of it has come out, unchanged."""
    began = time.monotonic()
    made.send(source, data)
    assert made.read(sink, len(data)) == data
    return time.monotonic() - began


def ended(made: Inline, side: socket.socket) -> str:
    """How the connection ends on that side, after what comes before."""
    try:
        data = made.read(side, seconds=5)
    except ConnectionResetError:
        return "reset"
    return f"end after {len(data)}"


# --- latency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["upstream", "downstream"])
def test_latency_delays_its_own_direction_only(made: Inline, way: str) -> None:
    client, service = made.connect()
    made.add("latency", way, latency=150)
    up, down = took(made, client, service, b"x"), took(made, service, client, b"x")
    late, early = (up, down) if way == "upstream" else (down, up)
    assert 0.15 <= late < 1 and early < 0.14
    assert (
        took(made, *((client, service) if way == "upstream" else (service, client)), b"y") >= 0.15
    )


def test_latency_delays_the_end_of_file_too(made: Inline) -> None:
    client, service = made.connect()
    made.add("latency", "upstream", latency=150)
    began = time.monotonic()
    client.shutdown(socket.SHUT_WR)
    assert made.read(service) == b""
    assert time.monotonic() - began >= 0.15


def test_latency_does_not_narrow_the_link(made: Inline) -> None:
    """A hundred chunks one after the other are each as late, not all together."""
    client, service = made.connect()
    made.add("latency", "upstream", latency=100)
    began = time.monotonic()
    for _ in range(100):
        client.send(b"x" * 100)
        made.turn(0.001)
    assert len(made.read(service, 10_000)) == 10_000
    assert time.monotonic() - began < 2


def test_less_latency_shortens_what_waits_already(made: Inline) -> None:
    client, service = made.connect()
    name = made.add("latency", "upstream", latency=60_000)
    made.send(client, b"x")
    made.turn(0.02)
    made.link.change(name, {"attributes": {"latency": 10}})
    assert made.read(service, 1, 2) == b"x"


def draws(made: Inline, count: int = 3000, **attributes: Any) -> list[float]:
    name = made.add("latency", "upstream", seed=5, **attributes)
    toxic = made.link.toxic(name)
    assert isinstance(toxic, Latency)
    connection = next(iter(made.link.connections()))
    assert connection.up is not None
    stage = next(stage for stage in connection.up.stages if stage.toxic is toxic)
    found = [stage.delay(b"x") * 1000 for _ in range(count)]
    made.link.remove(name)
    return found


def test_jitter_is_distributed_as_asked(made: Inline) -> None:
    made.connect()
    uniform = draws(made, latency=100, jitter=20)
    assert min(uniform) >= 80 and max(uniform) <= 120
    assert min(uniform) < 82 and max(uniform) > 118
    for distribution in ("normal", "pareto"):
        drawn = draws(made, latency=100, jitter=20, distribution=distribution)
        mean = sum(drawn) / len(drawn)
        deviation = (sum((one - mean) ** 2 for one in drawn) / len(drawn)) ** 0.5
        assert 97 < mean < 103 and 15 < deviation < 26, distribution
    tail = sum(one > 160 for one in draws(made, latency=100, jitter=20, distribution="pareto"))
    thin = sum(one > 160 for one in draws(made, latency=100, jitter=20, distribution="normal"))
    assert tail > thin + 10, "the tail is not heavy"
    assert min(draws(made, latency=1, jitter=50, distribution="normal")) == 0, "never negative"


def test_correlated_jitter_is_like_the_one_before(made: Inline) -> None:
    made.connect()

    def likeness(drawn: list[float]) -> float:
        mean = sum(drawn) / len(drawn)
        pairs = itertools.pairwise(drawn)
        return sum((a - mean) * (b - mean) for a, b in pairs) / sum((a - mean) ** 2 for a in drawn)

    assert abs(likeness(draws(made, latency=100, jitter=50))) < 0.1
    assert likeness(draws(made, latency=100, jitter=50, correlation=0.8)) > 0.7


def test_the_same_seed_draws_the_same(made: Inline) -> None:
    made.connect()
    assert draws(made, 50, latency=100, jitter=50) == draws(made, 50, latency=100, jitter=50)


# --- the others ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_bandwidth_of_each_connection_or_of_all(made: Inline, shared: bool) -> None:
    pairs = [made.connect() for _ in range(3)]
    made.add("bandwidth", "upstream", rate=400, shared=shared)

    def seconds() -> float:
        began = time.monotonic()
        for client, _ in pairs:
            made.send(client, bytes(60_000))
        for _, service in pairs:
            made.read(service, 60_000)
        return time.monotonic() - began

    took = [seconds() for _ in range(3)]
    assert min(took) >= (0.44 if shared else 0.14)
    assert min(took) < (2 if shared else 0.44)


def test_a_bandwidth_of_nothing_passes_nothing_until_it_is_raised(made: Inline) -> None:
    client, service = made.connect()
    name = made.add("bandwidth", "upstream", rate=0)
    made.send(client, b"x" * 1000)
    assert made.nothing(service)
    made.link.change(name, {"attributes": {"rate": 1000}})
    assert made.read(service, 1000) == b"x" * 1000


def test_a_slow_close_delays_only_the_end(made: Inline) -> None:
    client, service = made.connect()
    made.add("slow_close", "upstream", delay=200)
    began = time.monotonic()
    made.send(client, b"x")
    client.shutdown(socket.SHUT_WR)
    assert made.read(service, 1) == b"x" and time.monotonic() - began < 0.19
    assert made.read(service) == b"" and time.monotonic() - began >= 0.2


def test_slices_come_one_by_one(made: Inline) -> None:
    client, service = made.connect()
    made.add("slicer", "upstream", average_size=100, size_variation=20, delay=3000)
    made.send(client, b"x" * 3000)
    sizes = []
    while sum(sizes) < 3000:
        assert made.until(lambda: not made.nothing(service, 0))
        sizes.append(len(service.recv(65536)))
    assert len(sizes) > 10 and sum(size <= 120 for size in sizes) > len(sizes) / 2


@pytest.mark.parametrize("limit", [0, 1, 1000, 200_000])
def test_the_connection_ends_after_so_many_bytes(made: Inline, limit: int) -> None:
    client, service = made.connect()
    made.add("limit_data", "upstream", bytes=limit)
    data = os.urandom(300_000)
    client.send(data)
    assert made.read(service) == data[:limit]
    assert ended(made, client) in ("end after 0", "reset")
    assert made.until(lambda: made.link.open == 0)


def test_what_passes_before_the_limit_is_counted_over_chunks(made: Inline) -> None:
    client, service = made.connect()
    made.add("limit_data", "upstream", bytes=10)
    for _ in range(3):
        made.send(client, b"abcd")
        made.turn(0.005)
    assert made.read(service) == b"abcdabcdab"


def test_a_timeout_loses_what_comes_and_ends_the_connection(made: Inline) -> None:
    client, service = made.connect()
    made.add("timeout", "upstream", timeout=150)
    began = time.monotonic()
    for _ in range(3):
        made.send(client, b"lost")
        made.turn(0.04)
    assert ended(made, service) == "end after 0"
    # Not armed again by each chunk, as Toxiproxy's is.
    assert 0.14 < time.monotonic() - began < 1


def test_a_timeout_of_nothing_ends_when_it_is_removed(made: Inline) -> None:
    client, service = made.connect()
    name = made.add("timeout", "upstream")
    made.send(client, b"lost")
    assert made.nothing(service, 0.1)
    made.link.remove(name)
    assert ended(made, service) == "end after 0"


def test_resets_reach_live_connections_on_both_sides(made: Inline) -> None:
    client, service = made.connect()
    made.add("reset_peer", "upstream")
    assert ended(made, client) == "reset" and ended(made, service) == "reset"
    made.link.remove_all()
    made.connect()


def test_a_reset_comes_after_its_time_and_can_be_called_off(made: Inline) -> None:
    client, service = made.connect()
    name = made.add("reset_peer", "downstream", timeout=120)
    made.send(service, b"held")
    assert made.nothing(client, 0.05)
    made.link.remove(name)
    assert made.read(client, 4) == b"held"
    began = time.monotonic()
    made.add("reset_peer", "downstream", timeout=120)
    assert ended(made, client) == "reset"
    assert time.monotonic() - began >= 0.12


def test_a_black_hole_loses_nothing(made: Inline) -> None:
    client, service = made.connect()
    made.add("black_hole", "upstream", name="up")
    made.add("black_hole", "downstream", name="down")
    made.send(client, b"to")
    made.send(service, b"fro")
    client.shutdown(socket.SHUT_WR)
    assert made.nothing(service) and made.nothing(client)
    made.link.remove("up")
    assert made.read(service) == b"to"
    assert made.nothing(client)
    made.link.remove("down")
    assert made.read(client, 3) == b"fro"


def test_a_toxic_that_cannot_be_taken_back_is_in_still_and_tried_again(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add("refuse", name="r", ttl=0.1)

    def cannot() -> None:
        raise OSError(98, "Address already in use")

    with monkeypatch.context() as patched:
        patched.setattr(made.link, "listen_or_not", cannot)
        with pytest.raises(ProxyError, match="the toxic r stays: Address already in use"):
            made.link.remove("r")
        assert [toxic.name for toxic in made.link.toxics()] == ["r"]
        made.turn(0.3)
        assert [toxic.name for toxic in made.link.toxics()] == ["r"]
    assert made.until(lambda: not made.link.toxics())
    made.connect()


def test_refused_is_refused_and_the_port_stays_ours(made: Inline) -> None:
    client, _ = made.connect()
    made.add("refuse", name="r")
    assert ended(made, client) == "reset"
    with pytest.raises(ConnectionRefusedError):
        made.dial()
    host, port = made.link.listen.rsplit(":", 1)
    for again in (0, 1):  # Nearly every server lets its address be used again.
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
            other.bind((host, int(port)))
            other.listen()
    made.link.remove("r")
    assert made.link.listen == f"{host}:{port}"
    made.connect()
    made.add("refuse", name="r")
    made.link.disable()
    made.link.enable()
    with pytest.raises(ConnectionRefusedError):
        made.dial()
    made.link.remove("r")
    made.connect()


def test_corruption_flips_one_bit_of_a_segment(made: Inline) -> None:
    client, service = made.connect()
    made.add("corrupt", "upstream", share=1)
    data = bytes(SEGMENT * 10)
    made.send(client, data)
    got = made.read(service, len(data))
    flipped = [sum(byte.bit_count() for byte in got[at : at + SEGMENT])
               for at in range(0, len(got), SEGMENT)]  # fmt: skip
    # The data may have come in several chunks, whose segments begin anew.
    assert 10 <= sum(flipped) <= 20 and max(flipped) <= 2
    made.link.remove_all()
    assert took(made, client, service, data) >= 0


def test_half_of_the_segments_are_corrupt(made: Inline) -> None:
    client, service = made.connect()
    made.add("corrupt", "upstream", share=0.5)
    data = bytes(SEGMENT * 1000)
    made.send(client, data)
    got = made.read(service, len(data))
    assert 400 < sum(byte.bit_count() for byte in got) < 620


def test_loss_stalls_and_loses_nothing(made: Inline) -> None:
    client, service = made.connect()
    made.add("loss", "upstream", share=1, stall=1)
    data = os.urandom(5000)
    assert took(made, client, service, data) >= 0.03, (
        "lost again and again, each time twice as long"
    )
    made.link.remove_all()
    made.add("loss", "upstream", share=0.5, stall=60, seed=3)
    late = [took(made, client, service, b"x") >= 0.05 for _ in range(24)]
    assert 4 <= sum(late) <= 20


# --- which connections, and for how long ---------------------------------------------------------


def toxic_ones(made: Inline) -> set[int]:
    return {c.number for c in made.link.connections() if c.up is not None and c.up.stages}


def test_toxicity_is_a_share_of_connections_decided_once(made: Inline) -> None:
    for _ in range(60):
        made.connect()
    name = made.add("latency", "upstream", toxicity=0.5, seed=11)
    chosen = toxic_ones(made)
    assert 15 <= len(chosen) <= 45
    made.link.change(name, {"attributes": {"latency": 1}})
    assert toxic_ones(made) == chosen
    made.link.change(name, {"toxicity": 0.5})
    assert toxic_ones(made) == chosen
    made.link.change(name, {"toxicity": 0.8})
    assert toxic_ones(made) > chosen, "who was in stays in"
    made.link.change(name, {"toxicity": 0})
    assert not toxic_ones(made)
    made.link.change(name, {"toxicity": 1})
    assert len(toxic_ones(made)) == 60
    made.link.remove(name)
    made.add("latency", "upstream", toxicity=0.5, seed=11)
    assert toxic_ones(made) == chosen, "the same seed chooses the same"
    made.link.remove_all()
    made.add("latency", "upstream", toxicity=0.5, seed=12)
    assert toxic_ones(made) != chosen


def test_new_connections_are_drawn_too(made: Inline) -> None:
    made.add("latency", "upstream", toxicity=0.5, seed=11)
    for _ in range(60):
        made.connect()
    before = toxic_ones(made)
    made.link.remove_all()
    made.add("latency", "upstream", toxicity=0.5, seed=11)
    assert toxic_ones(made) == before


def test_a_toxicity_that_is_raised_puts_the_stage_in_its_place(made: Inline) -> None:
    made.connect()
    first = made.add("latency", "upstream", name="first", toxicity=0)
    made.add("bandwidth", "upstream", name="second")
    made.add("slicer", "upstream", name="third", average_size=1)
    made.link.change(first, {"toxicity": 1})
    (connection,) = made.link.connections()
    assert connection.up is not None
    assert [stage.toxic.name for stage in connection.up.stages] == ["first", "second", "third"]
    assert [toxic.name for toxic in made.link.toxics()] == ["first", "second", "third"]


def test_a_toxic_goes_when_its_time_to_live_is_over(made: Inline) -> None:
    client, service = made.connect()
    events: list[str] = []
    made.server.subscribe(lambda kind, fields: events.append(kind))
    name = made.add("black_hole", "upstream", ttl=0.15)
    assert made.link.toxic(name).show()["ttl"] == 0.15
    began = time.monotonic()
    made.send(client, b"x")
    assert made.read(service, 1) == b"x"
    assert 0.14 < time.monotonic() - began < 2
    assert not made.link.toxics() and events == ["toxic-added", "toxic-expired"]


def test_a_time_to_live_can_be_prolonged_and_dies_with_its_toxic(made: Inline) -> None:
    name = made.add("noop", ttl=0.05)
    made.link.change(name, {"ttl": 60})
    made.turn(0.1)
    assert made.link.toxic(name)
    made.link.remove(name)
    made.add("noop", ttl=0.05)
    made.link.remove(name)
    made.add("noop")
    made.turn(0.1)
    assert made.link.toxic(name), "an earlier one's end is not its own"


@pytest.mark.parametrize(
    ("kind", "attributes", "why"),
    [
        ("latency", {"latency": -1}, "between 0 ms"),
        ("latency", {"latency": "1"}, "attributes.latency must be a number"),
        ("latency", {"latency": True}, "must be a number"),
        ("latency", {"latency": float("nan")}, "too large"),
        ("latency", {"jitter": 10**30}, "too large"),
        ("latency", {"distribution": "gauss"}, "uniform, normal or pareto"),
        ("latency", {"correlation": 1.5}, "correlation"),
        ("bandwidth", {"rate": -1}, "rate must be"),
        ("bandwidth", {"rate": 1.5}, "whole number"),
        ("slicer", {}, "average_size"),
        ("slicer", {"average_size": 5, "size_variation": 5}, "size_variation"),
        ("limit_data", {"bytes": -1}, "bytes"),
        ("timeout", {"timeout": -1}, "timeout"),
        ("reset_peer", {"timeout": -5}, "timeout"),
        ("slow_close", {"delay": -5}, "delay"),
        ("loss", {"share": 2}, "share"),
        ("loss", {"stall": 0}, "stall"),
        ("corrupt", {"share": -0.1}, "share"),
    ],
)
def test_bad_attributes_are_a_400_with_the_reason_and_change_nothing(
    made: Inline, kind: str, attributes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ProxyError, match=why) as raised:
        made.link.add({"type": kind, "attributes": attributes})
    assert raised.value.status == 400 and not made.link.toxics()
    good: dict[str, Any] = {"average_size": 1} if kind == "slicer" else {}
    name = made.link.add({"type": kind, "attributes": good}).name
    before = made.link.toxic(name).show()
    if kind != "slicer" or attributes:
        with pytest.raises(ProxyError, match=why):
            made.link.change(name, {"attributes": attributes, "toxicity": 0.5})
    assert made.link.toxic(name).show() == before


@pytest.mark.parametrize("own", [{"toxicity": 1.5}, {"toxicity": -1}, {"ttl": 0}, {"seed": 1.5},
                                 {"toxicity": "1"}, {"attributes": []}, {"name": 5}])  # fmt: skip
def test_bad_settings_of_a_toxic_are_a_400(made: Inline, own: dict[str, Any]) -> None:
    with pytest.raises(ProxyError) as raised:
        made.link.add({"type": "noop", **own})
    assert raised.value.status == 400 and not made.link.toxics()


def test_there_is_an_end_to_the_number_of_toxics(made: Inline) -> None:
    for number in range(100):
        made.add("noop", name=f"n{number}")
    with pytest.raises(ProxyError) as raised:
        made.add("noop", name="more")
    assert raised.value.status == 409
    client, service = made.connect()
    assert took(made, client, service, b"through a hundred") >= 0
