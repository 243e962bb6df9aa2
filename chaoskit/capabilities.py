"""What a fault may ask of a target, one small Protocol each, so that faults are blind to targets.

A target has a capability by having its methods. `Fault.needs` names one, and the loader refuses a
fault on a kind of target without it.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from chaoskit.model.binding import Binding
from chaoskit.model.container import ContainerState, Standing
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.limited import Limited
from chaoskit.model.units import Json
from chaoskit.nft import Contents


class Proc(Protocol):
    """One incarnation of a process. Every method raises Gone once it has ended."""

    @property
    def key(self) -> str:
        """pid, start time and boot id."""

    @property
    def pid(self) -> int: ...

    def state(self) -> str:
        """`running`, `stopped` or `traced`; a zombie is Gone."""

    def stopping(self) -> bool:
        """Whether it has stopped, or a SIGSTOP that was sent is about to stop it."""

    def signal(self, number: signal.Signals) -> None:
        """Send to this incarnation and to no successor of its pid."""

    def file_limit(self) -> tuple[int, int]:
        """RLIMIT_NOFILE as (soft, hard)."""

    def set_file_limit(self, soft: int) -> None: ...

    def open_files(self) -> int:
        """How many descriptors it has open."""


@runtime_checkable
class HasProcesses(Protocol):
    """A tree of processes: can be paused, killed, limited."""

    binding: Binding

    def tree(self) -> list[Proc]:
        """The target's processes now, parents first. Empty when it has ended."""

    def process(self, key: str) -> Proc:
        """The process of that key; does no look-up, its methods raise Gone."""


@runtime_checkable
class HasRole(HasProcesses, Protocol):
    """Fills a role that others may take over: what matches the selector that found it."""

    @property
    def has_role(self) -> bool:
        """Whether a successor could be told: a process named by its pid has none."""

    def describe(self, process: Proc) -> str:
        """A process for people, on one line."""

    def peers(self) -> list[Proc]:
        """All that match the role now (protected ones left out)."""

    @property
    def complement(self) -> int:
        """How many matched when this target was found."""

    def successors(self) -> list[Proc]:
        """Those that match now and were not there when this target was found, oldest first."""

    def start(self, command: str | tuple[str, ...], token: str) -> None:
        """Start a process that outlives chaoskit, its output in the run's folder, and which can be
        found again by its token however soon after the call everybody else dies."""

    def started(self, token: str) -> bool:
        """Whether a process that was started under this token is alive."""


@runtime_checkable
class HasBurdens(Protocol):
    """A place where helper processes of ours can burn or hold something."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run; part of each helper's arguments."""

    def no_burden(self) -> str | None:
        """Why no helper can work there; None when one can."""

    def cpus(self) -> list[int]:
        """The processors that the target may run on. Raises Gone."""

    def burden(self, mark: str, work: Sequence[str], cpus: Sequence[int] = ()) -> None:
        """Start the helper `work` (see `chaoskit.helpers.burden`) under that mark."""

    def burden_alive(self, mark: str) -> bool: ...

    def end_burden(self, mark: str) -> None: ...

    def burden_work(self, mark: str) -> Sequence[str]:
        """The `work` that the helper was started with. Raises Gone when it or the target has
        ended."""

    def burden_report(self, mark: str) -> dict[str, float]:
        """What the helper has done and holds: `cpu` seconds, `wanted` seconds (ran, or waited for
        a processor, or was kept from one by a quota), `age` seconds, `rss` bytes, `read` and
        `written` bytes, open `files`, and whether it is `stopped`. Raises Gone when it or the
        target has ended."""

    def memory_free(self) -> int:
        """Bytes that can be taken before the OOM killer is called, cgroup limits included."""

    def memory_room(self) -> int:
        """Bytes that can be taken while the reserve stays free: of the machine 5% or 256 MiB,
        whichever is more, and of each control group with a limit 5% or 16 MiB."""

    def descriptors(self) -> tuple[int, int]:
        """The machine's open descriptors and their limit."""

    def open_numbers(self, key: str) -> Collection[int]:
        """The numbers of the descriptors that the process of that key has open. Raises Gone."""

    def below(self, key: str) -> Sequence[Proc]:
        """The processes below the one of that key; none when it has ended."""


