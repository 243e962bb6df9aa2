"""The fixture `chaos_link`. pytest loads this file in every project where chaoskit is installed,
so nothing else of chaoskit is imported until a test asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chaoskit.testing.proxy import ProxiedLink


@pytest.fixture
def chaos_link() -> Iterator[Callable[..., ProxiedLink]]:
    """Put a proxy in front of a service: `chaos_link("127.0.0.1:6379")` gives a
    `chaoskit.testing.proxy.ProxiedLink`, and takes what `chaoskit.testing.proxy.link` takes. All of
    a test's links and faults are gone when it ends."""
    from chaoskit.testing.proxy import link

    with contextlib.ExitStack() as links:

        def make(
            upstream: str,
            *,
            listen: str = "127.0.0.1:0",
            protocol: str = "tcp",
            seed: int | None = None,
        ) -> ProxiedLink:
            return links.enter_context(link(upstream, listen=listen, protocol=protocol, seed=seed))

        yield make
