"""What people read of a run: while it goes on, when it is over, and later in its folder."""

from __future__ import annotations

TYPE_CHECKING = False  # Every command imports this package; most write no report.
if TYPE_CHECKING:
    from chaoskit.journal import RunFolder
    from chaoskit.model.result import Result

__all__ = ["markdown", "write"]


def write(folder: RunFolder, result: Result) -> str:
    """Write report.json and report.md into the run's folder, each whole or not at all.

    Never raises for what the disk does, since a verdict is worth more than its report: returns
    what went wrong in one line, or "".
    """
    from chaoskit.report.files import write_both

    return write_both(folder, result)


def markdown(result: Result) -> str:
    """The report of a run as Markdown."""
    from chaoskit.report.page import page

    return page(result)
