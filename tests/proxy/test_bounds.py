"""However many connections and however small the pieces: the interface has its turn, and what is
kept costs what is counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from inline import Inline, inline

from chaoskit.proxy.loop import IN, Loop
from chaoskit.proxy.toxic import Toxic
from chaoskit.proxy.toxics.delays import Noop


@pytest.fixture
def made() -> Iterator[Inline]:
    with inline() as made:
        yield made


# --- turns ---------------------------------------------------------------------------------------


def by_events(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        ready = os.eventfd(1)
        loop.watch(ready, lambda _: work(), IN)


def by_soon(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        loop.soon(work)


def by_timers(loop: Loop, work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        loop.at(loop.now(), work)
    time.sleep(0.002)


@pytest.mark.parametrize("way", [by_events, by_soon, by_timers])
def test_who_is_urgent_waits_for_few_of_many_that_take_long(
    way: Callable[[Loop, Callable[[], None], int], None],
) -> None:
    loop = Loop()
    urgent = os.eventfd(0)
    worked, served = 0, 0

    def work() -> None:
        nonlocal worked
        worked += 1
        if worked == 1:
            os.eventfd_write(urgent, 1)
        time.sleep(0.003)

    def serve(events: int) -> None:
        nonlocal served
        os.eventfd_read(urgent)
        served = worked

    loop.watch(urgent, serve, IN, urgent=True)
    way(loop, work, 20)
    while not served:
        loop.turn(0.1)
    loop.close()
    assert 1 <= served <= 5, "all others came first"


def test_a_toxic_draws_nothing_for_connections_that_are_quiet(
    made: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source of chance takes 15 us to make; there may be ten thousand connections."""
    made.connect()
    monkeypatch.delattr(Toxic, "random")
    made.add("latency", "upstream", latency=1, jitter=1)
    made.add("loss", "upstream", share=0.5)
    made.add("corrupt", "upstream", share=0.5)
    made.add("slicer", "upstream", average_size=10, size_variation=5)
    made.add("http_error", "upstream", share=0.5)


def test_ten_thousand_connections_are_drawn_at_once() -> None:
    toxic = Noop()
    toxic.toxicity = 0.3
    began = time.process_time()
    chosen = sum(toxic.applies(number) for number in range(10_000))
    assert time.process_time() - began < 0.1
    assert 2800 < chosen < 3200
