"""Root queueing disciplines of network devices, over netlink; and netem as one of ours.

A device that nobody has configured has one of the kernel's own, whose handle is 0. Any other is
somebody's: replacing it would delete its classes and filters for good, so it never is. A qdisc has
no name: ours is known by a handle made from our mark, together with its parameters as the kernel
shows them. Everything here is about the network namespace of the calling thread. See tc-netem(8).
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from chaoskit import netem
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.units import Json
from chaoskit.namespaces import in_new_network
from chaoskit.netem import Netem

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "default"
"""What a device shows when its root is the kernel's own: which one that is, the kernel decides."""
_LOOPBACK = 1
"""The index of the only device that every namespace has."""
_ROOT = 0xFFFFFFFF
_RTM_NEWNSID, _RTM_GETNSID = 88, 90
_NETNSA_NSID, _NETNSA_FD = 1, 3
_ANSWERED = 5.0
"""Seconds in which the kernel has surely answered."""


@dataclass(frozen=True, slots=True)
class Device:
    """A network device that is up. kind: `veth`, `macvlan`, or empty for hardware.
    link: the index of the device that it leans on, which for veth is its other end.
    link_network: by which number this namespace knows the one that device is in; None: its own."""

    index: int
    name: str
    kind: str
    link: int
    link_network: int | None = None


def handle_of(mark: str) -> str:
    """The handle of whatever carries that mark: apart from those that people choose (1:, 10:) and
    those that the kernel makes up (8001: and on)."""
    drawn = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:4], "big")
    return f"{0x1000 + drawn % 0x6000:x}:"


def missing() -> str | None:
    """Why the kernel cannot delay packets by itself; None when it has netem."""
    return _tried(Netem(delay=0.001), "1234:")[1]


def rounded(what: Netem, handle: str) -> Json:
    """That qdisc as a device would show it: asked from the kernel, which rounds as it likes, on the
    loopback of a namespace that is thrown away. Raises ChaoskitError when it has no netem."""
    shown, why = _tried(what, handle)
    if why is not None:
        raise ChaoskitError(why)
    return shown


@cache
def _tried(what: Netem, handle: str) -> tuple[Json, str | None]:
    def work() -> Json:
        put(_LOOPBACK, what, handle)
        return root_of(_LOOPBACK)

    try:
        return in_new_network(work), None
    except ChaoskitError as error:
        return None, str(error)


def devices(*, down: bool = False) -> list[Device]:
    """The devices here that are up (or all of them), but for the loopback."""
    loopback = 0x8
    with _netlink() as ip:
        return [
            Device(
                link["index"],
                link.get_attr("IFLA_IFNAME"),
                link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
                link.get_attr("IFLA_LINK") or 0,
                link.get_attr("IFLA_LINK_NETNSID"),
            )
            for link in ip.get_links()
            if not link["flags"] & loopback and (down or link["flags"] & 1)
        ]


def network_number(namespace: int) -> int | None:
    """By which number the namespace here knows that of this descriptor; None when it does not.
    Raises ChaoskitError."""
    # By hand: pyroute2 has no call for it. See rtnetlink(7).
    attribute = struct.pack("=HHI", 8, _NETNSA_FD, namespace)
    header = struct.pack("=IHHII", 16 + 4 + len(attribute), _RTM_GETNSID, 1, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
            asking.settimeout(_ANSWERED)
            asking.send(header + bytes(4) + attribute)
            told = asking.recv(4096)
    except OSError as error:
        raise ChaoskitError(f"netlink: {error}") from error
    if struct.unpack_from("=H", told, 4)[0] != _RTM_NEWNSID:
        return None
    at = 16 + 4
    while at + 8 <= len(told):
        size, kind, number = struct.unpack_from("=HHi", told, at)
        if kind == _NETNSA_NSID:
            return number if number >= 0 else None
        at += max(4, (size + 3) & ~3)
    return None


def root_of(index: int) -> Json:
    """The root qdisc of a device as the value of a cell: DEFAULT, or kind, handle and what netem
    does. Raises Gone when there is no such device."""
    with _netlink() as ip:
        if not _there(ip, index):
            raise Gone(f"there is no network device {index} any more")
        for told in ip.get_qdiscs(index=index):
            if told["index"] == index and told["parent"] == _ROOT:
                return _shown(told)
    return DEFAULT  # One that is down has none to show.


def put(index: int, what: Netem, handle: str) -> None:
    """Make netem the root of a device whose root is the kernel's own: from any other the kernel
    itself refuses. Raises Gone, ChaoskitError."""
    with _netlink(f"network device {index}") as ip:
        ip.tc("add", "netem", index=index, handle=_number(handle), parent=_ROOT, netem=what)


def delete(index: int, handle: str | None) -> None:
    """Delete the root, so that the kernel puts its own back: only the one of that handle, which the
    kernel looks at itself, or (None) whatever it is. Nothing when there is none of anybody's.
    Raises Gone, ChaoskitError."""
    if root_of(index) == DEFAULT:
        return
    number = 0 if handle is None else _number(handle)
    with _netlink(f"network device {index}", errno.ENOENT) as ip:
        ip.tc("del", index=index, handle=number, parent=_ROOT)


@contextmanager
def _netlink(what: str = "", *harmless: int) -> Iterator[Any]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    netem.teach()
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        if error.code in harmless:
            return
        if error.code == errno.ENODEV:
            raise Gone(f"there is no {what} any more") from error
        if error.code == errno.ENOENT:
            raise ChaoskitError("this kernel has no netem (the module sch_netem)") from error
        if error.code == errno.EEXIST:
            raise ChaoskitError(f"{what} has a root qdisc of somebody's by now") from error
        raise ChaoskitError(f"{what}: {error}") from error
    except OSError as error:
        raise ChaoskitError(f"netlink: {error}") from error


def _there(ip: Any, index: int) -> bool:
    return any(link["index"] == index for link in ip.get_links())


def _number(handle: str) -> int:
    return int(handle.rstrip(":"), 16) << 16


def _shown(told: Any) -> Json:
    if not told["handle"]:
        return DEFAULT
    found: dict[str, Json] = {
        "kind": told.get_attr("TCA_KIND"),
        "handle": f"{told['handle'] >> 16:x}:",
    }
    if found["kind"] != "netem":
        return found
    return found | netem.shown(told.get_attr("TCA_OPTIONS"))
