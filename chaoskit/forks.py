"""Descriptors whose closing means something: that a run has ended, that nobody has its lock.

A program that uses the library may fork (as `multiprocessing` does), and its child would keep them
open, however its parent dies. What is spawned has none of them: they are close-on-exec.
"""

from __future__ import annotations

import contextlib
import os

_ours: set[int] = set()


def keep_from_children(descriptor: int) -> None:
    """Have a forked child close it. Say `forget` before it is closed here."""
    _ours.add(descriptor)


def forget(descriptor: int) -> None:
    _ours.discard(descriptor)


def _close() -> None:
    for descriptor in _ours:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _ours.clear()


os.register_at_fork(after_in_child=_close)
