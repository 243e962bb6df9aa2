"""How many files a proxy may have open: each connection takes two."""

from __future__ import annotations

import contextlib
import resource


def open_many() -> None:
    """As many as we may without a privilege. The limit that shells give, mostly 1024, is that low
    for programs that use select(2), which we do not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
