"""Whatever toxics come and go that drop nothing: what comes out is what went in."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline import Inline, inline

HARMLESS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "noop": st.just({}),
    "latency": st.fixed_dictionaries(
        {
            "latency": st.integers(0, 8),
            "jitter": st.integers(0, 8),
            "distribution": st.sampled_from(["uniform", "normal", "pareto"]),
            "correlation": st.sampled_from([0, 0.5, 1]),
        }
    ),
    "bandwidth": st.fixed_dictionaries(
        {"rate": st.sampled_from([0, 50, 5000, 10**6]), "shared": st.booleans()}
    ),
    "slicer": st.fixed_dictionaries(
        {
            "average_size": st.integers(2, 2000),
            "size_variation": st.integers(0, 1),
            "delay": st.sampled_from([0, 10, 200]),
        }
    ),
    "loss": st.fixed_dictionaries({"share": st.sampled_from([0, 0.1, 1]), "stall": st.just(1)}),
    "slow_close": st.fixed_dictionaries({"delay": st.integers(0, 20)}),
    "black_hole": st.just({}),
    "reset_peer": st.just({"timeout": 10**7}),
    "corrupt": st.just({"share": 0}),
    "limit_data": st.just({"bytes": 10**9}),
    "http_delay": st.just({"delay": 1}),
    "http_error": st.just({"path": "/no"}),
}
SIZES = st.one_of(st.integers(0, 50), st.integers(1000, 3000), st.integers(60_000, 300_000))


@st.composite
def toxics(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(HARMLESS)))
    both = not kind.startswith("http")
    return {
        "type": kind,
        "stream": draw(st.sampled_from(["upstream", "downstream"])) if both else "upstream",
        "attributes": draw(HARMLESS[kind]),
        "toxicity": draw(st.sampled_from([0, 0.5, 1])),
    }


STEPS = st.one_of(
    st.tuples(st.just("up"), SIZES),
    st.tuples(st.just("down"), SIZES),
    st.tuples(st.just("add"), toxics()),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("change"), st.integers(0, 5)),
    st.tuples(st.just("toxicity"), st.sampled_from([0, 0.5, 1])),
    st.tuples(st.just("wait"), st.integers(0, 6)),
    st.tuples(st.just("half-close"), st.booleans()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=14), st.booleans(), st.booleans())
def test_what_comes_out_is_what_went_in(
    steps: list[tuple[str, Any]], small: bool, narrow: bool
) -> None:
    # A memory that is used up at once must slow down and lose nothing either.
    with inline(memory=100_000 if small else 1 << 30) as made:
        play(made, steps, narrow)
        assert made.server.memory.used == 0


def play(made: Inline, steps: list[tuple[str, Any]], narrow: bool) -> None:
    client, service = made.connect()
    if narrow:
        made.narrow()
    ends = {"up": (client, service), "down": (service, client)}
    sent = {"up": bytearray(), "down": bytearray()}
    waiting = {"up": bytearray(), "down": bytearray()}
    got = {"up": bytearray(), "down": bytearray()}
    closed: set[str] = set()
    known: list[str] = []

    def flow() -> None:
        """Whatever can move now does."""
        for way, (source, sink) in ends.items():
            if waiting[way]:
                with contextlib.suppress(BlockingIOError):
                    del waiting[way][: source.send(waiting[way])]
            with contextlib.suppress(BlockingIOError):
                got[way] += sink.recv(1 << 20)

    def flowed() -> bool:
        flow()
        return not any(waiting.values()) and got == sent

    for count, (what, value) in enumerate(steps):
        if what in ends:
            if what not in closed:
                data = os.urandom(value)
                sent[what] += data
                waiting[what] += data
        elif what == "add":
            known.append(made.link.add({**value, "name": f"t{count}"}).name)
        elif what == "remove" and known:
            made.link.remove(known.pop(value % len(known)))
        elif what == "change" and known:
            name = known[value % len(known)]
            made.link.change(name, {"attributes": made.link.toxic(name).attributes()})
        elif what == "toxicity" and known:
            made.link.change(known[0], {"toxicity": value})
        elif what == "wait":
            made.turn(value / 1000)
        elif what == "half-close":
            way = "up" if value else "down"
            if not waiting[way] and way not in closed:
                closed.add(way)
                ends[way][0].shutdown(socket.SHUT_WR)
        flow()
        made.turn()
    for name in known:
        made.link.remove(name)
    assert made.until(flowed, 20), {way: (len(got[way]), len(sent[way])) for way in got}
    for way, (source, sink) in ends.items():
        if way not in closed:
            source.shutdown(socket.SHUT_WR)
        assert made.read(sink) == b"", "something came behind the end"
    assert made.until(lambda: made.link.open == 0)


@pytest.mark.parametrize("kind", ["latency", "bandwidth", "slicer", "black_hole", "reset_peer"])
def test_removing_lets_go_of_everything_at_once_and_in_order(kind: str) -> None:
    attributes = {
        "latency": {"latency": 60_000},
        "bandwidth": {"rate": 1},
        "slicer": {"average_size": 10, "delay": 10**6},
        "black_hole": {},
        "reset_peer": {"timeout": 60_000},
    }
    with inline() as made:
        client, service = made.connect()
        name = made.add(kind, "upstream", **attributes[kind])
        data = os.urandom(40_000)
        made.send(client, data)
        client.shutdown(socket.SHUT_WR)
        made.turn(0.05)
        made.link.remove(name)
        assert made.read(service, seconds=2) == data
        assert made.server.memory.used == 0


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", {"latency": 20, "jitter": 20}),
        ("loss", {"share": 0.5, "stall": 5}),
        ("bandwidth", {"rate": 200}),
        ("bandwidth", {"rate": 200, "shared": True}),
        ("slicer", {"average_size": 900, "size_variation": 300, "delay": 200}),
        ("slicer", {"average_size": 900}),
    ],
)
def test_order_is_kept_while_it_works(kind: str, attributes: dict[str, Any]) -> None:
    with inline() as made:
        client, service = made.connect()
        made.add(kind, "upstream", **attributes)
        data = os.urandom(20_000)
        for at in range(0, len(data), 2000):
            made.send(client, data[at : at + 2000])
            made.turn(0.003)
        client.shutdown(socket.SHUT_WR)
        assert made.read(service) == data
        assert made.server.memory.used == 0
