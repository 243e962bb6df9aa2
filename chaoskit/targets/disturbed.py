"""A target whose packets can be delayed, reordered, doubled or spoilt: by netem, which the kernel
may have, or, for delays alone, by a proxy of ours to which its TCP connections are redirected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chaoskit import qdisc
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json
from chaoskit.namespaces import in_network
from chaoskit.netem import Netem
from chaoskit.targets import redirect
from chaoskit.targets.network import Network, parts
from chaoskit.targets.redirect import Redirect
from chaoskit.targets.redirect_probe import Probe, delayed
from chaoskit.targets.redirect_rules import ACCEPTED, OPENED

R = TypeVar("R")

LONGEST_PROBE = 5.0
"""Seconds of delay that are waited for to see them; longer ones are read back only."""


@dataclass(frozen=True, slots=True)
class _Queue:
    """A device whose root qdisc is to be ours. outside: the index of a device's other end on this
    machine, in whose queue waits what comes to the target; 0 for the device itself."""

    index: int
    name: str
    outside: int = 0

    @property
    def place(self) -> str:
        return f"{self.outside} outside of {self.index}" if self.outside else str(self.index)


class Disturbed(Network):
    """Gives the capability `HasPackets`. Cells: `qdisc ...` for each device, or `nat`, `proxy` and
    `rules`; see `chaoskit.targets.redirect`. The key of each ends with that of the network."""

    if TYPE_CHECKING:

        @property
        def label(self) -> str: ...

    def cannot_disturb(self, what: Impairment) -> str | None:
        try:
            self._way(what)
        except Gone:
            raise
        except ChaoskitError as error:
            return str(error)
        return None

    def disturbed_by_itself(self, what: Impairment) -> bool:
        return bool(self._way(what)[1])

    def disturb_remarks(self, what: Impairment) -> Sequence[str]:
        queues, why = self._way(what)
        if queues:
            names = ", ".join(dict.fromkeys(queue.name for queue in queues))
            return (
                f"by netem, in the kernel, on {names}: packets of every kind",
                *_reordered(what),
            )
        return (
            f"by a proxy of chaoskit's own inside its network, since {why}: TCP connections are "
            "redirected to it, and nothing else is delayed",
            "connections that are open before are not delayed; those opened meanwhile are reset "
            "when it ends, as soon as they are at rest and after 2 s at the latest",
            "a connection is opened at once, and what is sent on it comes late; where nobody "
            "answers, it is opened all the same and then reset",
            "to what listens in it, connections come from its own address meanwhile",
        )

    def disturbing(self, what: Impairment) -> Iterator[Change]:
        """Raises Gone, ChaoskitError."""
        queues, _ = self._way(what)
        network = self.network_key()
        if queues:
            shown = qdisc.rounded(_netem(what), qdisc.handle_of(self.mark))
            for queue in queues:
                yield Change(f"qdisc {queue.place} in {network}", qdisc.DEFAULT, shown)
            return
        at = self._redirect(network)
        yield Change(f"nat in {network}", None, at.nat)
        yield Change(f"proxy in {network}", None, at.mark)
        yield Change(f"rules in {network}", None, at.rules)

    def disturbed(self, change: Change) -> Json:
        """What the cell holds now. Raises Gone, ChaoskitError."""
        kind, place, network = _parts(change)
        if kind == "qdisc":
            return _at(place, network, qdisc.root_of)
        name, at = str(change.put), self._redirect(network)
        there = at.left() if kind == "proxy" else at.has_table(name)
        return name if there else None

    def disturb(self, what: Impairment, change: Change) -> None:
        kind, place, network = _parts(change)
        match kind:
            case "qdisc":
                handle = _handle(change)
                put = partial(qdisc.put, what=_netem(what), handle=handle)
                _at(place, network, put, living=True)
            case "nat":
                self._redirect(network, living=True).load_nat()
            case "proxy":
                self._redirect(network, living=True).start(what)
            case _:
                self._redirect(network, living=True).load_rules(what)

    def calm(self, change: Change, *, whatever: bool = False) -> None:
        kind, place, network = _parts(change)
        if kind == "qdisc":
            handle = None if whatever else _handle(change)
            _at(place, network, lambda index: qdisc.delete(index, handle))
        elif kind == "proxy":
            self._redirect(network).end()
        else:
            self._redirect(network).delete(str(change.put))

    def keep_disturbed(self, changes: Sequence[Change]) -> None:
        """Raises ChaoskitError when the proxy is gone: then nobody could connect any more."""
        at = self._redirected(changes)
        if at is None or at.alive():
            return
        with contextlib.suppress(Gone):  # Whether that is an end too early is asked at the end.
            at.has_table(at.rules)
            # Its first process may be gone: others can be in that network.
            raise ChaoskitError(
                f"the proxy in the network of {self.label} has ended: {at.last_words()}"
            )

    def redirect_others(self, what: Impairment, changes: Sequence[Change]) -> None:
        if at := self._redirected(changes):
            with contextlib.suppress(Gone):  # Whether that is an end too early is asked at the end.
                at.readdress(what)

    def connections_disturbed(self, changes: Sequence[Change]) -> int | None:
        at = self._redirected(changes[::-1])  # Of its latest incarnation.
        return None if at is None else at.opened()

    def shows_disturbance(self, what: Impairment, changes: Sequence[Change]) -> bool | None:
        """Raises Gone, ChaoskitError, Interrupted."""
        where = parts(self.network_key())[0]
        if any(parts(_parts(change)[2])[0] != where for change in changes):
            return False  # Of a network that it was in before it restarted: our proxy still is.
        if (at := self._redirected(changes)) is None:
            return None
        if not at.has_toxics(what) or not at.means_somebody(what):
            return False
        least = max(0.0, what.number("delay") - what.number("jitter"))
        if what.values["distribution"] != "uniform":
            least = 0.0  # However little it may be.
        if least > LONGEST_PROBE:
            return None
        late = [(link, toxic["stream"]) for link, toxic in at.toxics(what)]
        probes = [
            Probe(
                mark,
                least if (link, "upstream") in late else 0.0,
                least if (link, "downstream") in late else 0.0,
            )
            for link, mark in ((OPENED, at.socket_mark + 1), (ACCEPTED, at.socket_mark + 2))
        ]
        return at.inside(partial(delayed, probes, self.binding.cancel))

    def _redirected(self, changes: Sequence[Change]) -> Redirect | None:
        for change in changes:
            kind, _, network = _parts(change)
            if kind == "proxy":
                return self._redirect(network)
        return None

    def _redirect(self, network: str, *, living: bool = False) -> Redirect:
        mark = f"{self.mark}-{parts(network)[0].number}"
        return Redirect(network, self.binding, mark, living)

    def _way(self, what: Impairment) -> tuple[list[_Queue], str]:
        """The queues for netem; or none, and why not. Raises Gone, and ChaoskitError when it can
        neither way."""
        if closed := self.network_closed():
            raise ChaoskitError(closed)
        queues, why = _queues(self.network_key(), what)
        if queues:
            return queues, ""
        if what.kind != "latency":
            raise ChaoskitError(f"{what.kind} needs the kernel's netem, and {why}")
        if cannot := redirect.missing():
            raise ChaoskitError(f"{why}; and {cannot}")
        if others := self._redirect(self.network_key()).others():
            raise ChaoskitError(
                f"{why}, and connections in its network are redirected by chaoskit already "
                f"(table {others[0]}): twice at once is not possible"
            )
        return [], why


def _queues(network: str, what: Impairment) -> tuple[list[_Queue], str]:
    """Every queue that the packets meet; or none, and why netem must not be put there."""
    if lacking := qdisc.missing():
        return [], lacking
    if any(what.values.get(name) for name in ("peers", "peer_ports", "own_ports")):
        return [], "netem would delay what has to do with anybody"
    found: list[_Queue] = []
    ours = {device.index: device for device in qdisc.devices(down=True)}
    here, there = _mutual(network)
    for device in in_network(*parts(network), qdisc.devices):
        if what.direction != "in":
            found.append(_Queue(device.index, device.name))
        if what.direction != "out":
            end = ours.get(device.link)
            other = device.kind != "veth" or end is None or not _ends(end, device)
            # The index of a device says nothing without the network that it is in.
            if other or here is None or there is None or device.link_network != here:
                return [], f"what comes to its {device.name} is in no queue of this machine's"
            if end is None or end.link_network != there:
                return [], f"what comes to its {device.name} is in no queue of this machine's"
            found.append(_Queue(device.index, device.name, device.link))
    for queue in found:
        root = _at(queue.place, network, qdisc.root_of)
        if root != qdisc.DEFAULT:
            shown = f"{root['kind']} {root['handle']}" if isinstance(root, dict) else root
            return [], f"its {queue.name} has a root qdisc ({shown}) that is not ours to replace"
    return found, "" if found else "none of its network devices is up"


def _mutual(network: str) -> tuple[int | None, int | None]:
    """By which number that network knows ours, and ours knows it; None when it does not. Raises
    Gone."""
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    theirs = -1
    try:

        def inside() -> tuple[int, int | None]:
            opened = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            return opened, qdisc.network_number(ours)

        theirs, here = in_network(*parts(network), inside)
        return here, qdisc.network_number(theirs)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _ends(end: qdisc.Device, device: qdisc.Device) -> bool:
    return end.kind == "veth" and end.link == device.index


def _parts(change: Change) -> tuple[str, str, str]:
    """What a cell is, where (of a qdisc), and the key of the network."""
    place, _, network = change.key.partition(" in ")
    kind, _, place = place.partition(" ")
    return kind, place, network


def _at(place: str, network: str, work: Callable[[int], R], *, living: bool = False) -> R:
    """Work on a device, where it is. Raises Gone when it is no more, or another has its number."""
    first, *rest = place.split()
    if not rest:
        return in_network(*parts(network), lambda: work(int(first)), living=living)
    _, there = _mutual(network)
    for end in qdisc.devices(down=True):
        known = (end.index, end.kind, end.link, end.link_network)
        if known == (int(first), "veth", int(rest[-1]), there) and there is not None:
            return work(end.index)
    raise Gone(f"the network device {first} is no more, or is another")


def _handle(change: Change) -> str:
    assert isinstance(change.put, dict)
    return str(change.put["handle"])


def _netem(what: Impairment) -> Netem:
    """Raises TypeError for what netem is not used for."""
    values = dict(what.values)
    for ours in ("peers", "peer_ports", "own_ports"):
        values.pop(ours, None)
    share = values.pop("share", None)
    if share is not None:
        values[what.kind] = share
    return Netem(**values)  # type: ignore[arg-type]


def _reordered(what: Impairment) -> Sequence[str]:
    if what.kind == "latency" and what.number("jitter"):
        return ("packets that come closer together than the jitter overtake each other",)
    return ()
