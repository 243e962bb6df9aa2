"""The loop waits awake for what has come soon before, and sleeps otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from chaoskit.proxy import loop as module
from chaoskit.proxy.loop import IN, Loop

SPELL = 0.05
"""Seconds: enough that an event of ours is soon on a busy machine too."""


class Asked:
    """Stands before the loop's epoll, and notes with which patience it is asked."""

    def __init__(self, epoll: object) -> None:
        self.epoll = epoll
        self.patience: list[float] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.patience.append(timeout)
        return self.epoll.poll(timeout, most)  # type: ignore[attr-defined,no-any-return]

    def __getattr__(self, name: str) -> object:
        return getattr(self.epoll, name)

    def slept(self) -> int:
        """How often since the last question to us; the others were asked awake."""
        found = len([one for one in self.patience if one])
        self.patience.clear()
        return found


class Post:
    """A loop with one descriptor on which something can be made to happen."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.asked = Asked(loop._epoll)
        loop._epoll = self.asked  # type: ignore[assignment]
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        loop.watch(self.fd, lambda _: self._read(), IN)

    def _read(self) -> None:
        os.eventfd_read(self.fd)

    def happen(self) -> None:
        os.eventfd_write(self.fd, 1)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Post]:
    monkeypatch.setattr(module, "SPELL", SPELL)
    processors = getattr(request, "param", {0, 1})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors)
    with closing(Loop()) as loop:
        made = Post(loop)
        yield made
        os.close(made.fd)


def soon(post: Post) -> None:
    """An event that was not waited for for long."""
    post.happen()
    post.loop.turn(10)
    post.asked.patience.clear()


def test_after_an_event_that_came_soon_it_waits_awake_and_then_sleeps(post: Post) -> None:
    soon(post)
    post.happen()
    post.loop.turn(10)
    assert post.asked.slept() == 0
    post.loop.turn(0.01)  # Nothing comes: it has looked for a spell, and slept.
    assert len(post.asked.patience) > 1 and post.asked.slept() == 1


def test_once_in_vain_is_enough(post: Post) -> None:
    soon(post)
    post.loop.turn(0.01)
    post.asked.patience.clear()
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]


def test_after_much_was_served_it_sleeps(post: Post) -> None:
    soon(post)
    post.loop.busy = True
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]


@pytest.mark.parametrize("post", [{0}], indirect=True)
def test_on_one_processor_it_always_sleeps(post: Post) -> None:
    soon(post)
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]
