"""What a scan for tables of rules says of networks that it may not look into."""

from __future__ import annotations

import os
from typing import Any

import pytest

from chaoskit import namespaces, nft
from chaoskit.targets.network import leftover_tables


def test_processes_whose_network_is_hidden_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(process: Any) -> int:
        raise PermissionError

    monkeypatch.setattr(namespaces, "number_of", hidden)
    monkeypatch.setattr(nft, "missing", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    unseen: list[str] = []
    assert list(leftover_tables(unseen.append)) == []
    (told,) = unseen
    assert told.endswith(": we may not look there") and "process" in told
