"""The loop waits awake for what has come soon before, and sleeps otherwise."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from chaoskit.proxy import loop as module
from chaoskit.proxy.loop import IN, Loop

SPELL = 30.0
"""Seconds: whatever happens in a test has come soon, on a busy machine too."""


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


def nothing_comes(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn in which the spell is soon over."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "SPELL", 0.02)
        post.loop.turn(0.01)


def soon(post: Post) -> None:
    """An event that was not waited for for long."""
    post.happen()
    post.loop.turn(10)
    post.asked.patience.clear()


def test_after_an_event_that_came_soon_it_waits_awake_and_then_sleeps(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(post)
    post.happen()
    post.loop.turn(10)
    assert post.asked.slept() == 0
    nothing_comes(post, monkeypatch)
    assert len(post.asked.patience) > 1 and post.asked.slept() == 1


def test_once_in_vain_is_enough(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    soon(post)
    nothing_comes(post, monkeypatch)
    post.asked.patience.clear()
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]


def test_after_much_was_served_it_sleeps(post: Post) -> None:
    soon(post)
    post.loop.busy = True
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]


def test_after_many_events_it_sleeps_once(post: Post) -> None:
    soon(post)
    other = os.eventfd(1, os.EFD_NONBLOCK)
    post.loop.watch(other, lambda _: None, IN | select.EPOLLET)
    try:
        post.happen()
        post.loop.turn(10)  # Both at once.
        post.asked.patience.clear()
        post.happen()
        post.loop.turn(10)
        assert post.asked.patience == [10], "much was to do: the processor is for others"
        post.asked.patience.clear()
        post.happen()
        post.loop.turn(10)
        assert post.asked.patience == [0], "and then it was not much any more"
    finally:
        post.loop.unwatch(other)
        os.close(other)


@pytest.mark.parametrize("post", [{0}], indirect=True)
def test_on_one_processor_it_always_sleeps(post: Post) -> None:
    soon(post)
    post.loop.turn(0.01)
    assert post.asked.patience == [0.01]
