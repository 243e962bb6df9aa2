"""Which faults, targets and probes there are: the built-in ones and those of third parties.

Built-in ones are named here and imported when asked for, so that a run loads only what it needs.
Third parties add theirs by the entry points `chaoskit.faults`, `chaoskit.targets` and
`chaoskit.probes`, whose names are the words in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from chaoskit.errors import ChaoskitError
from chaoskit.model.fault import Fault
from chaoskit.model.probe import Probe
from chaoskit.model.target import Selector

K = TypeVar("K")

_BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "faults": {
        "pause": "chaoskit.faults.pause:Pause",
        "kill": "chaoskit.faults.kill:Kill",
        "stop": "chaoskit.faults.stop:Stop",
        "restart": "chaoskit.faults.restart:Restart",
        "cpu": "chaoskit.faults.cpu:Cpu",
        "disk-fill": "chaoskit.faults.disk_fill:DiskFill",
        "memory": "chaoskit.faults.memory:Memory",
        "disk-load": "chaoskit.faults.disk_load:DiskLoad",
        "limit": "chaoskit.faults.limit:Limit",
        "open-files": "chaoskit.faults.open_files:OpenFiles",
        "latency": "chaoskit.faults.latency:Latency",
        "bandwidth": "chaoskit.faults.bandwidth:Bandwidth",
        "drop-network": "chaoskit.faults.drop_network:DropNetwork",
        "reset": "chaoskit.faults.reset:Reset",
        "slow-close": "chaoskit.faults.slow_close:SlowClose",
        "slice": "chaoskit.faults.slice:Slice",
        "limit-data": "chaoskit.faults.limit_data:LimitData",
        "loss": "chaoskit.faults.loss:Loss",
        "corrupt": "chaoskit.faults.corrupt:Corrupt",
        "reorder": "chaoskit.faults.reorder:Reorder",
        "duplicate": "chaoskit.faults.duplicate:Duplicate",
        "http-error": "chaoskit.faults.http_error:HttpError",
        "http-delay": "chaoskit.faults.http_delay:HttpDelay",
        "partition": "chaoskit.faults.partition:Partition",
        "dns": "chaoskit.faults.dns:Dns",
        "remove": "chaoskit.faults.remove:Remove",
        "disconnect": "chaoskit.faults.disconnect:Disconnect",
        "clock": "chaoskit.faults.clock:Clock",
    },
    "targets": {
        "process": "chaoskit.targets.process:ProcessSelector",
        "proxy": "chaoskit.targets.proxy:ProxySelector",
        "docker": "chaoskit.targets.docker:DockerSelector",
    },
    "probes": {
        "http": "chaoskit.probes.http:HttpProbe",
        "tcp": "chaoskit.probes.tcp:TcpProbe",
        "command": "chaoskit.probes.command:CommandProbe",
        "process": "chaoskit.probes.process:ProcessProbe",
        "log": "chaoskit.probes.log:LogProbe",
        "file": "chaoskit.probes.file:FileProbe",
        "docker": "chaoskit.probes.docker:DockerProbe",
    },
}

_OF_KIND: Mapping[tuple[str, str], str] = {
    ("pause", "docker"): "chaoskit.faults.container_pause:PauseContainer",
    ("kill", "docker"): "chaoskit.faults.container_kill:KillContainer",
    ("drop-network", "docker"): "chaoskit.faults.packet_drop:DropPackets",
    ("loss", "docker"): "chaoskit.faults.packet_loss:LosePackets",
    ("bandwidth", "docker"): "chaoskit.faults.packet_rate:LimitPackets",
    ("latency", "docker"): "chaoskit.faults.slow_network:SlowNetwork",
    ("corrupt", "docker"): "chaoskit.faults.spoiled_packets:SpoiledPackets",
}
"""Faults that are another thing on some kind of target, by their name and that kind: a process is
paused by signals, a container by its freezer."""

# Actions, and proxies that stand for a run, are journaled and undone as faults are, on targets of
# their own; no file names them so.
_INTERNAL: Mapping[str, Mapping[str, str]] = {
    "faults": {
        "run": "chaoskit.faults.action:RunCommand",
        "http-request": "chaoskit.faults.action:SendRequest",
        "own-proxy": "chaoskit.faults.own_proxy:OwnProxy",
    },
    "targets": {
        "action": "chaoskit.targets.action:ActionSelector",
        "own-proxy": "chaoskit.targets.own_proxy:OwnProxySelector",
    },
    "probes": {},
}


@cache
def _plugins(group: str) -> dict[str, Any]:
    # importlib.metadata costs more than the rest of a start, and most runs need none of it.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"chaoskit.{group}")}


def names(group: str) -> list[str]:
    """Every name in a group (`faults`, `targets`, `probes`), built-in ones first."""
    return [*_BUILT_IN[group], *(n for n in sorted(_plugins(group)) if n not in _BUILT_IN[group])]


def built_in(group: str) -> list[str]:
    """The names in a group that chaoskit itself brings."""
    return list(_BUILT_IN[group])


def _load(group: str, name: str, base: type[K]) -> type[K]:
    """The class of that name. Raises KeyError when nothing has it, ChaoskitError when a plug-in
    does not load or is not what it says it is."""
    if place := _BUILT_IN[group].get(name) or _INTERNAL[group].get(name):
        return _import(place, name, base)
    point = _plugins(group)[name]
    try:
        found = point.load()
    except Exception as error:
        raise ChaoskitError(
            f"the plug-in {name!r} ({point.value}) does not load: {error}"
        ) from error
    return _checked(found, name, base)


def _import(place: str, name: str, base: type[K]) -> type[K]:
    module, _, attribute = place.partition(":")
    return _checked(getattr(import_module(module), attribute), name, base)


def _checked(found: Any, name: str, base: type[K]) -> type[K]:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ChaoskitError(f"the plug-in {name!r} is no {base.__name__}")
    return found


def fault(name: str, target: str = "") -> type[Fault[Any]]:
    """The fault of that name as it is on that kind of target, or on most kinds. Raises KeyError,
    ChaoskitError."""
    if place := _OF_KIND.get((name, target)):
        return _import(place, name, Fault)  # type: ignore[type-abstract]
    return _load("faults", name, Fault)  # type: ignore[type-abstract]


def kinds_of(name: str) -> dict[type[Fault[Any]], list[str]]:
    """Every class that a fault of that name is, with the kinds of targets that can bear it."""
    found: dict[type[Fault[Any]], list[str]] = {fault(name): []}
    for target in names("targets"):
        kind = fault(name, target)
        try:
            fits = not lacking(kind, selector(target))
        except ChaoskitError:
            fits = False  # A plug-in that does not load.
        if fits:
            found.setdefault(kind, []).append(target)
    return {kind: targets for kind, targets in found.items() if targets or len(found) == 1}


def selector(kind: str) -> type[Selector]:
    return _load("targets", kind, Selector)  # type: ignore[type-abstract]


def probe(name: str) -> type[Probe]:
    return _load("probes", name, Probe)  # type: ignore[type-abstract]


def lacking(fault: type[Fault[Any]], target: type[Selector]) -> list[str]:
    """What the fault's capability asks for and this kind of target has not; empty when it fits.

    Asked of the classes, as no target has been found yet: a capability's methods must be there,
    and its fields annotated.
    """
    wanted = {
        name
        for base in fault.needs.__mro__
        if getattr(base, "_is_protocol", False)
        for name in (*vars(base), *getattr(base, "__annotations__", {}))
        if not name.startswith("_")
    }
    kind = target.target
    owned = {name for base in kind.__mro__ for name in getattr(base, "__annotations__", {})}
    return sorted(name for name in wanted if name not in owned and not hasattr(kind, name))


def internal(group: str, name: str) -> bool:
    """Whether the name is for the journal only and no name for a file."""
    return name in _INTERNAL[group]
