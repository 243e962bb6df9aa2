"""Connections that end in the middle."""

from __future__ import annotations

from dataclasses import dataclass, field

from chaoskit.faults.network import Directed
from chaoskit.model.units import Size


@dataclass(frozen=True)
class LimitData(Directed):
    """End each connection when so many bytes have passed."""

    size: Size = field(metadata={"doc": "bytes that pass first"})
    name = "limit-data"
    takes = ("size",)
    examples = ({"size": "1KiB"},)
