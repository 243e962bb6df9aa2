"""Probes and what they read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from chaoskit.clock import Cancel
from chaoskit.model.units import Json, Unit

Reading: TypeAlias = Mapping[str, Json]
"""What a probe read, by name: `{"status": 200, "latency": 0.012, "body": "..."}`."""


@dataclass(slots=True)
class Context:
    """What a probe may use while it reads; one for each check of a run, kept over its readings.

    environment: variables (secrets among them) that commands get.
    memory: the probe's own, kept from one reading to the next (an open connection, an offset).
    cancel: raised when nobody wants the reading any more.
    folder: where relative paths and commands start: the folder that chaoskit was started in.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    cancel: Cancel = field(default_factory=Cancel)
    folder: Path = field(default_factory=Path.cwd)
    closers: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """Close what the probe kept open."""
        while self.closers:
            self.closers.pop()()


class Probe(ABC):
    """Reads numbers and texts from a system. Subclasses are frozen dataclasses of the file's keys.

    Every probe has a `timeout` field (a Duration): `read` returns or raises within it.
    """

    kind: ClassVar[str]
    """The key in the file: `http`, `command`."""
    readings: ClassVar[Mapping[str, Unit]]
    """The names that `expect` may use, and their units. A name that ends in ` *` is completed in
    the file: `json *` by `expect: {json: {"$.ok": true}}`, which is then the reading `json $.ok`.
    A probe with such names, or one to which a reading is dear, has a field
    `wants: tuple[str, ...] = ()`, no key of the file, in which the loader says which names the
    expectations ask for, completed ones as such."""
    main: ClassVar[str]
    """The reading that is meant when `expect` names none (`expect: {below: 5}`)."""
    timeout: float

    @abstractmethod
    def read(self, context: Context) -> Reading:
        """Read once. Raises ProbeError when there is nothing to read: never a made-up value."""

    @abstractmethod
    def describe(self) -> str:
        """For people, on one line: `GET http://127.0.0.1:8080/health`."""

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong between the fields, as (field, message); checked when a file is loaded."""
        return []
