"""What may be asked of a network of a target's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json
from chaoskit.nft import Contents


@runtime_checkable
class HasNetwork(Protocol):
    """A network of its own, into which a table of rules of ours can be put."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run, and so is the name of the table."""

    def network_key(self) -> str:
        """The incarnation of its network. Raises Gone, ChaoskitError."""

    def network_cannot(self, body: str = "") -> str | None:
        """Why a table with that body cannot be put there, here and now; None when it can. Raises
        Gone."""

    def network_remarks(self) -> Sequence[str]:
        """What a person should know of that network before it is hurt, for the plan."""

    def table(self, key: str) -> str | None:
        """The mark, if our table is in the network of that key; None when it is not. Raises Gone
        when the network has ended, which may be later than the target's end."""

    def put_table(self, key: str, body: str) -> None:
        """Make the table, whole or not at all. body: its sets and chains, as nft(8) has them."""

    def put_elements(self, key: str, sets: dict[str, list[str]]) -> None:
        """Replace what is in these sets of our table, all at once."""

    def table_contents(self, key: str) -> Contents:
        """What is in it now. Raises ChaoskitError when it is not there, Gone."""

    def drop_table(self, key: str) -> None:
        """Take it away with all that is in it; nothing when it is not there."""

    def addresses_of(self, peer: str) -> Sequence[str]:
        """The addresses that `container:NAME`, `label:KEY=VALUE` or `service:NAME` has now. Raises
        Nobody when there surely are none, ChaoskitError when nobody can be asked."""


@runtime_checkable
class HasPackets(HasNetwork, Protocol):
    """Sends and receives packets that can be delayed, reordered, doubled or spoilt."""

    def cannot_disturb(self, what: Impairment) -> str | None:
        """Why its packets cannot be disturbed so, here and now; None when they can. Raises Gone."""

    def disturb_remarks(self, what: Impairment) -> Sequence[str]:
        """By which way, and what a person should know of that. Raises Gone, ChaoskitError."""

    def disturbed_by_itself(self, what: Impairment) -> bool:
        """Whether it goes by itself when nobody of ours is left. Raises Gone, ChaoskitError."""

    def disturbing(self, what: Impairment) -> Iterator[Change]:
        """The cells that it takes, in order. Raises Gone, ChaoskitError."""

    def disturbed(self, change: Change) -> Json:
        """What that cell holds now. Raises Gone, ChaoskitError."""

    def disturb(self, what: Impairment, change: Change) -> None: ...

    def calm(self, change: Change, *, whatever: bool = False) -> None:
        """Put back what was in that cell: only if ours is there now, or whatever is."""

    def keep_disturbed(self, changes: Sequence[Change]) -> None:
        """Raises ChaoskitError when a part of it has ended and what is left does harm."""

    def redirect_others(self, what: Impairment, changes: Sequence[Change]) -> None:
        """The addresses that are meant have become those."""

    def connections_disturbed(self, changes: Sequence[Change]) -> int | None:
        """How many were opened through it so far, by others than us; None where that is not
        counted. Raises Gone, ChaoskitError."""

    def shows_disturbance(self, what: Impairment, changes: Sequence[Change]) -> bool | None:
        """Whether traffic of our own shows it; None when that tells nothing. Raises Gone,
        ChaoskitError, Interrupted."""


@runtime_checkable
class HasResolver(HasNetwork, Protocol):
    """Asks name servers, in whose place a helper of ours can answer."""

    def resolvers(self) -> Sequence[str]:
        """The addresses of its name servers, as its configuration has them now. Raises Gone,
        ChaoskitError."""

    def answer_names(self, mark: str, plan: Mapping[str, Any]) -> None:
        """Start the helper (see `chaoskit.helpers.dns`) under that mark, with its sockets open; no
        query comes to it before a table leads it there. plan: its `names` and `answer`. Raises
        Gone, ChaoskitError."""

    def answering(self, mark: str) -> Mapping[str, Any] | None:
        """The whole plan of the living helper of that mark, with the ports that it has (`ends`);
        None when there is none."""

    def end_answering(self, mark: str) -> None: ...

    def ask_resolver(self, resolver: str, query: bytes, wait: float) -> bytes | None:
        """What is answered to a query that is sent as the target sends it; None for silence.
        Raises OSError when it cannot be sent, or is refused; Gone."""
