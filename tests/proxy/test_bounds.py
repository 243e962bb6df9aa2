"""However many connections and however small the pieces: the interface has its turn, and what is
kept costs what is counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from chaoskit.proxy.loop import IN, Loop

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
