"""What may be asked of a link that a proxy carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json


@runtime_checkable
class HasLink(Protocol):
    """Carries traffic that can be delayed, narrowed, dropped, cut or changed."""

    binding: Binding

    def cannot(self, what: Impairment) -> str | None:
        """Why this link cannot be impaired so, here and now; None when it can."""

    def remarks(self, what: Impairment) -> Sequence[str]:
        """What a person should know of it before it is done, for the plan."""

    def lets_go(self) -> bool:
        """Whether an impairment goes by itself when nobody of ours is left."""

    def impairing(self, what: Impairment) -> Change:
        """The cell that would hold it, what is in there now, and what would be. Raises Gone."""

    def holds(self, key: str) -> Json:
        """What the cell of that key holds now. Raises Gone when the link is gone, and
        ChaoskitError when that cannot be told."""

    def impair(self, what: Impairment, change: Change) -> None: ...

    def relieve(self, change: Change) -> None:
        """Put back what was in that cell, whatever it holds now."""

    def shows(self, what: Sequence[Impairment]) -> bool | None:
        """Whether traffic of our own through the link shows these; None when that tells nothing.
        Looks at the abort meanwhile."""
