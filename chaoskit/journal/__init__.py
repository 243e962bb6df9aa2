"""The state folder, the runs in it, and each run's append-only record."""

from chaoskit.journal.history import Cell, cells, summarise
from chaoskit.journal.record import Journal, read_records
from chaoskit.journal.state import Lock, RunFolder, State

__all__ = [
    "Cell",
    "Journal",
    "Lock",
    "RunFolder",
    "State",
    "cells",
    "read_records",
    "summarise",
]
