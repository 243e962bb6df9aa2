"""What every target has that is a process here, with what hangs on it: the root of its mixins."""

from __future__ import annotations

from chaoskit.model.binding import Binding
from chaoskit.procfs import Process


class Rooted:
    """root: the process itself, or the first one of a container."""

    binding: Binding
    root: Process

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run."""
        return f"{self.binding.mark}-{self.root.pid}"
