"""What people read of a run: while it goes on, when it is over, and later in its folder."""

from chaoskit.report.files import write
from chaoskit.report.markdown import markdown

__all__ = ["markdown", "write"]
