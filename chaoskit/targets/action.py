"""What an action acts on: nothing that chaoskit sees, so only its own marker says it was done."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaoskit.model.binding import LOST, Binding
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json


class ActionTarget(Target):
    """The place of one action in one run; its marker lies in the run's folder.

    begun: whether it is done as far as is known without the marker: this process has done it or
    taken it back, or the folder that had the marker in it was lost. None: ask the marker.
    request: the thread in which this process is sending it, or has. folder: where it works, and
    so where its way back does; empty when that is not known. restored: another process does the
    way back.
    """

    kind = "action"

    def __init__(self, binding: Binding, folder: str | None = None) -> None:
        self.binding = binding
        self.folder = _here() if folder is None else folder
        self.restored = False
        self.begun: bool | None = None
        self.request: threading.Thread | None = None

    @property
    def key(self) -> str:
        return f"action:{self.binding.mark}"

    @property
    def label(self) -> str:
        return f"step {self.binding.step}"

    @property
    def marker(self) -> Path:
        return self.binding.folder / f"action-{self.binding.step}"

    def claim(self) -> Claim:
        return Claim(frozenset({self.key}))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return None

    def workplace(self) -> Path | None:
        """The folder to work in; None where this process is. One that is gone leads nowhere: what
        is to be undone elsewhere is, and what a relative path would mean anywhere else is nothing
        to touch."""
        if os.path.isdir(self.folder) and os.access(self.folder, os.X_OK):
            return Path(self.folder)
        return self.binding.folder if self.restored and self.binding.folder.is_dir() else None

    def ref(self) -> Json:
        return {"folder": self.folder}

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> ActionTarget:
        known: Any = ref
        made = cls(binding, known.get("folder", ""))
        made.restored = True
        if (binding.folder / LOST).exists():
            made.begun = True
        return made


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


class ActionSelector(Selector):
    """Only so that the journal's actions are made again like everything else."""

    kind = "action"
    target = ActionTarget

    def find(self, binding: Binding) -> list[Target]:
        return [ActionTarget(binding)]

    def describe(self) -> str:
        return "action"
