"""The report in a run's folder: report.json for machines and report.md for people."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chaoskit.journal import RunFolder
from chaoskit.model.result import Result
from chaoskit.report.page import page
from chaoskit.report.stream import dumps


def write_both(folder: RunFolder, result: Result) -> str:
    """See `chaoskit.report.write`."""
    mode = folder.state.file_mode
    try:
        _replace(folder.path / "report.json", dumps(result.to_json()) + "\n", mode)
        _replace(folder.path / "report.md", page(result), mode)
    except OSError as error:
        return f"the report in {folder.path} could not be written: {error.strerror or error}"
    return ""


def _replace(path: Path, text: str, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            beside.chmod(mode)
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
