"""Whose packets are meant: addresses, networks, host names and containers, as the file has them.

A host name is looked up by this machine's resolver, a container at its daemon; each in a thread of
its own, for a name server that is silent must not hold up a run that has to let go.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary, ref

from chaoskit.capabilities import HasNetwork
from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Nobody

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DOC = (
    "addresses, networks (10.0.0.0/8), host names, `container:NAME`, `label:KEY=VALUE` or "
    "`service:NAME` (of compose); names are looked up again each second; everybody when left out"
)
PATIENCE = 5.0
"""Seconds that looking up all names may take before a fault is refused."""
CONTAINERS = ("container:", "label:", "service:")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)*(?![0-9]+\.?$){_LABEL}\.?")
"""A host name. Its last part is no number: those are addresses that are wrong."""


def problem_with(peer: str) -> str | None:
    """What is wrong with a peer as the file has it; None when it can be looked up."""
    if peer.startswith(CONTAINERS):
        kind, _, name = peer.partition(":")
        return None if name.strip() else f"{peer!r} names no {kind}"
    try:
        found = literal(peer)
    except ValueError as error:
        return str(error)
    if found is None and not _NAME.fullmatch(peer):
        return (
            f"{peer!r} is no address, no network, no host name and not `container:NAME`, "
            "`label:KEY=VALUE` or `service:NAME`"
        )
    if found is not None and (found.is_loopback or found.is_unspecified):
        return f"{peer!r} is nobody else: what has to do with a loopback is never touched"
    return None


def literal(peer: str) -> Network | None:
    """The network that is written out, one address or more; None for a name. Raises ValueError
    when there are bits behind its mask."""
    try:
        return ipaddress.ip_network(peer)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(peer, strict=False)
    except ValueError:
        return None
    raise ValueError(f"{peer!r} has bits behind its mask: the network is {meant}")


def split(addresses: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of IPv4 and those of IPv6, without what another one holds, as nft takes them. What
    has to do with a loopback is left out."""
    found: dict[int, list[Network]] = {4: [], 6: []}
    for address in addresses:
        network = ipaddress.ip_network(address.partition("%")[0])
        if not network.is_loopback and not network.is_unspecified:
            found[network.version].append(network)
    four, six = (
        [str(n).removesuffix("/32" if n.version == 4 else "/128") for n in _collapsed(networks)]
        for networks in found.values()
    )
    return four, six


def _collapsed(networks: list[Network]) -> list[Network]:
    return list(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]


class Lookup:
    """One peer's addresses, the last that were known; none when it surely has none any more: the
    next container may get the address of one that has gone.

    gone: it had some, and surely has none now.
    """

    def __init__(self, ask: Callable[[], Iterable[str]]) -> None:
        self._ask = ask
        self._thread: threading.Thread | None = None
        self.known: tuple[str, ...] = ()
        self.gone = False
        self.trouble = "nobody has answered in time"

    def again(self) -> None:
        """Begin to ask, unless that is still going on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="lookup", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def _run(self) -> None:
        try:
            found = tuple(dict.fromkeys(self._ask()))
        except Nobody as error:
            self.trouble = str(error)
            self.gone = self.gone or bool(self.known)
            self.known = ()
            return
        except Exception as error:  # Whatever it is, what was known is still the best there is.
            self.trouble = str(error) or type(error).__name__
            return
        if found:
            self.known = found
        else:
            self.trouble = "it has no address"


class Peers:
    """All peers of one fault on one target, from when it is planned until it is over."""

    def __init__(self, target: HasNetwork, peers: Sequence[str]) -> None:
        self._written = [peer for peer in peers if _is_literal(peer)]
        self._lookups = {
            peer: Lookup(_asking(ref(target), peer)) for peer in peers if not _is_literal(peer)
        }
        self.loaded: tuple[list[str], list[str]] | None = None
        """What the rules go by."""

    def again(self, wait: float = 0.0) -> None:
        """Ask for all of them again, and wait so long for the answers."""
        end = now() + wait
        for lookup in self._lookups.values():
            lookup.again()
        for lookup in self._lookups.values():
            lookup.wait(end - now())

    def addresses(self, *, later: bool = False) -> tuple[list[str], list[str]]:
        """Of IPv4 and of IPv6, as far as they are known. Raises ChaoskitError for a peer that is
        not, or that is nobody but a loopback. later: one that has gone meanwhile has none."""
        found = list(self._written)
        for peer, lookup in self._lookups.items():
            if not lookup.known and not (later and lookup.gone):
                raise ChaoskitError(f"{peer} cannot be resolved: {lookup.trouble}")
            if lookup.known and not any(split(lookup.known)):
                raise ChaoskitError(f"{peer} is a loopback, which is never touched")
            found += lookup.known
        return split(found)


_known: WeakKeyDictionary[HasNetwork, dict[tuple[str, ...], Peers]] = WeakKeyDictionary()


def peers_of(target: HasNetwork, peers: Sequence[str]) -> Peers:
    """What is known of these peers for that target: the same each time it is asked for."""
    known = _known.setdefault(target, {})
    if tuple(peers) not in known:
        known[tuple(peers)] = Peers(target, peers)
    return known[tuple(peers)]


def _is_literal(peer: str) -> bool:
    return not peer.startswith(CONTAINERS) and literal(peer) is not None


def _asking(whose: ref[HasNetwork], peer: str) -> Callable[[], Iterable[str]]:
    def ask() -> Iterable[str]:
        target = whose()
        return target.addresses_of(peer) if target is not None else ()

    return ask if peer.startswith(CONTAINERS) else lambda: _resolved(peer)


def _resolved(name: str) -> Iterable[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ChaoskitError((error.strerror or str(error)).lower()) from error
    return [str(address[0]) for *_, address in found]
