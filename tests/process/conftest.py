"""A shop of the test's own: real processes, its own folder, ports and name, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shops import Shop


@pytest.fixture
def closed_shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that the test opens itself."""
    made = Shop(tmp_path)
    try:
        yield made
    finally:
        left = made.stop()
    assert not left, f"processes of the shop were left: {left}"


@pytest.fixture
def shop(closed_shop: Shop) -> Shop:
    """An open shop with customers, who are happy."""
    closed_shop.start()
    return closed_shop
