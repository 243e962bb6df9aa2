"""A target whose packets can be delayed, reordered, doubled or spoilt: by netem, which the kernel
may have, or, for delays alone, by a proxy of ours to which its TCP connections are redirected."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from chaoskit import qdisc
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json
from chaoskit.namespaces import in_network_of, network_of
from chaoskit.netem import Netem
from chaoskit.procfs import Process
from chaoskit.targets import redirect
from chaoskit.targets.redirect import ACCEPTED, OPENED, Redirect
from chaoskit.targets.redirect_probe import delayed

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

    def key(self, root: Process) -> str:
        where = f"outside {self.outside}" if self.outside else "inside"
        return f"qdisc {where} {self.index} {root.key}"


class Disturbed:
    """Gives the capability `HasPackets`. Cells: `qdisc ...` for each device, or `nat`, `proxy` and
    `rules`; see `chaoskit.targets.redirect`."""

    binding: Binding

    @property
    @abstractmethod
    def root(self) -> Process:
        """In whose network namespace it happens. Raises Gone, and ChaoskitError when it is not to
        be seen from here."""

    @property
    @abstractmethod
    def mark(self) -> str: ...

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
        root = self.root
        queues, _ = self._way(what)
        if queues:
            shown = qdisc.rounded(_netem(what), qdisc.handle_of(self.mark))
            for queue in queues:
                yield Change(queue.key(root), qdisc.DEFAULT, shown)
            return
        at = self._redirect()
        yield Change(f"nat {root.key}", None, at.nat)
        yield Change(f"proxy {at.mark}", None, at.mark)
        yield Change(f"rules {root.key}", None, at.rules)

    def disturbed(self, change: Change) -> Json:
        """What the cell holds now. Raises Gone, ChaoskitError."""
        kind, _, rest = change.key.partition(" ")
        if kind == "qdisc":
            return _at(rest, qdisc.root_of)
        name = str(change.put)
        if kind == "proxy":
            return name if self._redirect().left() else None
        return name if self._redirect().has_table(name) else None

    def disturb(self, what: Impairment, change: Change) -> None:
        kind, _, rest = change.key.partition(" ")
        match kind:
            case "qdisc":
                assert isinstance(change.put, dict)
                handle = str(change.put["handle"])
                _at(rest, lambda index: qdisc.put(index, _netem(what), handle))
            case "nat":
                self._redirect().load_nat()
            case "proxy":
                self._redirect().start(what)
            case _:
                self._redirect(what).load_rules()

    def calm(self, change: Change, *, whatever: bool = False) -> None:
        kind, _, rest = change.key.partition(" ")
        if kind == "qdisc":
            assert isinstance(change.put, dict)
            handle = None if whatever else str(change.put["handle"])
            _at(rest, lambda index: qdisc.delete(index, handle))
        elif kind == "proxy":
            self._redirect().end()
        else:
            self._redirect().delete(str(change.put))

    def keep_disturbed(self, changes: Sequence[Change]) -> None:
        """Raises ChaoskitError when the proxy is gone: then nobody could connect any more."""
        if any(change.key.startswith("proxy ") for change in changes) and self.root.alive():
            at = self._redirect()
            if not at.alive():
                raise ChaoskitError("the proxy in its network has ended")

    def shows_disturbance(self, what: Impairment, changes: Sequence[Change]) -> bool | None:
        """Raises Gone, ChaoskitError, Interrupted."""
        if not any(change.key.startswith("proxy ") for change in changes):
            return None
        at = self._redirect()
        if not at.has_toxics(what):
            return False
        least = max(0.0, what.number("delay") - what.number("jitter"))
        if what.values["distribution"] != "uniform":
            least = 0.0
        if least > LONGEST_PROBE:
            return None
        return all(
            in_network_of(self.root, partial(self._delayed, at, what, link, mark, least))
            for link, mark in ((OPENED, at.socket_mark + 1), (ACCEPTED, at.socket_mark + 2))
        )

    def _delayed(
        self, at: Redirect, what: Impairment, link: str, socket_mark: int, least: float
    ) -> bool:
        late = {str(toxic["stream"]) for name, toxic in at.toxics(what) if name == link}
        up, down = (least if way in late else 0.0 for way in ("upstream", "downstream"))
        return delayed(socket_mark, up, down, self.binding.cancel)

    def _redirect(self, what: Impairment | None = None) -> Redirect:
        return Redirect(self.root, self.binding, f"{self.mark}-{self.root.pid}")

    def _way(self, what: Impairment) -> tuple[list[_Queue], str]:
        """The queues for netem; or none, and why not. Raises Gone, and ChaoskitError when it can
        neither way."""
        root = self.root
        if network_of(root) == os.readlink("/proc/self/ns/net") and not self.binding.allow_host:
            raise ChaoskitError(
                "it uses the network of the machine itself: that would need `allow-host: true` in "
                "the blast radius"
            )
        devices = in_network_of(root, qdisc.devices)
        if not devices:
            raise ChaoskitError("it has no network but its loopback")
        queues, why = _queues(root, devices, what)
        if queues:
            return queues, ""
        if what.kind != "latency":
            raise ChaoskitError(f"{what.kind} needs the kernel's netem, and {why}")
        if cannot := redirect.missing():
            raise ChaoskitError(f"{why}; and {cannot}")
        return [], why


def _queues(
    root: Process, devices: Sequence[qdisc.Device], what: Impairment
) -> tuple[list[_Queue], str]:
    """Every queue that the packets meet; or none, and why netem must not be put there."""
    if lacking := qdisc.missing():
        return [], lacking
    found: list[_Queue] = []
    ours = {device.index: device for device in qdisc.devices(down=True)}
    for device in devices:
        if what.direction != "in":
            found.append(_Queue(device.index, device.name))
        if what.direction != "out":
            end = ours.get(device.link)
            if device.kind != "veth" or end is None or not _ends(end, device):
                return [], f"what comes to its {device.name} is in no queue of this machine's"
            found.append(_Queue(device.index, device.name, device.link))
    for queue in found:
        now = _at(queue.key(root).partition(" ")[2], qdisc.root_of)
        if now != qdisc.DEFAULT:
            there = f"{now['kind']} {now['handle']}" if isinstance(now, dict) else now
            return [], f"its {queue.name} has a root qdisc ({there}) that is not ours to replace"
    return found, ""


def _ends(end: qdisc.Device, device: qdisc.Device) -> bool:
    return end.kind == "veth" and end.link == device.index


def _at(place: str, work: Callable[[int], R]) -> R:
    """Work on the device of a cell (its key without the first word), where it is. Raises Gone when
    it is no more, or another has its number."""
    where, *numbers, key = place.split()
    root, index = Process.from_key(key), int(numbers[-1])
    if where == "inside":
        return in_network_of(root, lambda: work(index))
    root.stat()
    outside = int(numbers[0])
    for end in qdisc.devices(down=True):
        if (end.index, end.kind, end.link) == (outside, "veth", index):
            return work(outside)
    raise Gone(f"the network device {outside} is no more, or is another")


def _netem(what: Impairment) -> Netem:
    """Raises TypeError for what netem is not used for."""
    values = dict(what.values)
    for ours in ("peers", "ports"):
        values.pop(ours, None)
    share = values.pop("share", None)
    if share is not None:
        values[what.kind] = share
    return Netem(**values)  # type: ignore[arg-type]


def _reordered(what: Impairment) -> Sequence[str]:
    if what.kind == "latency" and what.number("jitter"):
        return ("packets that come closer together than the jitter overtake each other",)
    return ()