@runtime_checkable
class HasFiles(Protocol):
    """Has a file system."""

    binding: Binding

    def filler(self, path: str) -> str:
        """The key of our filler file in that folder: an absolute path, seen from the host."""

    def mark_of(self, key: str) -> str | None:
        """The mark in that file; None when there is no file; its first line when not ours."""

    def grow(self, key: str, size: int | None, until: float | None) -> None:
        """Make the filler (O_EXCL) and let it grow to `size` bytes, or until the file system is
        used to that fraction, whichever is given; looks at the abort between parts and keeps the
        reserve (5% or 256 MiB, whichever is more) free, stopping there."""

    def unlink(self, key: str) -> None: ...

    def host_folder(self, path: str) -> str:
        """The folder that the target calls `path`, as this machine sees it, now and when the
        target has ended. Raises ChaoskitError when there is none that we may write in, Gone when
        the target has ended."""

    def space(self, path: str) -> tuple[int, int]:
        """(free bytes for ordinary users, all bytes) of the file system that a folder of this
        machine is on."""

    def reserve(self, path: str) -> int:
        """Bytes that always stay free there."""

    def size_of(self, key: str) -> int:
        """Bytes that the filler occupies."""


@runtime_checkable
class HasLink(Protocol):
    """Carries traffic that can be delayed, narrowed, dropped, cut or changed."""

    binding: Binding

    def cannot(self, what: Impairment) -> str | None:
        """Why this link cannot be impaired so, here and now; None when it can."""

    def remarks(self, what: Impairment) -> Sequence[str]:
        """What a person should know of it before it is done, for the plan."""

    def lets_go(self) -> bool:
        """Whether an impairment goes by itself when nobody of ours is left."""

    def impairing(self, what: Impairment) -> Change:
        """The cell that would hold it, what is in there now, and what would be. Raises Gone."""

    def holds(self, key: str) -> Json:
        """What the cell of that key holds now. Raises Gone when the link is gone, and
        ChaoskitError when that cannot be told."""

    def impair(self, what: Impairment, change: Change) -> None: ...

    def relieve(self, change: Change) -> None:
        """Put back what was in that cell, whatever it holds now."""

    def shows(self, what: Sequence[Impairment]) -> bool | None:
        """Whether traffic of our own through the link shows these; None when that tells nothing.
        Looks at the abort meanwhile."""


@runtime_checkable
class IsContainer(Protocol):
    """A container: can be paused, ended and started by its daemon."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run."""

    @property
    def key(self) -> str:
        """The container, whatever its incarnation."""

    @property
    def started(self) -> str:
        """When the incarnation that is hurt was started: with the key it names it. Raises Gone."""

    @property
    def here(self) -> bool:
        """Whether its processes are on this machine and to be seen by us."""

    def state(self) -> ContainerState:
        """What its daemon says of it now. Raises Gone when it was removed, ChaoskitError when the
        daemon does not answer."""

    def successors(self) -> Sequence[str]:
        """For people: those that match now and were not there when this target was found."""

    def replaced(self) -> bool:
        """Whether an orchestrator that manages it has put others in its place. Raises Gone,
        ChaoskitError."""

    def paused(self) -> bool:
        """Whether the incarnation is frozen. Raises Gone when it has ended."""

    def pause(self) -> None: ...

    def unpause(self) -> None: ...

    def signal(self, number: signal.Signals) -> None:
        """To its first process."""

    def stop(self, grace: float) -> None:
        """As its daemon stops it: its stop signal, and SIGKILL after so many seconds."""

    def restart(self, grace: float) -> None: ...

    def start(self) -> None:
        """Nothing when it runs."""


