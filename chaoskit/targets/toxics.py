"""Impairments as toxics: Toxiproxy's words and units, and those that only our own server has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaoskit.errors import ChaoskitError
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json

ENABLED = "enabled"
"""The cell of Toxiproxy's that refuses connections; it has no toxic for that."""

_TOXIPROXY: Mapping[str, str] = {
    "latency": "latency",
    "bandwidth": "bandwidth",
    "black-hole": "timeout",
    "reset": "reset_peer",
    "slow-close": "slow_close",
    "slice": "slicer",
    "limit-data": "limit_data",
}
"""What Toxiproxy can, and how it calls that."""
_OURS: Mapping[str, str] = {
    **_TOXIPROXY,
    "black-hole": "black_hole",
    "refuse": "refuse",
    "loss": "loss",
    "corrupt": "corrupt",
    "http-error": "http_error",
    "http-delay": "http_delay",
}
_TCP_ONLY = ("reset", "slow-close", "slice", "refuse", "http-error", "http-delay")
STALL = 200
"""Milliseconds until a lost segment comes again: the least that Linux waits."""
_WAITING_RESET = 5.0
"""Seconds that a reset may be told to wait on Toxiproxy: it cannot be taken back while it does."""


def why_not(what: Impairment, *, ours: bool, protocol: str) -> str | None:
    """Why a link of that protocol on that kind of server cannot do this; None when it can."""
    if protocol == "udp" and what.kind in _TCP_ONLY:
        return f"{what.kind} has no meaning for UDP"
    if what.kind == "bandwidth" and what.number("rate") % 1000:
        return "the rate is in whole KB/s there"
    if what.kind == "slice" and not _whole(what.number("delay") * 1e6):
        return "the delay is in whole microseconds there"
    return None if ours else _toxiproxy_cannot(what)


def _toxiproxy_cannot(what: Impairment) -> str | None:
    if what.kind == "refuse":
        return None
    if what.kind not in _TOXIPROXY:
        return f"Toxiproxy has no {what.kind}; chaoskit's own proxy has"
    if what.kind == "latency":
        if what.values["distribution"] != "uniform" or what.values["correlation"]:
            return "Toxiproxy's delays are uniform and do not correlate; chaoskit's own proxy's may"
    elif what.kind == "reset":
        if what.toxicity < 1:
            return "Toxiproxy resets every connection, whatever the toxicity"
        if what.number("after") > _WAITING_RESET:
            return f"Toxiproxy cannot take back a reset that waits more than {_WAITING_RESET:g}s"
    for name in ("delay", "jitter", "after"):
        if what.kind != "slice" and name in what.values and not _whole(what.number(name) * 1000):
            return f"Toxiproxy's {name} is in whole milliseconds"
    return None


def remarks(what: Impairment, *, ours: bool) -> tuple[str, ...]:
    """What differs on the real Toxiproxy from what a person may expect."""
    if ours:
        return ()
    found = []
    if what.kind == "black-hole":
        found.append("Toxiproxy loses what is sent meanwhile, and ends the connections afterwards")
    if what.kind == "reset":
        found.append("Toxiproxy resets a connection when data comes on it, and no idle one")
    if what.kind == "latency":
        found.append("Toxiproxy does not delay the end of a stream, so the delay is read back only")
    if what.toxicity < 1:
        found.append("Toxiproxy draws the connections by itself, not by the run's seed")
    return tuple(found)


def toxic_for(what: Impairment, name: str, *, ours: bool) -> dict[str, Json]:
    """The toxic as it is sent. Raises ChaoskitError where there is none."""
    kind = (_OURS if ours else _TOXIPROXY).get(what.kind)
    if kind is None:
        raise ChaoskitError(_toxiproxy_cannot(what))
    return {
        "name": name,
        "type": kind,
        # What has no direction is placed in one all the same.
        "stream": "upstream" if what.direction == "both" else what.direction,
        "toxicity": _plain(what.toxicity),
        "attributes": {"timeout": 0} if kind == "timeout" else _attributes(what),
    }


def seen(toxic: Mapping[str, Any]) -> Json:
    """A toxic as a cell's value: all that matters of it, rounded as the servers round."""
    return {
        "type": toxic.get("type"),
        "stream": toxic.get("stream"),
        "toxicity": _plain(toxic.get("toxicity")),
        "attributes": {key: _plain(value) for key, value in toxic["attributes"].items()},
    }


def _attributes(what: Impairment) -> dict[str, Json]:
    values = what.values
    match what.kind:
        case "latency":
            found: dict[str, Json] = {"latency": _ms(what, "delay"), "jitter": _ms(what, "jitter")}
            # These are not in what Toxiproxy shows, nor in what our server shows of a default.
            if values["distribution"] != "uniform":
                found["distribution"] = values["distribution"]
            if values["correlation"]:
                found["correlation"] = values["correlation"]
            return found
        case "bandwidth":
            return {"rate": _plain(what.number("rate") / 1000)}
        case "reset":
            return {"timeout": _ms(what, "after")}
        case "slow-close":
            return {"delay": _ms(what, "delay")}
        case "slice":
            return {
                "average_size": values["size"],
                "size_variation": values["variation"],
                "delay": _plain(what.number("delay") * 1e6),
            }
        case "limit-data":
            return {"bytes": values["size"]}
        case "loss":
            return {**values, "stall": STALL}
        case "http-delay":
            times: dict[str, Json] = {"delay": _ms(what, "delay"), "jitter": _ms(what, "jitter")}
            return {**values, **times}
    return dict(values)


def _ms(what: Impairment, name: str) -> Json:
    return _plain(what.number(name) * 1000)


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


def _plain(value: Any) -> Json:
    """A number as both servers show it, whatever the way it went: whole ones without `.0`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return round(value) if _whole(value) else round(value, 6)
