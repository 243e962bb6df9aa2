"""The TCP connections of a network namespace led through a proxy of ours inside it.

Three things of ours, in the order in which they come: a table that does nothing but keep the
kernel tracking connections and translating addresses, the proxy, and the table with the rules that
redirect to it. They go in the other order: what is new goes directly at once, what is open loses
its delay and comes to rest, is reset, and only then nobody translates for it any more. Without the
first table the kernel would stop with the rules, and leave the open connections hanging.

The proxy takes both tables away when it ends (see `chaoskit.proxy.redirected`), and should it be
killed, the rules lose their effect by themselves: the kernel forgets the lease that they ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from chaoskit import nft
from chaoskit.clock import now, until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.impairment import Impairment
from chaoskit.model.units import Json
from chaoskit.namespaces import in_network_of, in_new_network
from chaoskit.procfs import Process
from chaoskit.targets import proxy_process, toxics
from chaoskit.targets.proxy_client import Client

OPENED, ACCEPTED = "opened", "accepted"
"""The proxy's links: for connections that the target opens, and for those that come to it."""
GRACE = 30.0
"""Seconds after the run's last moment in which its undo is over; then the lease is."""
PATIENCE = 4.0
"""Seconds in which a proxy that was told to end has ended: it gives open connections two."""
_PRIORITY = -110
"""Before other rules that translate (they have -100): those see what the proxy sends on."""
_MEANT = "tcp flags & (fin | syn | rst | ack) == syn meta l4proto @lease"
"""Never in the middle of a connection: one that was open before is not ours."""
_KEEP = "chain keep {\ntype nat hook output priority 0; policy accept;\nct state new return\n}"
"""A chain that translates, and a rule that needs connections to be tracked."""


@dataclass(frozen=True)
class Redirect:
    """Of the namespace that a process is in. mark: unique to the namespace and the step.

    opened, accepted: conditions of nft for the connections that are meant, any of which is enough;
    without one all are.
    """

    root: Process
    binding: Binding
    mark: str
    opened: Sequence[str] = field(default=("",))
    accepted: Sequence[str] = field(default=("",))

    @property
    def rules(self) -> str:
        """The name of the table that redirects."""
        return nft.table_name(f"{self.mark}-redirect")

    @property
    def nat(self) -> str:
        """The name of the table that keeps the kernel translating."""
        return nft.table_name(f"{self.mark}-nat")

    @property
    def socket_mark(self) -> int:
        """SO_MARK of what the proxy dials; one and two more: of our probes of its two links."""
        drawn = int.from_bytes(hashlib.sha256(self.mark.encode()).digest()[:4], "big")
        return 0x10000000 | (drawn & 0x0FFFFFFC)

    @property
    def client(self) -> Client:
        return Client("http://localhost", str(self._control))

    @property
    def _control(self) -> Path:
        # Short: a socket's path has little room.
        name = hashlib.sha256(self.mark.encode()).hexdigest()[:8]
        return self.binding.folder / f"proxy-{name}.sock"

    def has_table(self, name: str) -> bool:
        """Raises Gone."""
        return name in nft.tables(self._nft)

    def load_nat(self) -> None:
        nft.load(self._nft, self.nat, _KEEP)

    def load_rules(self) -> None:
        ports = {name: self._port(name) for name in (OPENED, ACCEPTED)}
        ends_at = self.binding.ends_at or now() + proxy_process.MOST_SECONDS
        lease = max(1, round(ends_at - now() + GRACE))
        nft.load(self._nft, self.rules, self._body(ports, lease))

    def delete(self, name: str) -> None:
        """Nothing when the proxy was faster."""
        with contextlib.suppress(ChaoskitError):
            nft.delete(self._nft, name)
            return
        if self.has_table(name):
            nft.delete(self._nft, name)

    def start(self, what: Impairment) -> None:
        """Raises ChaoskitError, Gone, Interrupted."""
        command = proxy_process.words(proxy_process.INSIDE, self.mark, self._control.name)
        command += ["--rules", self.rules, "--nat", self.nat]
        command += ["--socket-mark", str(self.socket_mark)]
        for link in (OPENED, ACCEPTED):
            command += ["--link", link]
        for link, toxic in self.toxics(what):
            command += ["--toxic", link, json.dumps(toxic)]
        log = self._control.with_suffix(".log")
        proxy_process.start(command, self.binding, log, lambda work: in_network_of(self.root, work))
        proxy_process.wait_up(self.mark, self.binding, self.answers, log)

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

    def end(self) -> None:
        """Have it part; by force when it does not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in proxy_process.of(self.mark):
                with contextlib.suppress(Gone):
                    process.signal(number)
            if until(lambda: not self.alive(), PATIENCE):
                break
        self._control.unlink(missing_ok=True)

    def _nft(self, arguments: Sequence[str], commands: str) -> str:
        return in_network_of(self.root, lambda: nft.here(arguments, commands))

    def _port(self, link: str) -> int:
        return int(str(self.client.link(link)["listen"]).rpartition(":")[2])

    def _body(self, ports: dict[str, int], lease: int) -> str:
        mark = self.socket_mark
        return _body(
            lease,
            [
                f"meta mark {mark + 1} {_MEANT} redirect to :{ports[OPENED]}",
                f"meta mark {mark + 2} {_MEANT} redirect to :{ports[ACCEPTED]}",
                'oifname "lo" return',
                f"meta mark {mark} return",
                *(f"{which} {_MEANT} redirect to :{ports[OPENED]}" for which in self.opened),
            ],
            [
                'iifname "lo" return',
                # What the target forwards for others does not come to it.
                "fib daddr type != local return",
                *(f"{which} {_MEANT} redirect to :{ports[ACCEPTED]}" for which in self.accepted),
            ],
        )


@cache
def missing() -> str | None:
    """Why connections cannot be redirected on this machine; None when they can."""
    if why := nft.missing():
        return why
    rule = f"fib daddr type local {_MEANT} redirect to :1"
    body = _body(60, [rule], [rule])
    try:
        in_new_network(lambda: nft.load(nft.here, "chaoskit-trial", f"{_KEEP}\n{body}"))
    except ChaoskitError as error:
        return f"this kernel's nftables cannot do it ({error})"
    return None


def _body(lease: int, output: Sequence[str], prerouting: Sequence[str]) -> str:
    return "\n".join([
        "set lease {",
        "type inet_proto",
        "flags timeout",
        f"elements = {{ tcp timeout {lease}s }}",
        "}",
        "chain output {",
        f"type nat hook output priority {_PRIORITY}; policy accept;",
        *output,
        "}",
        "chain prerouting {",
        f"type nat hook prerouting priority {_PRIORITY}; policy accept;",
        *prerouting,
        "}",
    ])  # fmt: skip
