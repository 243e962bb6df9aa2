"""How much of something a target may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limited:
    """One limit as it is.

    key: names the cell that holds it, and the incarnation. text: what is in there. most: how much
    the target may use now at most, other limits included: processors, bytes, processes, bytes a
    second; endless where nothing limits it. used: how much of it is in use; 0 where that is no
    matter. remark: what a person should know of this limit, if anything.
    """

    key: str
    text: str
    most: float
    used: float = 0.0
    remark: str = ""
