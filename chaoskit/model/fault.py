"""A fault is a list of small changes, each one atomic step on one cell of the world, was -> put.

The fault says what to change, how to look, how to go and how to come back; the engine owns the
journal, the order, the proof and the undo, once, for every fault.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, TypeVar

from chaoskit.model.units import Json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One atomic change of one cell; nobody can see a third value from us.

    What has parts is cut into several changes; what grows is one marked thing, None -> mark.

    key: names the incarnation that holds the cell (pid + start time + boot id, container + start).
    was: read just before the change is made; of a mapping people see what it says in `told`.
    put: in the words that `look` answers, rounded as the system rounds.
    """

    key: str
    was: Json
    put: Json


class Found(Enum):
    """Whose value a cell holds now: the old one, ours, somebody else's, or nobody's any more."""

    WAS = "was"
    OURS = "ours"
    FOREIGN = "foreign"
    GONE = "gone"


class Ends(Enum):
    """What ends a fault when the runner and its guardian are both gone. The plan prints it."""

    BY_ITSELF = "by itself"
    BY_RECOVER = "by `chaoskit recover` only"
    BY_TARGET = "as the target can: by itself, or by `chaoskit recover` only"
    ONE_WAY = "not at all: it is one way"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a target whose fault others answer (who succeeded a killed process).

    held: whether that agrees with the hypothesis; None when the file expects nothing of it.
    unknown: something was expected and could not be seen: never held, and never a failure either.
    """

    text: str
    held: bool | None = None
    unknown: bool = False


class Fault(ABC, Generic[T]):
    """A kind of fault. Subclasses are frozen dataclasses whose fields are the file's keys.

    A field's key is its name with `-` for `_`; its annotation carries the unit (see `units`);
    `field(metadata={"doc": ...})` explains it in the schema. The class docstring's first line is
    what `chaoskit faults` prints. T is the capability that the fault asks of its target.
    """

    name: ClassVar[str]
    needs: ClassVar[type]
    """The capability (a runtime-checkable Protocol) that a target must have."""
    settle: ClassVar[float] = 0.0
    """Seconds in which a request of a dead runner may still land, while they answer us to whom it
    was sent (see `ask`)."""
    patience: ClassVar[float] = 5.0
    """Seconds that making or unmaking may take to show."""

    @property
    def ends(self) -> Ends:
        """What ends it when nobody of ours is left to undo."""
        return Ends.BY_RECOVER

    def ends_on(self, target: T) -> Ends:
        """The same on this target, where that depends on it."""
        return self.ends

    momentary: ClassVar[bool] = False
    """Its effect is that something happened (an end, a restart), and not that it stays so: the
    second proof sees that it has happened, whatever came after."""
    ends_target: ClassVar[bool] = False
    """Its effect is the target's end: one that is gone proves it, where else nothing is proven."""
    alters: ClassVar[str] = ""
    """What its cells are of, where several faults have cells of the same key; else it is alone."""
    side_by_side: ClassVar[bool] = False
    """Steps at the same time may each have a cell of the same key: what is in it is each one's own,
    told apart by its mark."""
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    """Parameters as the file writes them, `${FOLDER}` for a folder: for `chaoskit faults`, and for
    the conformance suite, which runs each of them on every kind of target that has the
    capability. A fault is tested by being registered."""

    @abstractmethod
    def changes(self, target: T) -> Iterator[Change]:
        """What to change, in order; may look again (a tree that forks). Ends when nothing is new.

        The engine makes each change before it asks for the next one.
        """

    @abstractmethod
    def look(self, target: T, change: Change) -> Json:
        """The cell now. Raises Gone if its incarnation is gone."""

    def ask(self, target: T) -> None:
        """Where making is a request to somebody (a daemon) and looking is not: have an answer of
        theirs, or raise. The undo asks before it believes that the request of a dead runner, which
        may still wait to be read, does not land any more. Raises Gone as `look`."""
        return

    @abstractmethod
    def make(self, target: T, change: Change) -> None:
        """Put the change in. Long work calls `binding.cancel.check()` between its parts.

        A cell that vanishes meanwhile raises Gone, which is no error.
        """

    @abstractmethod
    def unmake(self, target: T, change: Change) -> None:
        """Back, from OURS only; a conditional write where the system has one."""

    def overwrite(self, target: T, change: Change) -> None:
        """Back to `was` whatever the cell holds now: a person has said so (`recover --force`)."""
        self.unmake(target, change)

    def found(self, now: Json, change: Change) -> Found:
        """Whose value is it? By default was, put, else FOREIGN. Decides the undo."""
        if now == change.was:
            return Found.WAS
        return Found.OURS if now == change.put else Found.FOREIGN

    def took(self, target: T, changes: Sequence[Change]) -> bool:
        """Is the effect really there? By default: every cell that is not gone holds OURS.

        Decides the verdict, never the undo. All cells gone is an effect that is not there.
        """
        from chaoskit.errors import Gone

        seen = False
        for change in changes:
            try:
                if self.found(self.look(target, change), change) is not Found.OURS:
                    return False
            except Gone:
                continue
            seen = True
        return seen

    def refuse(self, target: T) -> str | None:
        """Why this fault must not be injected here and now (it would fill the disk, call the OOM
        killer, needs a privilege); None when it may. Asked by `plan` and again just before."""
        return None

    @property
    def undo_takes(self) -> float:
        """Seconds that one `unmake` may take by itself (a command of the user's), before the
        guardian takes the runner for hung."""
        return 0.0

    def way_back(self) -> str | None:
        """How it is undone, in a few words for the plan; None for a fault that is one way."""
        return "as it was"

    def privileges(self, target: T) -> tuple[str, ...]:
        """What the user must be or have, beyond owning the target; for the plan."""
        return ()

    def remarks(self, target: T) -> tuple[str, ...]:
        """What a person should know of it on this target before it is done; for the plan."""
        return ()

    def outcome(self, target: T, changes: Sequence[Change], elapsed: float) -> Outcome | None:
        """What others made of it, asked again and again while the fault holds; None: nothing yet.

        elapsed: seconds since the injection. Only faults that others answer have one.
        """
        return None

    def keep(self, target: T, changes: Sequence[Change]) -> None:
        """Keep it in as the file says while it holds (a host's name has other addresses by now):
        called each second where a fault has it. What it raises ends the step."""

    def no_outcome(self, target: T, changes: Sequence[Change], elapsed: float) -> Outcome | None:
        """What to say when the hold ends and `outcome` never had anything; None: nothing."""
        return None
