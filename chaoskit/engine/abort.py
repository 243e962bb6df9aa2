"""One way out: a gate, a halt, a signal, a deadline and an error all pull the same cord."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chaoskit.clock import Cancel


class Abort:
    """The first pull counts and says why; every wait and every long injection sees it.

    told: is called once, by the first to pull, after everybody else has been set going.

    cancel: raised by any pull. hurry: raised by those after which nothing but the undo is wanted
    (a signal, a halt), so that the verification does not wait either.
    """

    def __init__(self, told: Callable[[str, str], None]) -> None:
        self._told = told
        self.cancel = Cancel()
        self.hurry = Cancel()
        self.by = ""
        self.reason = ""
        self._guard = threading.Lock()

    def pull(self, by: str, reason: str, *, hurry: bool = False) -> None:
        """by: `gate`, `halt`, `signal`, `deadline`, `guardian`, `disk` or `error`.

        Never call it from a signal handler: it takes locks. See `ears`.
        """
        with self._guard:
            first = not self.by
            if first:
                self.by, self.reason = by, reason
        if hurry:
            self.hurry.set()
        self.cancel.set()
        if first:
            self._told(by, reason)
