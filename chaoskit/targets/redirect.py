"""The TCP connections of a network namespace led through a proxy of ours inside it.

Three things of ours, in the order in which they come: a table that does nothing but keep the
kernel tracking connections and translating addresses, the proxy, and the table with the rules that
redirect to it. They go in the other order: what is new goes directly at once, what is open loses
its delay and comes to rest, is reset, and only then nobody translates for it any more. Without the
first table the kernel would stop with the rules, and leave the open connections hanging.

The proxy takes both tables away when it ends (see `chaoskit.proxy.redirected`), and should it be
killed, the rules lose their force by themselves within seconds, since it renews their lease.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from chaoskit import nft
from chaoskit.errors import ChaoskitError
from chaoskit.model.binding import Binding
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json
from chaoskit.namespaces import in_network, in_new_network
from chaoskit.targets import proxy_process, redirect_rules, toxics
from chaoskit.targets.network import OF_A_RUN, parts
from chaoskit.targets.proxy_client import Client
from chaoskit.targets.redirect_rules import ACCEPTED, EVERYTHING, LEASE, OPENED

R = TypeVar("R")

_REDIRECT = "-redirect"
_KEEP = "chain keep {\ntype nat hook output priority 0; policy accept;\nct state new return\n}"
"""A chain that translates, and a rule that needs connections to be tracked."""


@dataclass(frozen=True)
class Redirect:
    """Of one network namespace. key: of the namespace, see `network`. mark: unique to it and to the
    step. living: to put something there, see `in_network`."""

    key: str
    binding: Binding
    mark: str
    living: bool = False

    @property
    def rules(self) -> str:
        """The name of the table that redirects."""
        return nft.table_name(f"{self.mark}{_REDIRECT}")

    @property
    def nat(self) -> str:
        """The name of the table that keeps the kernel translating."""
        return nft.table_name(f"{self.mark}-nat")

    @property
    def socket_mark(self) -> int:
        """SO_MARK of what the proxy dials; one and two more: of our probes of its two links."""
        drawn = int.from_bytes(hashlib.sha256(self.mark.encode()).digest()[:4], "big")
        return redirect_rules.OURS | drawn & ~redirect_rules.OURS_MASK

    @property
    def client(self) -> Client:
        return Client("http://localhost", str(self._control))

    @property
    def _control(self) -> Path:
        # Short: a socket's path has little room.
        name = hashlib.sha256(self.mark.encode()).hexdigest()[:8]
        return self.binding.folder / f"proxy-{name}.sock"

    @property
    def _log(self) -> Path:
        return self._control.with_suffix(".log")

    def last_words(self) -> str:
        """What the proxy said at its end, and where."""
        return proxy_process.last_words(self._log)

    def has_table(self, name: str) -> bool:
        """Raises Gone."""
        return name in nft.tables(self._nft)

    def others(self) -> list[str]:
        """The tables of other steps or runs that redirect there. Raises Gone."""
        return [
            name
            for name in nft.tables(self._nft)
            if name != self.rules and OF_A_RUN.fullmatch(name) and name.endswith(_REDIRECT)
        ]

    def load_nat(self) -> None:
        nft.load(self._nft, self.nat, _KEEP)

    def load_rules(self, what: Impairment) -> None:
        ports = {name: self._port(name) for name in (OPENED, ACCEPTED)}
        nft.load(self._nft, self.rules, redirect_rules.body(what, self.socket_mark, ports, LEASE))

    def readdress(self, what: Impairment) -> None:
        """The peers have other addresses by now."""
        nft.replace_sets(self._nft, self.rules, redirect_rules.peers(what))

    def delete(self, name: str) -> None:
        """Take that table away; nothing when the proxy was faster."""
        nft.delete(self._nft, name)

    def start(self, what: Impairment) -> None:
        """Raises ChaoskitError, Gone, Interrupted."""
        command = proxy_process.words(proxy_process.INSIDE, self.mark, self._control.name)
        command += ["--rules", self.rules, "--lease", str(LEASE), "--nat", self.nat]
        command += ["--socket-mark", str(self.socket_mark)]
        for link in (OPENED, ACCEPTED):
            command += ["--link", link]
        for link, toxic in self.toxics(what):
            command += ["--toxic", link, json.dumps(toxic)]
        proxy_process.start(command, self.binding, self._log, self.inside)
        proxy_process.wait_up(self.mark, self.binding, self.answers, self._log)

    def toxics(self, what: Impairment) -> list[tuple[str, dict[str, Json]]]:
        """What is put into which link: what leaves the target goes up a connection that it has
        opened, and down one that came to it."""
        found = []
        for direction in ("out", "in") if what.direction == "both" else (what.direction,):
            for link in (OPENED, ACCEPTED):
                up = (direction == "out") == (link == OPENED)
                one = Impairment(
                    what.kind, "upstream" if up else "downstream", what.toxicity, what.values
                )
                found.append((link, toxics.toxic_for(one, f"{self.mark}-{direction}", ours=True)))
        return found

    def left(self) -> bool:
        """Whether anything of the proxy is there: one that was killed leaves its socket's name."""
        return self.alive() or self._control.exists()

    def alive(self) -> bool:
        return bool(proxy_process.of(self.mark))

    def answers(self) -> bool:
        try:
            return len(self.client.links()) == 2
        except ChaoskitError:
            return False

    def has_toxics(self, what: Impairment) -> bool:
        """Whether the proxy shows what it was told. Raises ChaoskitError."""
        for link, toxic in self.toxics(what):
            found = self.client.toxic(link, str(toxic["name"]))
            if found is None or toxics.seen(found) != toxics.seen(toxic):
                return False
        return True

    def opened(self) -> int:
        """How many connections were redirected, our own probes left out. Raises Gone,
        ChaoskitError."""
        return sum(nft.contents(self._nft, self.rules).packets.values())

    def means_somebody(self, what: Impairment) -> bool:
        """Whether there is a peer left whose connections are redirected. Raises Gone,
        ChaoskitError."""
        if not (named := redirect_rules.peers(what)):
            return True
        there = nft.contents(self._nft, self.rules).elements
        return any(there.get(name) for name in named)

    def end(self) -> None:
        """It parts, or is ended by force."""
        proxy_process.part(*proxy_process.of(self.mark))
        self._control.unlink(missing_ok=True)

    def inside(self, work: Callable[[], R]) -> R:
        """Done in the namespace. Raises Gone when nobody is in it any more."""
        return in_network(*parts(self.key), work, living=self.living)

    def _nft(self, arguments: Sequence[str], commands: str) -> str:
        return self.inside(lambda: nft.here(arguments, commands, self.binding.mark))

    def _port(self, link: str) -> int:
        return int(str(self.client.link(link)["listen"]).rpartition(":")[2])


@cache
def missing() -> str | None:
    """Why connections cannot be redirected on this machine; None when they can."""
    if why := nft.missing():
        return why
    trial = f"{_KEEP}\n{redirect_rules.body(EVERYTHING, 1, {OPENED: 1, ACCEPTED: 2}, 60)}"
    try:
        in_new_network(lambda: nft.load(nft.here, "trial", trial))
    except ChaoskitError as error:
        return f"this kernel, or nft, cannot redirect connections: {error}"
    return None
