"""Root queueing disciplines of network devices, spoken with over netlink; and netem as one of ours.

A device that nobody has configured has one of the kernel's own, whose handle is 0. Any other is
somebody's: replacing it would delete its classes and filters for good, so it never is. A qdisc has
no name: ours is known by a handle made from our mark, together with its parameters as the kernel
shows them. Everything here is about the network namespace of the calling thread. See tc-netem(8).
"""

from __future__ import annotations

import errno
import hashlib
import statistics
import struct
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.units import Json
from chaoskit.namespaces import in_new_network

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "default"
"""What a device shows when its root is the kernel's own: which one that is, the kernel decides."""
LIMIT = 100_000
"""Packets that one qdisc of ours may hold back; what comes beyond would be lost."""
_LOOPBACK = 1
"""The index of the only device that every namespace has."""
_ROOT = 0xFFFFFFFF
_WHOLE = 2**32 - 1
"""A probability of 1, as netem counts."""
_UNIT = 8192
"""The standard deviation in a table of netem's; its numbers have 16 bits."""
_TABLE = 4096


@dataclass(frozen=True, slots=True)
class Netem:
    """What is done to the packets. delay, jitter: seconds. loss is not among it: nftables can.

    distribution: of the jitter; uniform, normal (jitter is its standard deviation) or pareto.
    correlation: of a delay, a doubling or a bit flip with the one before.
    reorder: the share that goes at once, while all others come `delay` late.
    """

    delay: float = 0.0
    jitter: float = 0.0
    distribution: str = "uniform"
    correlation: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """A network device that is up. kind: `veth`, `macvlan`, or empty for hardware.
    link: the index of the device that it leans on, which for veth is its other end."""

    index: int
    name: str
    kind: str
    link: int


def handle_of(mark: str) -> str:
    """The handle of whatever carries that mark: apart from those that people choose (1:, 10:) and
    those that the kernel makes up (8001: and on)."""
    drawn = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:4], "big")
    return f"{0x1000 + drawn % 0x6000:x}:"


def missing() -> str | None:
    """Why the kernel cannot delay packets by itself; None when it has netem."""
    return _tried(Netem(delay=0.001), "1234:")[1]


def rounded(netem: Netem, handle: str) -> Json:
    """That qdisc as a device would show it: asked from the kernel, which rounds as it likes, on the
    loopback of a namespace that is thrown away. Raises ChaoskitError when it has no netem."""
    shown, why = _tried(netem, handle)
    if why is not None:
        raise ChaoskitError(why)
    return shown


@cache
def _tried(netem: Netem, handle: str) -> tuple[Json, str | None]:
    def work() -> Json:
        put(_LOOPBACK, netem, handle)
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
            )
            for link in ip.get_links()
            if not link["flags"] & loopback and (down or link["flags"] & 1)
        ]


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


def put(index: int, netem: Netem, handle: str) -> None:
    """Make netem the root of a device whose root is the kernel's own: from any other the kernel
    itself refuses. Raises Gone, ChaoskitError."""
    with _netlink(f"network device {index}") as ip:
        ip.tc("add", "netem", index=index, handle=_number(handle), parent=_ROOT, netem=netem)


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

    _teach()
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
    """Zeros are left out. Times are in nanoseconds, shares as whole numbers of 32 bits."""
    if not told["handle"]:
        return DEFAULT
    found: dict[str, Json] = {
        "kind": told.get_attr("TCA_KIND"),
        "handle": f"{told['handle'] >> 16:x}:",
    }
    if found["kind"] != "netem":
        return found
    options = told.get_attr("TCA_OPTIONS")
    found |= {
        "delay": _time(options, "TCA_NETEM_LATENCY64", "delay"),
        "jitter": _time(options, "TCA_NETEM_JITTER64", "jitter"),
    }
    found |= {name: options[name] for name in ("limit", "loss", "gap", "duplicate")}
    for part in ("CORR", "REORDER", "CORRUPT", "RATE"):
        if (inner := options.get_attr(f"TCA_NETEM_{part}")) is not None:
            found |= {str(field[0]): inner[field[0]] for field in inner.fields}
    return {name: value for name, value in found.items() if value}


def _time(options: Any, exact: str, ticks: str) -> int:
    value = options.get_attr(exact)
    return int(options[ticks]) * 64 if value is None else int(value["ns"])


@cache
def _teach() -> None:
    """pyroute2's own netem knows neither tables of distributions nor delays in nanoseconds."""
    from pyroute2.netlink import nla
    from pyroute2.netlink.rtnl import tcmsg
    from pyroute2.netlink.rtnl.tcmsg import sched_netem

    known = sched_netem.options

    class options(known):  # type: ignore[misc,valid-type]
        nla_map = (
            *known.nla_map[:2],
            ("TCA_NETEM_DELAY_DIST", "cdata"),
            *known.nla_map[3:],
            ("TCA_NETEM_ECN", "none"),
            ("TCA_NETEM_RATE64", "none"),
            ("TCA_NETEM_PAD", "none"),
            ("TCA_NETEM_LATENCY64", "time"),
            ("TCA_NETEM_JITTER64", "time"),
        )

        class time(nla):  # type: ignore[misc]
            fields = (("ns", "q"),)

    class netem:
        parent = _ROOT
        stats = sched_netem.options
        get_parameters = staticmethod(lambda given: _parameters(given["netem"]))

    netem.options = options  # type: ignore[attr-defined]
    tcmsg.plugins["netem"] = netem


def _parameters(netem: Netem) -> Mapping[str, Any]:
    like = _share(netem.correlation)
    attributes: list[list[Any]] = [
        ["TCA_NETEM_LATENCY64", {"ns": round(netem.delay * 1e9)}],
        ["TCA_NETEM_JITTER64", {"ns": round(netem.jitter * 1e9)}],
        [
            "TCA_NETEM_CORR",
            {
                "delay_corr": like if netem.jitter else 0,
                "loss_corr": 0,
                "dup_corr": like if netem.duplicate else 0,
            },
        ],
    ]
    if netem.reorder:
        share = {"prob_reorder": _share(netem.reorder), "corr_reorder": like}
        attributes.append(["TCA_NETEM_REORDER", share])
    if netem.corrupt:
        share = {"prob_corrupt": _share(netem.corrupt), "corr_corrupt": like}
        attributes.append(["TCA_NETEM_CORRUPT", share])
    if netem.jitter and netem.distribution != "uniform":
        attributes.append(["TCA_NETEM_DELAY_DIST", _table(netem.distribution)])
    return {
        "delay": 0,
        "jitter": 0,
        "limit": LIMIT,
        "loss": 0,
        "gap": 1 if netem.reorder else 0,
        "duplicate": _share(netem.duplicate),
        "attrs": attributes,
    }


def _share(fraction: float) -> int:
    return round(fraction * _WHOLE)


def _table(distribution: str) -> bytes:
    """Numbers of mean 0 and deviation 1, one of which is drawn for each packet."""
    points = [(number + 0.5) / _TABLE for number in range(_TABLE)]
    if distribution == "normal":
        drawn = [statistics.NormalDist().inv_cdf(point) for point in points]
    else:
        # Shape 3, as chaoskit's own proxy has it: mean 1.5, deviation the root of 0.75.
        drawn = [((1 - point) ** (-1 / 3) - 1.5) / 0.75**0.5 for point in points]
    numbers = [max(-32768, min(32767, round(value * _UNIT))) for value in drawn]
    return struct.pack(f"={_TABLE}h", *numbers)
