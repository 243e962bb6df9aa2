"""A probe that follows a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Json, Unit


@dataclass
class ScriptedProbe(Probe):
    """Reads one value of its script after the other, and the last one for ever.

    An exception in the script is raised, so that a check without data can be played too.
    """

    script: Sequence[Json | Exception]
    timeout: float = 1.0
    kind = "scripted"
    readings = {"value": Unit.NUMBER}
    main = "value"
    _left: Iterator[Json | Exception] = field(init=False)
    _last: Json | Exception = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._left = iter(self.script)

    def read(self, context: Context) -> Reading:
        self._last = next(self._left, self._last)
        if isinstance(self._last, ProbeError):
            raise self._last
        if isinstance(self._last, Exception):
            raise ProbeError(str(self._last))
        return {"value": self._last}

    def describe(self) -> str:
        return "a script"
