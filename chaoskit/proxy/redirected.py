"""One run's own proxy in the network namespace of a target, for connections redirected to it.

It is a process of ours that is only in that namespace, and knows the tables that redirect. When it
ends (the run's lifeline closes, its deadline comes, SIGTERM does) it takes them away itself, so
that nobody is sent to where no one listens: first the rules, so that new connections go directly;
then the toxics, so that nothing is late any more; then, when those that are open have come to rest
or have had their time, the connections and the last table. See `chaoskit.targets.redirect`.

While it lives it renews the lease by which the rules have force: when it is killed, they lose it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from argparse import ArgumentParser

from chaoskit import nft
from chaoskit.clock import now
from chaoskit.errors import ChaoskitError
from chaoskit.proxy.control import Control
from chaoskit.proxy.descriptors import open_many
from chaoskit.proxy.original import RedirectedLink
from chaoskit.proxy.server import Server

QUIET = 0.3
"""Seconds without a byte after which what is open counts as at rest."""
MOST = 2.0
"""Seconds that open connections have at most."""
RENEWED_EVERY = 1.0
_LOOK = 0.05


class Lease:
    """Keeps the rules in force, from the loop: one that hangs does not."""

    def __init__(self, server: Server, rules: str, seconds: int) -> None:
        self._server = server
        self._rules = rules
        self._seconds = seconds
        self._over = False
        self._renewing: threading.Thread | None = None

    def keep(self) -> None:
        if self._over:
            return
        if self._renewing is None or not self._renewing.is_alive():
            # In a thread: nft takes longer than a connection may wait.
            self._renewing = threading.Thread(target=self._renew, daemon=True)
            self._renewing.start()
        self._server.loop.at(now() + RENEWED_EVERY, self.keep)

    def end(self) -> None:
        self._over = True

    def _renew(self) -> None:
        with contextlib.suppress(ChaoskitError):  # They are not there yet, or not any more.
            nft.replace_sets(nft.here, self._rules, {"lease": [f"tcp timeout {self._seconds}s"]})


class Parting:
    """How it ends. rules: the table that redirects."""

    def __init__(self, server: Server, rules: str, lease: Lease) -> None:
        self._server = server
        self._rules = rules
        self._lease = lease
        self._since: float | None = None
        self._moved = (0, 0.0)
        """Bytes that had passed, and since when there are no more of them."""

    def begin(self) -> None:
        if self._since is not None:
            return
        self._since = now()
        self._lease.end()
        with contextlib.suppress(ChaoskitError):  # Even so, what is open must not stay late.
            nft.delete(nft.here, self._rules)
        for link in self._server.links.values():
            link.remove_all()
        self._look()

    def _look(self) -> None:
        links = self._server.links.values()
        moved = sum(link.counters.up.sent + link.counters.down.sent for link in links)
        if moved != self._moved[0]:
            self._moved = (moved, now())
        assert self._since is not None
        quiet_since = max(self._since, self._moved[1])
        over = now() - quiet_since >= QUIET or now() - self._since >= MOST
        if over or not any(link.open for link in links):
            self._server.loop.stop()
        else:
            self._server.loop.at(now() + _LOOK, self._look)


def main() -> int:
    """Serve until that comes; then part."""
    parser = ArgumentParser(prog="python -m chaoskit.proxy.redirected", description=__doc__)
    parser.add_argument("--mark", required=True, help="whose it is; only there to be seen")
    parser.add_argument("--control", required=True, help="unix:/path of the control interface")
    parser.add_argument("--link", action="append", required=True, help="the name of a link")
    parser.add_argument(
        "--toxic", action="append", default=[], nargs=2, metavar=("LINK", "JSON"), help="in a link"
    )
    parser.add_argument("--socket-mark", required=True, type=int, help="SO_MARK of what it dials")
    parser.add_argument("--rules", required=True, help="the table that redirects to it")
    parser.add_argument("--lease", required=True, type=int, help="seconds that they have force")
    parser.add_argument("--nat", required=True, help="the table that goes last")
    parser.add_argument("--ends-at", required=True, type=float, help="CLOCK_MONOTONIC seconds")
    parser.add_argument("--seed", required=True, type=int)
    args = parser.parse_args()
    open_many()
    server = Server(seed=args.seed)
    control = Control(server)
    lease = Lease(server, args.rules, args.lease)
    parting = Parting(server, args.rules, lease)
    _on_sigterm(server, parting)
    server.loop.watch(0, lambda _: _lifeline(server, parting), select.EPOLLHUP, urgent=True)
    server.loop.at(args.ends_at, parting.begin)
    try:
        for name in args.link:
            server.links[name] = RedirectedLink(server, name, args.socket_mark)
            server.links[name].enable()
        for name, toxic in args.toxic:
            server.link(name).add(json.loads(toxic))
        control.listen(args.control)
        lease.keep()
        server.loop.run()
    except ChaoskitError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        control.close()
        server.close()
        with contextlib.suppress(ChaoskitError):
            nft.delete(nft.here, args.nat)
    return 0


def _lifeline(server: Server, parting: Parting) -> None:
    server.loop.unwatch(0)  # It would tell of its end again and again.
    parting.begin()


def _on_sigterm(server: Server, parting: Parting) -> None:
    heard = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    signal.signal(signal.SIGTERM, lambda *_: os.eventfd_write(heard, 1))
    server.loop.watch(heard, lambda _: parting.begin(), select.EPOLLIN | select.EPOLLET)


if __name__ == "__main__":
    sys.exit(main())
