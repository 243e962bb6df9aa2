"""A link: what listens in one place and carries the traffic to another, with its toxics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from chaoskit.clock import now
from chaoskit.proxy.addresses import parse_upstream
from chaoskit.proxy.errors import ProxyError
from chaoskit.proxy.stage import Stage
from chaoskit.proxy.stream import Meter, Stream
from chaoskit.proxy.toxic import Toxic, make

if TYPE_CHECKING:
    from chaoskit.proxy.connection import Connection
    from chaoskit.proxy.datagrams import DatagramStream, Session
    from chaoskit.proxy.server import Server

MOST_TOXICS = 100
"""Toxics that one link may have."""
_AGAIN = 0.2
"""Seconds until a toxic is tried again whose time is over and that could not be taken out."""


class Counters:
    """What a link has done since it was made. accepted: connections, or clients of datagrams.
    refused: those that could not be served, because the upstream did not answer or we could not
    take any more."""

    __slots__ = ("accepted", "down", "refused", "up")

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.up = Meter()
        self.down = Meter()


class Link(ABC):
    """Made by `Server.create`. listen: the address with its real port, kept while disabled."""

    protocol: ClassVar[str]

    def __init__(self, server: Server, name: str, listen: str, upstream: str) -> None:
        self.server = server
        self.loop = server.loop
        self.memory = server.memory
        self.pipes = server.pipes
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.counters = Counters()
        self._toxics: list[Toxic] = []

    @property
    @abstractmethod
    def open(self) -> int:
        """How many connections there are now."""

    @abstractmethod
    def start(self) -> None:
        """Begin to listen. Raises ProxyError 500 when the address cannot be had."""

    @abstractmethod
    def stop(self) -> None:
        """Listen no more and end every connection."""

    @abstractmethod
    def connections(self) -> Iterable[Connection | Session]:
        """Those that are open and have their streams."""

    def listen_or_not(self) -> None:  # noqa: B027
        """A toxic that closes the door has come or gone; datagrams have no door."""

    def show(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
        }
        if self.protocol != "tcp":
            shown["protocol"] = self.protocol
        shown["toxics"] = [toxic.show() for toxic in self.toxics()]
        return shown

    def update(self, listen: str, upstream: str, enabled: bool) -> None:
        """Change where it listens and leads, and whether it does. A new address ends all
        connections. Raises ProxyError: 400 and nothing has changed; 500 and it is disabled."""
        parse_upstream(upstream)
        if (listen, upstream) != (self.listen, self.upstream):
            self.disable()
            self.listen, self.upstream = listen, upstream
        if enabled:
            self.enable()
        else:
            self.disable()

    def enable(self) -> None:
        if not self.enabled:
            self.start()
            self.enabled = True
            self.tell("proxy-enabled")

    def disable(self) -> None:
        if self.enabled:
            self.enabled = False
            self.stop()
            self.tell("proxy-disabled")

    # --- toxics ----------------------------------------------------------------------------------

    def toxics(self) -> list[Toxic]:
        """All of them, upstream first, each direction in the order in which data meets them."""
        return sorted(self._toxics, key=lambda toxic: toxic.stream != "upstream")

    def toxic(self, name: str) -> Toxic:
        for toxic in self._toxics:
            if toxic.name == name:
                return toxic
        raise ProxyError("toxic not found", 404)

    def add(self, document: Mapping[str, object]) -> Toxic:
        """Put in the toxic that a decoded request describes; it works on live connections at once.

        Raises ProxyError 400 or 409; then nothing has changed.
        """
        toxic = make(document, self.protocol)
        if any(other.name == toxic.name for other in self._toxics):
            raise ProxyError("toxic already exists", 409)
        if len(self._toxics) >= MOST_TOXICS:
            raise ProxyError(f"a proxy has at most {MOST_TOXICS} toxics", 409)
        toxic.draws = self.server.next_seed() if toxic.seed is None else toxic.seed
        self._toxics.append(toxic)
        for connection in list(self.connections()):
            self._fit(connection, toxic)
        toxic.added(self)
        self._expire(toxic)
        self.tell("toxic-added", toxic=toxic.show())
        return toxic

    def change(self, name: str, document: Mapping[str, object]) -> Toxic:
        """Merge attributes into a toxic, set its toxicity and its time to live."""
        toxic = self.toxic(name)
        new = toxic.changed_by(document)
        if new.seed is not None:
            new.draws = new.seed
        toxic.take(new)
        for connection in list(self.connections()):
            self._fit(connection, toxic)
            for _, stage in list(_stages(connection, toxic)):
                stage.changed()
        if any(key.lower() == "ttl" for key in document):
            self._expire(toxic)
        self.tell("toxic-changed", toxic=toxic.show())
        return toxic

    def remove(self, name: str, why: str = "toxic-removed") -> None:
        """Take the toxic out; what it holds back goes on at once. Raises ProxyError 500 when what
        it does cannot be taken back now; it is in still."""
        toxic = self.toxic(name)
        place = self._toxics.index(toxic)
        del self._toxics[place]
        try:
            toxic.removed(self)
        except OSError as error:
            self._toxics.insert(place, toxic)
            raise ProxyError(f"the toxic {name} stays: {error.strerror}", 500) from error
        if toxic.timer is not None:
            toxic.timer.cancel()
        for connection in list(self.connections()):
            self._unfit(connection, toxic)
        self.tell(why, toxic=toxic.show())

    def remove_all(self) -> None:
        for toxic in list(self._toxics):
            self.remove(toxic.name)

    def equip(self, connection: Connection | Session) -> None:
        """Give a new connection the stages of the toxics that apply to it."""
        for toxic in self._toxics:
            if connection.over:
                return
            self._fit(connection, toxic)

    def tell(self, kind: str, **fields: object) -> None:
        self.server.tell(kind, proxy=self.name, **fields)

    def _fit(self, connection: Connection | Session, toxic: Toxic) -> None:
        """A stage where the toxic applies and there is none; none where it does not."""
        stream = connection.up if toxic.stream == "upstream" else connection.down
        if stream is None or not toxic.partial:
            return
        has = any(stage.toxic is toxic for stage in stream.stages)
        if not toxic.applies(connection.number):
            if has:
                self._unfit(connection, toxic)
        elif not has:
            # Stages that have outlived their toxic, or read for one, come before those of ours.
            behind = self._toxics[self._toxics.index(toxic) :]
            at = sum(stage.toxic not in behind for stage in stream.stages)
            stream.add(toxic.stage(stream), at)

    def _unfit(self, connection: Connection | Session, toxic: Toxic) -> None:
        for stream, stage in list(_stages(connection, toxic)):
            stream.take_out(stage)

    def _expire(self, toxic: Toxic) -> None:
        if toxic.timer is not None:
            toxic.timer.cancel()
            toxic.timer = None
        if toxic.ttl is not None:
            toxic.timer = self.loop.at(now() + toxic.ttl, lambda: self._expired(toxic))

    def _expired(self, toxic: Toxic) -> None:
        try:
            self.remove(toxic.name, "toxic-expired")
        except ProxyError:
            toxic.timer = self.loop.at(now() + _AGAIN, lambda: self._expired(toxic))


def _stages(
    connection: Connection | Session, toxic: Toxic
) -> Iterable[tuple[Stream | DatagramStream, Stage]]:
    for stream in (connection.up, connection.down):
        if stream is not None:
            for stage in stream.stages:
                if stage.toxic is toxic:
                    yield stream, stage
