"""What the faults have in common that hurt some HTTP requests of a link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from chaoskit.faults.network import Network
from chaoskit.model.impairment import Impairment
from chaoskit.model.params import freeze_value
from chaoskit.model.units import Percent, Regex


@dataclass(frozen=True)
class HttpRequests(Network):
    """What is done to a share of the HTTP/1.1 requests that match."""

    method: str = field(default="", kw_only=True, metadata={"doc": "such as GET; any when absent"})
    path: Regex = field(
        default="",
        kw_only=True,
        metadata={"doc": "a regular expression for the whole path; any when absent"},
    )
    share: Percent = field(
        default=1.0,
        kw_only=True,
        metadata={"above": 0, "max": 1, "doc": "how many of the requests that match"},
    )
    takes: ClassVar[tuple[str, ...]] = ()

    def impairments(self) -> tuple[Impairment, ...]:
        names = (*self.takes, "method", "path", "share")
        values = {name: freeze_value(getattr(self, name), {}) for name in names}
        return (Impairment(self.name, "upstream", self.toxicity, values),)
