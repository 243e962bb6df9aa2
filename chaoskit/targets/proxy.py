"""Links of a proxy server as targets: of one that runs, ours or Toxiproxy, or of our own for the
run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone, Refused
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change
from chaoskit.model.impairment import Impairment
from chaoskit.model.target import Claim, Selector, Target
from chaoskit.model.units import Json
from chaoskit.model.url import problem_with
from chaoskit.targets import toxics
from chaoskit.targets.link_probe import delayed
from chaoskit.targets.own_proxy import Link, OwnProxyTarget
from chaoskit.targets.proxy_client import (
    TIMEOUT,
    Client,
    NoServer,
    is_loopback,
    keeper_of,
    normal_url,
)

DEFAULT_URL = "http://127.0.0.1:8474"
GRACE = 30.0
"""Seconds after the run's last moment in which its undo is over; then a toxic of ours goes."""
LONGEST_PROBE = 5.0
"""Seconds of delay that are waited for to see them; longer ones are read back only."""
SILENT = 5.0
"""Seconds for which a server that did not answer is not asked for targets again: it would cost
every step of a plan as long."""
_silent: dict[str, float] = {}
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a link's server is: at a URL, or (own) a process that stands for the run. keeper: of a
    Toxiproxy, whose toxics do not end by themselves; see `Client`."""

    url: str = ""
    ours: bool = True
    own: Link | None = None
    keeper: str | None = None


class ProxyTarget(Target):
    """One link. Gives the capability `HasLink`.

    name: as the server calls it; listen: where it listens; protocol: tcp or udp.
    """

    kind = "proxy"

    def __init__(
        self, server: Server, name: str, listen: str, protocol: str, binding: Binding
    ) -> None:
        self.server = server
        self.name = name
        self.listen = listen
        self.protocol = protocol
        self.binding = binding
        self._own = OwnProxyTarget(server.own, binding) if server.own else None
        self._client = self._own.client if self._own else Client(server.url, keeper=server.keeper)

    @property
    def key(self) -> str:
        return f"link {self.server.own or f'{self.server.url} {self.name}'}"

    @property
    def label(self) -> str:
        if self.server.own:
            return f"link {self.server.own}"
        return f"link {self.name} of {'' if self.server.ours else 'Toxiproxy '}{self.server.url}"

    def there(self) -> bool:
        try:
            self._client.link(self.name)
        except Gone:
            return False
        except ChaoskitError:
            return True  # It does not answer; that is no proof that it is gone.
        return True

    def claim(self) -> Claim:
        """A link is also known by where it listens: one server may have several URLs."""
        host = urlsplit(self.server.url).hostname or "127.0.0.1"
        where = "" if is_loopback(host) else f" at {host}"
        # One name for each place here too.
        listen = self.listen.replace("localhost:", "127.0.0.1:")
        return Claim(frozenset({self.key, f"{self.protocol} {listen}{where}"}))

    def protected(self, allowed_users: Sequence[str]) -> str | None:
        return None

    def ref(self) -> Json:
        return {
            "url": self.server.url,
            "ours": self.server.ours,
            "own": dict(asdict(self.server.own)) if self.server.own else None,
            "keeper": self.server.keeper,
            "name": self.name,
            "listen": self.listen,
            "protocol": self.protocol,
        }

    @classmethod
    def restore(cls, ref: Json, binding: Binding) -> ProxyTarget:
        known: Any = ref
        own = Link(**known["own"]) if known["own"] else None
        server = Server(known["url"], known["ours"], own, known.get("keeper"))
        return cls(server, known["name"], known["listen"], known["protocol"], binding)

    def cannot(self, what: Impairment) -> str | None:
        if self._own is not None and (taken := self._own.port_taken()):
            return taken
        if self.server.own is None and "/" in self.name:
            return "a link with / in its name cannot be asked for"
        closes = what.kind == "refuse" and not self.server.ours  # By disabling it.
        if self.server.own is None and not closes and not self._enabled():
            return "it is disabled, so nothing passes that could be hurt"
        return toxics.why_not(what, ours=self.server.ours, protocol=self.protocol)

    def remarks(self, what: Impairment) -> tuple[str, ...]:
        found = toxics.remarks(what, ours=self.server.ours)
        if self._own is None or self._own.alive():
            return found
        started = (
            "chaoskit starts a proxy for it before the steady state is read, and ends it after "
            f"the verification: `python {' '.join(self._own.words()[1:4])}`, on {self.listen}"
        )
        return (started, *filter(None, [self._own.upstream_silent()]), *found)

    def lets_go(self) -> bool:
        return self.server.ours

    def impairing(self, what: Impairment) -> Change:
        if what.kind == "refuse" and not self.server.ours:
            key = f"{self.key} {toxics.ENABLED}"
            return Change(key, self.holds(key), False)
        name = f"{self.binding.mark}-{what.kind}-{what.direction}"
        return Change(f"{self.key} {name}", None, toxics.seen(self._toxic(what, name)))

    def holds(self, key: str) -> Json:
        name = self._cell(key)
        if name == toxics.ENABLED:
            return bool(self._client.link(self.name).get("enabled"))
        found = self._client.toxic(self.name, name)
        return None if found is None else toxics.seen(found)

    def impair(self, what: Impairment, change: Change) -> None:
        name = self._cell(change.key)
        if name == toxics.ENABLED:
            self._client.enable(self.name, False)
            return
        # One of this name can only be ours: a request that was heard and not answered.
        if self.holds(change.key) == change.put:
            return
        toxic = self._toxic(what, name)
        if self.server.ours:
            left = (self.binding.ends_at or now()) - now() + GRACE
            toxic |= {"ttl": round(left, 3), "seed": _seed(self.binding)}
        self._client.add(self.name, toxic)

    def relieve(self, change: Change) -> None:
        name = self._cell(change.key)
        if name == toxics.ENABLED:
            self._client.enable(self.name, bool(change.was))
        else:
            self._client.remove(self.name, name)

    def shows(self, what: Sequence[Impairment]) -> bool | None:
        """A uniform delay, on a server of ours on this machine (Toxiproxy does not delay the end
        of a stream); and that a link which somebody disabled is not impaired."""
        link = self._client.link(self.name)
        closed = not self.server.ours and any(one.kind == "refuse" for one in what)
        if not closed and not link.get("enabled"):
            return False  # Nothing passes, so nothing is impaired, whatever the server shows.
        ours = [
            t
            for t in link.get("toxics") or ()
            if str(t["name"]).startswith(f"{self.binding.mark}-")
        ]
        if any(toxic.get("gave_up") for toxic in ours):
            return False  # Its pattern takes too long, so it picks no requests.
        if not (self.server.ours and self._client.local and self.protocol == "tcp"):
            return None
        if any(
            one.kind != "latency" or one.toxicity < 1 or one.values["distribution"] != "uniform"
            for one in what
        ):
            return None
        least = sum(max(0.0, one.number("delay") - one.number("jitter")) for one in what)
        if not 0 < least <= LONGEST_PROBE:
            return None
        return delayed(self.listen, least, self.binding.cancel)

    def _enabled(self) -> bool:
        return bool(self._client.link(self.name).get("enabled"))

    def _toxic(self, what: Impairment, name: str) -> dict[str, Json]:
        return toxics.toxic_for(what, name, ours=self.server.ours)

    def _cell(self, key: str) -> str:
        """The last word, after the link's."""
        return key.rpartition(" ")[2]


