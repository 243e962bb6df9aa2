"""Targets, and the selectors that find them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaoskit.model.binding import Binding
from chaoskit.model.units import Json


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run holds of a target for its whole duration, as keys of incarnations.

    keys: the target and everything that is part of it (a process and its tree).
    within: what the target is itself a part of (its ancestors, the container it is in).
    """

    keys: frozenset[str]
    within: frozenset[str] = frozenset()

    def meets(self, other: Claim) -> bool:
        """Whether both hold some same thing: one's part, or one inside the other."""
        return bool(self.keys & other.keys or self.keys & other.within or self.within & other.keys)


class Target(ABC):
    """One concrete thing that may be hurt, tied to one step of one run.

    Its capabilities (see `chaoskit.capabilities`) are ordinary methods of the subclass.
    """

    kind: ClassVar[str]
    binding: Binding

    @property
    @abstractmethod
    def key(self) -> str:
        """The incarnation: a restarted process or container has another key."""

    @property
    @abstractmethod
    def label(self) -> str:
        """For people, on one line: `process 812 (python worker.py)`."""

    def there(self) -> bool:
        """Whether it still exists; targets that cannot vanish need not say."""
        return True

    def reborn(self) -> Target | None:
        """The same in its new incarnation, when the one that was hurt has ended and it goes on as
        another (a container restarts and keeps its id); None while nothing of that is to be seen.
        Targets of which no successor is the same need not say."""
        return None

    @abstractmethod
    def claim(self) -> Claim:
        """What a run holds while it has this target."""

    @abstractmethod
    def protected(self, allowed_users: Sequence[str]) -> str | None:
        """Why this target must never be touched, or None. `allowed_users` are named in the file."""

    @abstractmethod
    def ref(self) -> Json:
        """Enough to make the same target again in another process, for the journal."""

    @classmethod
    @abstractmethod
    def restore(cls, ref: Json, binding: Binding) -> Target:
        """The target that `ref` describes. Does no look-up: it may well be gone."""


class Selector(ABC):
    """Finds targets. Subclasses are frozen dataclasses whose fields are the file's keys."""

    kind: ClassVar[str]
    """The key below `target:` in the file: `process`, `docker`."""
    target: ClassVar[type[Target]]

    @abstractmethod
    def find(self, binding: Binding) -> list[Target]:
        """All that match now, in a stable order. Raises Refused when one cannot look at all."""

    def stands_on(self, binding: Binding) -> tuple[str, Target] | None:
        """What must stand before anything is looked at, and goes when all else is over: the name
        of the fault that makes it, and that fault's target. None for what is there anyway."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """For people: `process cmdline=worker\\.py`."""
