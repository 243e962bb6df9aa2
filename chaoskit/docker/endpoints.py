"""A container's place in a Docker network: what it is, and how it is had again.

A daemon gives out the addresses. It takes a wish only in a network whose subnet was configured;
everywhere else one gets the lowest that is free. What was wished for stays in the container's
configuration, so it is only said where it was before, or where no address would come back else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from chaoskit.clock import until
from chaoskit.docker.client import Daemon
from chaoskit.docker.trouble import NoDaemon
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.units import Json

Endpoint: TypeAlias = dict[str, Json]
"""As the journal keeps it. told: for people. network, id: its name and id. address, address6, mac:
as given out, empty when the container does not run. aliases: without the container's own short id,
which a daemon adds by itself. links: `name:alias`. fixed: the addresses that were wished for. wish:
those to wish for so that it comes back. options: of the network's driver."""

TURN = 8.0
"""Seconds for which one waits for its turn; then it takes the address that it gets."""
_ABOUT_ADDRESS = re.compile(r"address", re.IGNORECASE)
APART = ("host", "none")
"""What stands where a network's name does and is none that could be left."""
SHORT = 12
"""Characters of a container's id that are its name in its networks."""
_LOWEST = ("bridge", "macvlan", "ipvlan")
"""Drivers whose networks give out the lowest free address."""


def endpoint_of(told: Mapping[str, Any], network: str, name: str) -> Endpoint | None:
    """Its endpoint in the network of that id and name; None when it has none. told: what `inspect`
    tells of the container."""
    for called, one in (told["NetworkSettings"]["Networks"] or {}).items():
        if one["NetworkID"] == network or (not one["NetworkID"] and called == name):
            # What an attempt that failed has left is an entry with nothing behind it.
            there = one["EndpointID"] or not told["State"].get("Running")
            return words_of(told, called) if there else None
    return None


