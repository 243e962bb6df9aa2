"""Which files a command line means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chaoskit.errors import InputError, Problem

ENDINGS = (".yaml", ".yml", ".json")


def find(paths: Sequence[Path]) -> list[Path]:
    """See `chaoskit.spec.experiment_files`. A file that is named twice is meant once."""
    found: list[Path] = []
    problems: list[Problem | str] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)  # Loading it tells what is wrong with it.
        elif below := _below(path, problems):
            found += below
        else:
            problems.append(f"{path}: no experiment in it (no {', '.join(ENDINGS)} file)")
    if problems:
        raise InputError(problems)
    return list(dict.fromkeys(found))


def _below(folder: Path, problems: list[Problem | str]) -> list[Path]:
    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {error.strerror}")

    found = []
    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if name.endswith(ENDINGS)
            and not name.startswith(".")
            and os.path.isfile(Path(place, name))
        ]
    return sorted(found)
