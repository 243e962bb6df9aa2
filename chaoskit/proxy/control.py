"""Where the control interface listens, and how many may ask at once.

It lives in the proxy's own loop, so no request ever meets a half-made change; in return nothing in
it may block or take long, whatever its visitors do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from importlib import import_module
from typing import TYPE_CHECKING

from chaoskit.errors import InputError, Refused
from chaoskit.proxy.addresses import shown, split
from chaoskit.proxy.api import Api
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.events import Events
from chaoskit.proxy.loop import IN

if TYPE_CHECKING:
    from chaoskit.proxy.loop import Timer
    from chaoskit.proxy.server import Server
    from chaoskit.proxy.visitor import Visitor

MOST_VISITORS = 200
SPARE = 8
"""Descriptors that are kept back, so that we can be asked even when the traffic uses up all."""
_SWEEP = 1.0
"""Seconds between looks at who is over time."""
_TURN = 16
"""Visitors that are let in before others have their turn."""


class Control:
    """The control interface of one server."""

    def __init__(self, server: Server) -> None:
        self.loop = server.loop
        self.api = Api(server)
        self.events = Events(server)
        self.told = ""
        """The host that we were told to listen on."""
        self._listeners: list[socket.socket] = []
        self._paths: list[str] = []
        self._visitors: set[Visitor] = set()
        self._timer: Timer | None = None
        self._spare: list[int] = []

    def listen(self, address: str) -> str:
        """Listen on `host:port` or `unix:/path` too; the real address.

        Raises InputError when it is no address, Refused when it cannot be had.
        """
        import_module("chaoskit.proxy.visitor")  # Now, so that no visitor waits for it.
        unix = address.startswith("unix:")
        listener = _unix(address.removeprefix("unix:")) if unix else self._tcp(address)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._refill()
        self.loop.watch(listener.fileno(), lambda _: self._accept(listener), IN, urgent=True)
        if unix:
            self._paths.append(listener.getsockname())
            return address
        return shown(listener.getsockname())

    def close(self) -> None:
        """Let everybody go and give everything back."""
        self.events.close()
        for visitor in tuple(self._visitors):
            visitor.close()
        for listener in self._listeners:
            self.loop.unwatch(listener.fileno())
            listener.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
        while self._spare:
            os.close(self._spare.pop())
        if self._timer is not None:
            self._timer.cancel()
        self._listeners.clear()
        self._paths.clear()

    def forget(self, visitor: Visitor) -> None:
        """That visitor is over."""
        self._visitors.discard(visitor)
        if len(self._spare) < SPARE:
            self.loop.soon(self._refill)

    def _tcp(self, address: str) -> socket.socket:
        try:
            host, port = split(address, "--listen")
        except ProxyError as error:
            raise InputError([f"chaoskit proxy: {error}"]) from error
        try:
            found = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no name"
            raise InputError(
                [f"chaoskit proxy: --listen: the host {host!r} is not known: {why}"]
            ) from error
        # IPv6's "all addresses" takes IPv4 too; for a name, IPv4 first, as Go does.
        family, _, _, _, real = sorted(found, key=lambda one: one[0] != socket.AF_INET)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, real, address)
        self.told = host
        return listener

    def _accept(self, listener: socket.socket) -> None:
        from chaoskit.proxy.visitor import Visitor

        for _ in range(_TURN):
            try:
                side, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._spare:
                    self._rest(listener)
                    return
                os.close(self._spare.pop())
                continue
            side.setblocking(False)
            if side.family != socket.AF_UNIX:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._visitors) >= MOST_VISITORS:
                self._make_room()
            self._visitors.add(Visitor(self, side))
            if self._timer is None:
                self._timer = self.loop.at(self.loop.now() + _SWEEP, self._sweep)

    def _make_room(self) -> None:
        """Who has been waiting longest without asking anything leaves."""
        waiting = [visitor for visitor in self._visitors if not visitor.stays]
        if waiting:
            min(waiting, key=lambda visitor: visitor.began).close()

    def _rest(self, listener: socket.socket) -> None:
        """Nobody can be let in: try again soon, rather than all the time."""
        self.loop.modify(listener.fileno(), 0)

        def again() -> None:
            if listener in self._listeners:
                self.loop.modify(listener.fileno(), IN)

        self.loop.at(self.loop.now() + 0.05, again)

    def _refill(self) -> None:
        with contextlib.suppress(OSError):
            while self._listeners and len(self._spare) < SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _sweep(self) -> None:
        self._timer = None
        now = self.loop.now()
        for visitor in tuple(self._visitors):
            if visitor.deadline < now:
                visitor.close()
        if self._visitors:
            self._timer = self.loop.at(now + _SWEEP, self._sweep)


def _unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Never open to others, not even for the moment before a chmod.
    before = os.umask(0o177)
    try:
        _bind(listener, path, f"unix:{path}")
    finally:
        os.umask(before)
    return listener


def _bind(listener: socket.socket, real: object, address: str) -> None:
    try:
        listener.bind(real)  # type: ignore[arg-type]
        listener.listen(128)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise Refused(f"cannot listen on {address}: {why.lower()}") from error