def words_of(told: Mapping[str, Any], network: str) -> Endpoint:
    """Its endpoint in the network of that name, in which it is."""
    one = told["NetworkSettings"]["Networks"][network]
    aliases = [alias for alias in one["Aliases"] or [] if alias != told["Id"][:SHORT]]
    addresses = [a for a in (one["IPAddress"], one["GlobalIPv6Address"]) if a]
    called = f", called {', '.join(aliases)}" if aliases else ""
    return {
        "told": f"{' and '.join(addresses) or 'connected'}{called}",
        "network": network,
        "id": one["NetworkID"],
        "address": one["IPAddress"],
        "address6": one["GlobalIPv6Address"],
        "mac": one["MacAddress"],
        "aliases": list[Json](aliases),
        "links": list[Json](one["Links"] or []),
        "fixed": one["IPAMConfig"] or None,
        "wish": one["IPAMConfig"] or None,
        "options": one["DriverOpts"] or None,
    }


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether nobody in the network could tell them apart. Where one of them has no address, as it
    does not run, only what it will come with is compared."""
    words = ["aliases", "links", "options"]
    if one["address"] and other["address"]:
        words += ["address", "address6", "mac"]
    return all(one[word] == other[word] for word in words)


def network_of(told: Mapping[str, Any], name: str) -> str:
    """The id of the network of that name (or id) that the container is in. Raises ChaoskitError."""
    networks = told["NetworkSettings"]["Networks"] or {}
    if str(told["HostConfig"].get("NetworkMode")).startswith("container:"):
        raise ChaoskitError("it uses the network of another container: take that one")
    if "host" in networks or name in APART:
        raise ChaoskitError(f"{'host' if 'host' in networks else name} is no network to leave")
    for called, one in networks.items():
        if name in (called, one["NetworkID"]) and one["EndpointID"]:
            return str(one["NetworkID"])
    others = ", ".join(sorted(n for n in networks if n not in APART))
    raise ChaoskitError(f"it is in no network {name}; it is in {others or 'none at all'}")


def about(daemon: Daemon, network: str) -> dict[str, Any]:
    """What the daemon knows of a network. Raises Gone."""
    found: dict[str, Any] = daemon.look(lambda api: api.inspect_network(network))
    return found


def next_address(network: Mapping[str, Any], leaving: str) -> str | None:
    """The IPv4 address that the network gives out next, once the container `leaving` has left it;
    None when that cannot be told. network: see `about`."""
    if network["Driver"] not in _LOWEST:
        return None
    used = _used(network, leaving)
    for pool in network["IPAM"]["Config"] or []:
        subnet = ipaddress.ip_network(pool["Subnet"])
        if not isinstance(subnet, ipaddress.IPv4Network):
            continue
        used |= {pool.get("Gateway") or str(subnet[1]), str(subnet[0]), str(subnet[-1])}
        used |= set((pool.get("AuxiliaryAddresses") or {}).values())
        for address in ipaddress.ip_network(pool.get("IPRange") or subnet):
            if str(address) not in used:
                return str(address)
    return None


def _used(network: Mapping[str, Any], leaving: str) -> set[str]:
    """The IPv4 addresses of the others in it."""
    return {
        one["IPv4Address"].partition("/")[0]
        for container, one in (network.get("Containers") or {}).items()
        if container != leaving
    }


def loose_ports(told: Mapping[str, Any]) -> str | None:
    """Which published ports would be others afterwards, as the daemon chooses them; None when none.
    told: what `inspect` tells of the container."""
    host = told["HostConfig"]
    if host.get("PublishAllPorts"):
        return "all"
    loose = [
        port
        for port, places in (host.get("PortBindings") or {}).items()
        for place in places or []
        if place.get("HostPort", "") in ("", "0") or "-" in place["HostPort"]
    ]
    return ", ".join(dict.fromkeys(loose)) or None


def configured(network: Mapping[str, Any]) -> bool:
    """Whether its subnet was surely configured, so that an address may be wished for: of one that
    the daemon has chosen it shows the gateway (and of one that was given with its gateway)."""
    pools = network["IPAM"]["Config"] or []
    return bool(pools) and not any("." in pool.get("Gateway", "") for pool in pools)


def why_lost(network: Mapping[str, Any], endpoint: Endpoint, container: str) -> str | None:
    """Why its address would not come back; None when it would, unless somebody takes it."""
    if _is_fixed(endpoint) or configured(network):
        return None
    if next_address(network, container) == endpoint["address"]:
        return None
    return (
        f"its address {endpoint['address']} in {endpoint['network']} would not come back, as the "
        "daemon gives out the lowest that is free; one of its own (--ip, or ipv4_address of "
        "compose) in a network with a configured subnet would"
    )


def remarks(network: Mapping[str, Any], endpoint: Endpoint, container: str) -> list[str]:
    """What a person should know of its way back, for the plan."""
    name = endpoint["network"]
    if _is_fixed(endpoint):
        return []
    if next_address(network, container) != endpoint["address"]:
        return [f"its address in {name} is one of its own afterwards: else it would not come back"]
    if configured(network):
        return []
    return [f"its address in {name} comes back, unless somebody takes it meanwhile"]


def wish(network: Mapping[str, Any], endpoint: Endpoint, leaving: str) -> Json:
    """The addresses to wish for so that it comes back with its own; None when they come by
    themselves once the container `leaving` has left them."""
    fixed = endpoint["fixed"]
    if fixed or endpoint["address"] in ("", next_address(network, leaving)):
        return fixed
    return {"IPv4Address": endpoint["address"], "IPv6Address": endpoint["address6"]}


def connect(daemon: Daemon, network: str, container: str, wanted: Endpoint) -> None:
    """Connect it as it was. Where somebody else has its address by now it gets another one, as that
    is nearer to what was than none. Raises ChaoskitError, Gone when the container is gone."""
    try:
        _wait_for_turn(daemon, network, container, wanted)
        wished = wish(about(daemon, network), wanted, container)
        try:
            return attach(daemon, network, container, wanted | {"wish": wished})
        except (Gone, NoDaemon):
            raise
        except ChaoskitError as error:
            if not wished or not _ABOUT_ADDRESS.search(str(error)):
                raise
        # Somebody has the address, or none may be wished for.
        attach(daemon, network, container, wanted | {"wish": None})
    except Gone as error:
        daemon.inspect(container)
        raise ChaoskitError(f"the network {wanted['network']} was removed meanwhile") from error


def _wait_for_turn(daemon: Daemon, network: str, container: str, wanted: Endpoint) -> None:
    """Several that left come back in the order of their addresses, where the lowest that is free is
    given out: each waits until that is its own, or somebody has it."""

    def now_or_never() -> bool:
        knows = about(daemon, network)
        first = next_address(knows, container)
        return (
            first is None
            or not wanted["address"]
            or first == wanted["address"]
            or configured(knows)
            or wanted["address"] in _used(knows, container)
        )

    if not _is_fixed(wanted):
        until(now_or_never, TURN)


def attach(daemon: Daemon, network: str, container: str, wanted: Mapping[str, Any]) -> None:
    """Connect it with exactly that. Raises Gone when either is gone, ChaoskitError."""
    wished = wanted["wish"] or {}
    daemon.do(
        lambda api: api.connect_container_to_network(
            container,
            network,
            ipv4_address=wished.get("IPv4Address") or None,
            ipv6_address=wished.get("IPv6Address") or None,
            link_local_ips=wished.get("LinkLocalIPs") or None,
            aliases=wanted["aliases"] or None,
            links=[link.partition(":")[::2] for link in wanted["links"]] or None,
            driver_opt=wanted["options"],
            mac_address=(wanted["mac"] or None) if own_macs(api) else None,
        )
    )


def own_macs(api: Any) -> bool:
    """Whether an endpoint can ask for its hardware address; before, that follows from the address,
    or from the container's configuration."""
    return tuple(int(part) for part in api.api_version.split(".")) >= (1, 44)


def _is_fixed(endpoint: Mapping[str, Any]) -> bool:
    return bool((endpoint["fixed"] or {}).get("IPv4Address"))