@runtime_checkable
class HasLimits(Protocol):
    """Is kept within limits by the kernel, which can be lowered: `cpu` (processors), `memory`
    (bytes), `pids` (processes), `read` and `write` (bytes a second of one disk)."""

    binding: Binding

    def limited(self, what: str, path: str) -> Limited:
        """How that is limited now. path: which disk is meant. Raises Gone, and ChaoskitError saying
        why it cannot be limited here."""

    def limit_text(self, what: str, path: str, most: float) -> str:
        """What its cell would hold, read back, if that were the most. Raises as `limited` does."""

    def limit_now(self, key: str) -> str:
        """What the cell of that key holds. Raises Gone."""

    def set_limit(self, key: str, text: str) -> None:
        """Raises Gone, and ChaoskitError when the kernel does not take it."""


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
class HasEndpoints(Protocol):
    """Is in Docker networks, each of which it can leave."""

    binding: Binding

    @property
    def key(self) -> str:
        """The container, whatever its incarnation: its networks stay when it restarts."""

    def network(self, name: str) -> str:
        """The id of the network of that name that it is in. Raises ChaoskitError when it is in none
        that it could leave, Gone when it was removed."""

    def endpoint(self, network: str, name: str) -> dict[str, Json] | None:
        """Its endpoint in the network of that id and name, `told` in it for people; None when it is
        not connected. Raises Gone when it was removed."""

    def same_endpoint(self, one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
        """Whether nobody in the network could tell them apart."""

    def leave(self, network: str) -> None: ...

    def join(self, network: str, endpoint: dict[str, Json]) -> None:
        """Connect it as that endpoint was, with another address when somebody else has its own by
        now. Raises ChaoskitError when the network was removed."""

    def why_address_lost(self, network: str, endpoint: dict[str, Json]) -> str | None:
        """Why it would not get its address back; None when it would, unless somebody takes it."""

    def about_return(self, network: str, endpoint: dict[str, Json]) -> Sequence[str]:
        """What a person should know of its way back, for the plan."""

    def sharers(self) -> Sequence[str]:
        """The names of the containers that use its network as their own."""

    def protected_sharer(self) -> str | None:
        """Which of these must not be touched, and why; None when there is none."""


@runtime_checkable
class CanBeMadeAgain(IsContainer, Protocol):
    """A container that can be removed, and made again by others or from what was kept of it."""

    @property
    def made_by(self) -> str:
        """Who makes it again when it is gone, as its labels say; empty when nobody does."""

    @property
    def has_role(self) -> bool:
        """Whether a successor could be told: a container named by its id has none."""

    def newcomers(self) -> Sequence[str]:
        """For people: those that have come since, once as many match and run as did then. Raises
        ChaoskitError when the daemon does not answer."""

    def kept(self) -> dict[str, Json]:
        """All that it takes to make it again, `told` in it for people. Raises Gone."""

    def why_not_again(self, kept: Mapping[str, Json]) -> str | None:
        """Why it could not be made again as it is; None when it could."""

    def lost(self, kept: Mapping[str, Json]) -> Sequence[str]:
        """What will be otherwise when it is made again, for the plan."""

    def get_ready(self, kept: dict[str, Json]) -> None:
        """Make a double of it that is not started: it holds the image and the volumes, and what
        the daemon does not take is known before anything is removed."""

    def remove(self) -> None:
        """Remove it, running or not. Its volumes stay. An undo that finds it soon afterwards knows
        that it is doomed. Raises Gone."""

    def standing(self, kept: dict[str, Json]) -> tuple[Standing, str]:
        """What has become of it, and for people what is otherwise. Raises Gone when somebody else
        has removed it, or made one of its name, or removed the one that was made again."""

    def make_again(self, kept: dict[str, Json]) -> None:
        """Its double takes its name and is started, whatever part of that was done before; the
        double of one that was never removed goes. Raises ChaoskitError, Gone."""


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


@runtime_checkable
class HasClock(Protocol):
    """Is told its time by libfaketime, which reads it from a file."""

    binding: Binding

    @property
    def mark(self) -> str:
        """Unique to this target in this step of this run."""

    def clock_file(self) -> str:
        """The path of that file on this machine, which stays valid when the target has ended.
        Raises Gone, and ChaoskitError when its clock cannot be moved, saying why."""

    def clock_settings(self) -> Mapping[str, str]:
        """What `FAKETIME...` it was started with. Raises Gone, ChaoskitError."""

    def clock_text(self, key: str) -> Json:
        """What is in the file; None when there is none; a mapping when it is no small plain text.
        Raises Gone when it went together with the target."""

    def clock_beside(self, key: str) -> str:
        """Where the file lies that is to take that one's place."""

    def lay_beside(self, key: str, text: str) -> None:
        """Write it there, with the owner and the permissions of the old one."""

    def lies_beside(self, key: str) -> bool: ...

    def take_beside(self, key: str) -> None: ...

    def put_clock(self, key: str) -> None:
        """The file beside takes its place, in one step."""

    def drop_clock(self, key: str) -> None:
        """There is no such file any more."""
