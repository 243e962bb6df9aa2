"""What it takes to make a container again exactly: kept from what `inspect` tells, and said anew.

A daemon does not take all that it tells: some of it must be left out or said in another way, so
that the new container is told of in the same words as the old one was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from chaoskit.docker import endpoints
from chaoskit.docker.endpoints import APART, SHORT
from chaoskit.model.units import Json

Recipe: TypeAlias = dict[str, Json]
"""As the journal keeps it. told: for people. id, name, image (an id): of the container. config,
host: as the daemon tells them. networks: its endpoints by name. volumes: the names of all of its
volumes. unnamed: `[name, where]`, and `ro` where so, of those that its configuration does not name:
they were made for it."""

_NEVER = "0001-01-01"


def recipe_of(told: Mapping[str, Any]) -> Recipe:
    """From what `inspect` tells of a container that runs."""
    name, config = str(told["Name"]).lstrip("/"), told["Config"]
    networks: dict[str, Json] = {}
    for network in told["NetworkSettings"]["Networks"] or {}:
        if network not in APART:
            words = endpoints.words_of(told, network)
            own = told["Id"][:SHORT]
            aliases = told["NetworkSettings"]["Networks"][network]["Aliases"] or []
            # The new one's short id is added by itself; the old one's is known as its host name.
            if (
                config.get("Hostname") == own
                and own in aliases
                and told["HostConfig"].get("UTSMode") != "host"
            ):
                words["aliases"] = aliases
            networks[network] = words
    return {
        "told": f"container {name} ({config['Image']})",
        "id": told["Id"],
        "name": name,
        "image": told["Image"],
        "config": config,
        "host": told["HostConfig"],
        "networks": networks,
        "volumes": [m["Name"] for m in told.get("Mounts") or [] if m.get("Type") == "volume"],
        "unnamed": _unnamed(told),
    }


def creation(recipe: Mapping[str, Any], image: str, own_macs: bool) -> dict[str, Any]:
    """What to send to a daemon to have it made, but for all networks beyond the first: an old
    daemon takes one only. image: the name or id that leads to its image now. own_macs: whether an
    endpoint can ask for its hardware address."""
    config = {**_sayable(recipe["config"], recipe["host"]), "Image": image}
    # Without one the image's would be taken: a container that has none was told to have none.
    config["Entrypoint"] = config.get("Entrypoint") or [""]
    config["HostConfig"] = _with_volumes(recipe)
    if first := first_network(recipe):
        wish = _wish(recipe["networks"][first], own_macs)
        config["NetworkingConfig"] = {"EndpointsConfig": {first: wish}}
    return config


def first_network(recipe: Mapping[str, Any]) -> str | None:
    """The network that it is made in; None where that is none of its own."""
    mode = str(recipe["host"].get("NetworkMode"))
    for name, words in recipe["networks"].items():
        if mode == name or (len(mode) >= SHORT and str(words["id"]).startswith(mode)):
            return str(name)
    return "bridge" if mode in ("default", "") and "bridge" in recipe["networks"] else None


def never_started(told: Mapping[str, Any]) -> bool:
    return str(told["State"].get("StartedAt", _NEVER)).startswith(_NEVER)


def looks_like_its_double(recipe: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether it must have been made from this, and was not started yet: it has the host name of
    the old one, which mostly is that one's id."""
    same = all(told["Config"].get(key) == recipe["config"].get(key) for key in ("Hostname", "Env"))
    return same and never_started(told) and told["Image"] == recipe["image"]


def has_chance_ports(recipe: Mapping[str, Any]) -> bool:
    """Whether it is to be reached at ports of the machine that the daemon has chosen."""
    host = recipe["host"]
    bindings = [b for found in (host.get("PortBindings") or {}).values() for b in found or []]
    return bool(host.get("PublishAllPorts")) or any(not b.get("HostPort") for b in bindings)


def lacks(recipe: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """The networks in which the new container is not yet."""
    there = told["NetworkSettings"]["Networks"] or {}
    return [name for name in recipe["networks"] if name not in there]


def strange(recipe: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """The networks in which the new container is and the old one was not: one was made in it."""
    there = told["NetworkSettings"]["Networks"] or {}
    return [name for name in there if name not in recipe["networks"] and name not in APART]


def differs(recipe: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """What of its addresses is otherwise now that it runs, for people; nothing when all are as
    they were."""
    for name, words in recipe["networks"].items():
        new = endpoints.words_of(told, name)
        for what in ("address", "address6"):
            if new[what] and new[what] != words[what]:
                return f"it runs again, with {new[what]} in {name} where it had {words[what]}"
    return ""


def _wish(words: Mapping[str, Any], own_macs: bool) -> dict[str, Any]:
    found = {
        "IPAMConfig": words["wish"],
        "Links": words["links"],
        "Aliases": words["aliases"],
        "DriverOpts": words["options"],
        "MacAddress": words["mac"] if own_macs else None,
    }
    return {key: value for key, value in found.items() if value}


def _unnamed(told: Mapping[str, Any]) -> list[Json]:
    host = told["HostConfig"]
    named = {bind.split(":")[1] for bind in host.get("Binds") or [] if ":" in bind}
    named |= {mount["Target"] for mount in host.get("Mounts") or [] if mount.get("Source")}
    return [
        [mount["Name"], mount["Destination"], *([] if mount.get("RW", True) else ["ro"])]
        for mount in told.get("Mounts") or []
        if mount.get("Type") == "volume" and mount["Destination"] not in named
    ]


def _with_volumes(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Its host configuration, in which the volumes that were made for it have names."""
    host = dict(recipe["host"])
    left = {where: (name, where, *mode) for name, where, *mode in recipe["unnamed"]}
    mounts = []
    for mount in host.get("Mounts") or []:
        volume = left.pop(mount["Target"], None)
        mounts.append({**mount, "Source": volume[0]} if volume else mount)
    if mounts:
        host["Mounts"] = mounts
    if left:
        host["Binds"] = [*(host.get("Binds") or []), *(":".join(words) for words in left.values())]
    return host


def _sayable(config: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """Its configuration but for what is the host's or another container's, and refused if said."""
    borrowed: tuple[str, ...] = ()
    if host.get("UTSMode") == "host":
        borrowed = ("Hostname", "Domainname")
    if str(host.get("NetworkMode")).startswith("container:"):
        borrowed = ("Hostname", "Domainname", "ExposedPorts", "MacAddress")
    return {key: value for key, value in config.items() if key not in borrowed}