def _seed(binding: Binding) -> int:
    """Two steps of a run do not draw alike."""
    told = hashlib.sha256(f"{binding.seed}:{binding.step}".encode()).digest()
    return int.from_bytes(told[:4], "big")


@dataclass(frozen=True)
class ProxySelector(Selector):
    """Links through a fault proxy: of a server that runs, or of one that stands for the run."""

    name: str | None = field(
        default=None,
        metadata={"doc": "the link's name on a server that runs; all when absent", "seen": True},
    )
    url: str | None = field(
        default=None,
        metadata={
            "doc": f"that server, ours or Toxiproxy; {DEFAULT_URL} when absent",
            "seen": True,
        },
    )
    listen: str | None = field(
        default=None,
        metadata={"doc": "host:port where chaoskit's own proxy listens in the run", "seen": True},
    )
    upstream: str | None = field(
        default=None, metadata={"doc": "host:port where that own proxy leads", "seen": True}
    )
    protocol: Literal["tcp", "udp"] = field(
        default="tcp", metadata={"doc": "of the own proxy; a server that runs knows its links'"}
    )
    kind = "proxy"
    target = ProxyTarget

    def problems(self) -> list[tuple[str, str]]:
        return list(self._problems())

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.listen is None and self.upstream is None:
            if self.url is not None and (told := problem_with(self.url)):
                yield "url", told
            if self.name == "":
                yield "name", "is empty"
            return
        for name in ("name", "url"):
            if getattr(self, name) is not None:
                yield name, "a proxy for the run has listen and upstream, and no name and no url"
        for name in ("listen", "upstream"):
            given = getattr(self, name)
            if given is None:
                yield "", f"the key {name!r} is missing: a proxy for the run needs both"
            elif not (found := _ADDRESS.fullmatch(given)) or not 0 < int(found[2]) < 65536:
                yield name, f"expected host:port, found {given!r}"
        if self.listen is not None and self.listen == self.upstream:
            yield "upstream", "a link that leads to where it listens would go round and round"

    @property
    def own(self) -> Link | None:
        if self.listen is None or self.upstream is None:
            return None
        return Link(self.listen, self.upstream, self.protocol)

    def stands_on(self, binding: Binding) -> tuple[str, Target] | None:
        return ("own-proxy", OwnProxyTarget(self.own, binding)) if self.own else None

    def find(self, binding: Binding) -> list[Target]:
        if self.own is not None:
            server = Server(own=self.own)
            return [ProxyTarget(server, self.own.listen, self.own.listen, self.protocol, binding)]
        url = normal_url(self.url or DEFAULT_URL)
        client = Client(url)
        began = now()
        if began - _silent.get(url, -SILENT) < SILENT:
            raise Refused(f"the proxy server at {url} has just not answered an earlier step")
        try:
            ours = "chaoskit" in client.server()
            links = client.links()
        except NoServer as error:
            listen = urlsplit(url).netloc
            raise Refused(f"{error}; start one by `chaoskit proxy --listen {listen}`") from error
        except ChaoskitError as error:
            if now() - began >= TIMEOUT:
                _silent[url] = now()
            raise Refused(str(error)) from error
        server = Server(url, ours, keeper=None if ours else keeper_of(url))
        names = [str(link.get("name")) for link in links]
        if self.name is not None and self.name not in names:
            raise Refused(
                f"there is no link {self.name} at {url}; there are: {', '.join(names) or 'none'}"
            )
        return [
            ProxyTarget(server, str(link["name"]), str(link["listen"]), _protocol(link), binding)
            for link in links
            if self.name is None or link.get("name") == self.name
        ]

    def describe(self) -> str:
        if self.own is not None:
            return f"link {self.own}"
        at = "" if self.url is None else f" of {normal_url(self.url)}"
        return f"link {self.name}{at}" if self.name is not None else f"any link{at}"


def _protocol(link: Mapping[str, Any]) -> str:
    return "udp" if link.get("protocol") == "udp" else "tcp"


def leftover_toxics(
    url: str, unseen: Callable[[str], None]
) -> list[tuple[str, str, Callable[[], None]]]:
    """Every toxic on that server that a run has placed: its name, its link, and what removes it.
    None where there is no server; unseen: told when there is one that does not answer."""
    client = Client(url)
    try:
        return [
            (name, str(link["name"]), partial(client.remove, link["name"], name))
            for link in client.links()
            for toxic in link.get("toxics") or []
            if (name := str(toxic.get("name"))).startswith("chaoskit-")
        ]
    except NoServer:
        return []
    except ChaoskitError as error:
        unseen(f"toxics: {error}")
        return []
