"""netem, the kernel's qdisc that delays, doubles, reorders and spoils packets, as netlink has it.

pyroute2 knows most of it; what it lacks (tables of distributions, times in nanoseconds) is
taught to it here. See tc-netem(8).
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from chaoskit.model.units import Json

LIMIT = 100_000
"""Packets that one qdisc of ours may hold back; what comes beyond would be lost."""
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


def shown(options: Any) -> dict[str, Json]:
    """What the kernel shows of one; zeros are left out. Times are in nanoseconds, shares are whole
    numbers of 32 bits."""
    found: dict[str, Json] = {
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
def teach() -> None:
    """Put ours in the place of pyroute2's own. It asks `parameters` for what a request holds."""
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

    class ours:
        parent = _ROOT
        stats = known
        get_parameters = staticmethod(lambda given: _parameters(given["netem"]))

    ours.options = options  # type: ignore[attr-defined]
    tcmsg.plugins["netem"] = ours


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
