"""A target's network: one table of our own in its network namespace, and nothing else of it.

The namespace is known by its number and by the target's first process. It may outlive that process
(containers share one), and so may our table: whoever is in it then, it is found and taken away.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from chaoskit import nft
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.matching import of_chaoskit
from chaoskit.namespaces import (
    Namespace,
    in_network,
    in_new_network,
    members,
    namespace_of,
    networks,
    number_of,
)
from chaoskit.procfs import Process, boot_id
from chaoskit.targets.rooted import Rooted

_KEY = re.compile(r"netns (\d+)(?:/(\d+))? of (\S+)")
OF_A_RUN = re.compile(r"chaoskit-\d{8}-\d{6}-[0-9a-f]{6}-.+")
"""How a table is called that a run has made."""
_SHOWN = 3
"""How many of those who share the network are named."""


class Network(Rooted):
    """A target whose packets can be looked at: gives the capability `HasNetwork`.

    Everything is done by `nft_runner`: a target whose namespace cannot be entered from here may
    have another one, with keys of its own.
    """

    def network_key(self) -> str:
        """Its network namespace and who is in it first: both are of this incarnation. Raises
        Gone, ChaoskitError."""
        return f"netns {namespace_of(self.root)} of {self.root.key}"

    def nft_runner(self, key: str, *, living: bool = False) -> nft.Runner:
        """What calls nft in the namespace of that key. living: to put something there, see
        `in_network`. Raises Gone."""
        return partial(_run_in, *parts(key), living=living, mark=self.binding.mark)

    def network_cannot(self, body: str = "") -> str | None:
        """Why that cannot be put in its network, now; None when it can. body: a table's, which is
        tried out in a network of its own, where nobody is."""
        if why := nft.missing() or self.network_closed():
            return why
        if body:
            try:
                in_new_network(lambda: nft.load(nft.here, "trial", body))
            except ChaoskitError as error:
                return f"this kernel, or nft, cannot do that: {error}"
        return None

    def network_closed(self) -> str | None:
        """Why nothing at all can be done in its network, now; None when something can."""
        if os.geteuid() != 0:
            return "its network may only be entered by root"
        if self.network_is_hosts() and not self.binding.allow_host:
            return (
                "its network is that of this machine: `allow-host: true` in the blast radius "
                "allows that"
            )
        key = self.network_key()
        if in_network(*parts(key), _only_loopback):
            return "it has no network but its own loopback, which is never touched"
        return None

    def network_is_hosts(self) -> bool:
        """Whether its network is that of this machine. Raises Gone, ChaoskitError."""
        return self._number() in _hosts()

    def network_remarks(self) -> list[str]:
        """Who else is in that network and will feel it."""
        number = self._number()
        if number in _hosts():
            return ["its network is that of this machine: everything on it feels this"]
        own = _groups(self.root)
        others = []
        for process in members(number) if own else ():
            with contextlib.suppress(Gone, PermissionError):
                if not own & _groups(process) and not of_chaoskit(process):
                    others.append(f"process {process.pid} ({process.name()})")
        if not others:
            return []
        more = len(others) - _SHOWN
        named = ", ".join(others[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return [f"it shares its network, so these feel it too: {named}"]

    def table(self, key: str) -> str | None:
        """The mark, if a table of ours is there. Raises Gone when the namespace has ended."""
        name = nft.table_name(self.mark)
        return self.mark if name in nft.tables(self.nft_runner(key)) else None

    def put_table(self, key: str, body: str) -> None:
        nft.load(self.nft_runner(key, living=True), nft.table_name(self.mark), body)

    def put_elements(self, key: str, sets: dict[str, list[str]]) -> None:
        """Replace what is in these sets of our table, all at once."""
        nft.replace_sets(self.nft_runner(key), nft.table_name(self.mark), sets)

    def table_contents(self, key: str) -> nft.Contents:
        """Raises ChaoskitError when there is no such table, Gone."""
        return nft.contents(self.nft_runner(key), nft.table_name(self.mark))

    def drop_table(self, key: str) -> None:
        nft.delete(self.nft_runner(key), nft.table_name(self.mark))

    def _number(self) -> int:
        try:
            return number_of(self.root)
        except PermissionError as error:
            raise ChaoskitError(f"its network may only be entered by root: {error}") from error


def parts(key: str) -> tuple[Namespace, Process]:
    """A network namespace and its first process, of a key. Raises Gone when that is of another
    boot: the numbers of this one are other namespaces'."""
    if not (found := _KEY.fullmatch(key)):
        raise ChaoskitError(f"{key!r} is no network namespace")
    process = Process.from_key(found[3])
    if process.boot != boot_id():
        raise Gone("the network namespace was there before the machine was started anew")
    return Namespace(int(found[1]), int(found[2]) if found[2] else None), process


def _hosts() -> set[int]:
    """The numbers of the networks that are this machine's: of its first process, and ours."""
    found = set()
    for pid in (1, os.getpid()):
        with contextlib.suppress(Gone, PermissionError):
            found.add(number_of(Process.at(pid)))
    return found


def _only_loopback() -> bool:
    return {name for _, name in socket.if_nameindex()} <= {"lo"}


def _groups(process: Process) -> set[str]:
    """Its control groups; the root of a hierarchy says nothing of who it belongs to."""
    return set(process.cgroups().values()) - {"/"}


def leftover_tables(
    unseen: Callable[[str], None],
) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """Every table of ours in any network that a process of this machine is in: its name, which is
    its mark, the number of the network, and how to take it away. unseen: told what could not be
    looked at."""
    if why := nft.missing() or ("only root may look there" if os.geteuid() != 0 else ""):
        unseen(f"tables of rules in networks: {why}")
        return
    found, hidden = networks()
    if hidden:
        whose = "a process" if hidden == 1 else f"{hidden} processes"
        unseen(f"tables of rules in the network of {whose}: we may not look there")
    for number, process in found.items():
        runner = partial(_run_in, Namespace(number), process)
        try:
            names = nft.tables(runner)
        except Gone:
            continue
        except ChaoskitError as error:
            unseen(f"tables of rules in network namespace {number}: {error}")
            continue
        for name in names:
            if OF_A_RUN.fullmatch(name):
                yield name, number, partial(nft.delete, runner, name)


def _run_in(
    where: Namespace,
    process: Process,
    arguments: Sequence[str],
    commands: str,
    *,
    living: bool = False,
    mark: str = "",
) -> str:
    work = partial(nft.here, arguments, commands, mark)
    return in_network(where, process, work, living=living)
