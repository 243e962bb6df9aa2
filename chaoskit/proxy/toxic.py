"""A toxic: what is done to the traffic of a link in one direction, by the settings it was given.

Each type is a dataclass of its attributes, in the units of Toxiproxy's interface (milliseconds,
KB/s of 1000 bytes, bytes), and makes a stage for each connection that it applies to.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import random
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from chaoskit.proxy.errors import ProxyError, bad_request
from chaoskit.proxy.stage import Direction, Stage

if TYPE_CHECKING:
    from chaoskit.proxy.link import Link
    from chaoskit.proxy.loop import Timer

STREAMS = ("upstream", "downstream")

_TYPES: Mapping[str, str] = {
    "noop": "delays:Noop",
    "latency": "delays:Latency",
    "slow_close": "delays:SlowClose",
    "loss": "delays:Loss",
    "bandwidth": "bandwidth:Bandwidth",
    "slicer": "slicer:Slicer",
    "limit_data": "endings:LimitData",
    "timeout": "endings:Timeout",
    "reset_peer": "endings:ResetPeer",
    "black_hole": "holes:BlackHole",
    "refuse": "holes:Refuse",
    "corrupt": "corrupt:Corrupt",
    "http_error": "http:HttpError",
    "http_delay": "http:HttpDelay",
}


class Toxic:
    """Base of all types. Subclasses are dataclasses whose fields are the attributes; a field with
    `metadata={"ours": True}` is no part of Toxiproxy's and only shown when it is set."""

    type: ClassVar[str]
    streams: ClassVar[tuple[str, ...]] = STREAMS
    protocols: ClassVar[tuple[str, ...]] = ("tcp", "udp")
    partial: ClassVar[bool] = True
    """Whether it can apply to a part of the connections."""

    name: str
    stream: str
    toxicity: float = 1.0
    ttl: float | None = None
    """Seconds after which it removes itself."""
    seed: int | None = None
    draws: int = 0
    """The seed that is used: its own, or one of the server's."""
    timer: Timer | None = None

    def stage(self, stream: Direction) -> Stage:
        """A new stage for one connection. Subclasses say which; Refuse has none."""
        raise NotImplementedError

    def problems(self) -> str | None:
        """What is wrong with the attributes as they are, or None."""
        return None

    def added(self, link: Link) -> None:
        """It is now in force on the link, beyond what its stages do."""

    def removed(self, link: Link) -> None:
        """It is in force no more."""

    def applies(self, number: int) -> bool:
        """Whether the connection of that number is one of those it applies to: decided once for
        each connection, and the same however often the toxicity is written."""
        if self.toxicity >= 1:
            return True
        # By the seed and the number alone: two toxics of one seed, one for each direction, choose
        # the same connections.
        told = f"{self.draws}/{number}".encode()
        # Not random.Random, which takes ten times as long: there may be thousands to decide on.
        drawn = int.from_bytes(hashlib.blake2b(told, digest_size=7).digest(), "big") / 2**56
        return drawn < self.toxicity

    def random(self, number: int) -> random.Random:
        """The source of chance for one connection; the same seed gives the same draws."""
        return random.Random(f"{self.draws}/{number}/{self.stream}/{self.type}")

    def show(self) -> dict[str, object]:
        """As JSON, in Toxiproxy's order."""
        shown: dict[str, object] = {
            "attributes": self.attributes(),
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": _plain(self.toxicity),
        }
        if self.ttl is not None:
            shown["ttl"] = _plain(self.ttl)
        if self.seed is not None:
            shown["seed"] = self.seed
        return shown

    def attributes(self) -> dict[str, object]:
        return {
            field.name: _plain(getattr(self, field.name))
            for field in _fields(self)
            if not field.metadata.get("ours") or getattr(self, field.name) != field.default
        }

    def changed_by(self, document: Mapping[str, object]) -> Toxic:
        """A copy with what the document says: attributes merged, toxicity and ttl set.
        Raises ProxyError 400 when that makes no sense."""
        given = {name.lower(): value for name, value in document.items()}
        new = copy.copy(self)
        if (toxicity := given.get("toxicity")) is not None:
            new.toxicity = _number("toxicity", toxicity)
        if (ttl := given.get("ttl")) is not None:
            new.ttl = _number("ttl", ttl)
        if (seed := given.get("seed")) is not None:
            if isinstance(seed, bool) or not isinstance(seed, int):
                raise bad_request("seed must be a whole number")
            new.seed = seed
        attributes = given.get("attributes")
        if attributes is not None:
            if not isinstance(attributes, Mapping):
                raise bad_request("attributes must be an object")
            new._merge(attributes)
        problem = (
            "toxicity must be between 0 and 1"
            if not 0 <= new.toxicity <= 1
            else "ttl must be more than 0 seconds"
            if new.ttl is not None and not 0 < new.ttl <= 1e9
            else f"toxicity of {self.type} must be 1"
            if not self.partial and new.toxicity != 1
            else new.problems()
        )
        if problem:
            raise bad_request(problem)
        return new

    def take(self, other: Toxic) -> None:
        """Become as the other one is; stages keep pointing at this one."""
        self.__dict__.update(other.__dict__)

    def _merge(self, attributes: Mapping[str, object]) -> None:
        fields = {field.name: field for field in _fields(self)}
        for name, value in attributes.items():
            field = fields.get(name.lower())
            if field is not None and value is not None:
                setattr(self, field.name, _checked(field.name, getattr(self, field.name), value))


def make(document: Mapping[str, object], protocol: str) -> Toxic:
    """The toxic that a decoded request describes. Raises ProxyError 400."""
    given = {name.lower(): value for name, value in document.items()}
    for name in ("name", "type", "stream"):
        if not isinstance(given.get(name) or "", str):
            raise bad_request(f"{name} must be a text")
    stream = str(given["stream"] if given.get("stream") is not None else "downstream")
    if stream.lower() not in STREAMS:
        raise ProxyError("stream was invalid, can be either upstream or downstream", 400)
    kind = str(given.get("type") or "")
    if kind not in _TYPES:
        raise ProxyError("invalid toxic type", 400)
    module, _, attribute = _TYPES[kind].partition(":")
    found: type[Toxic] = getattr(import_module(f"chaoskit.proxy.toxics.{module}"), attribute)
    toxic = found()
    toxic.stream = stream.lower()
    toxic.name = str(given.get("name") or "") or f"{kind}_{stream}"
    if toxic.stream not in found.streams:
        raise bad_request(f"{kind} works {' or '.join(found.streams)} only")
    if protocol not in found.protocols:
        raise bad_request(f"{kind} has no meaning for {protocol}")
    return toxic.changed_by(document)


def _fields(toxic: Toxic) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(toxic)  # type: ignore[arg-type]


def _checked(name: str, was: object, value: object) -> object:
    """The value, if it is of the kind of the one that it replaces."""
    path = f"attributes.{name}"
    match was:
        case bool():
            if not isinstance(value, bool):
                raise bad_request(f"{path} must be true or false")
            return value
        case int():
            if isinstance(value, bool) or not isinstance(value, int):
                raise bad_request(f"{path} must be a whole number")
            if abs(value) >= 2**63:
                raise bad_request(f"{path} is too large")
            return value
        case float():
            return _number(path, value)
        case str():
            if not isinstance(value, str):
                raise bad_request(f"{path} must be a text")
            return value
        case _:
            if not isinstance(value, Mapping) or not all(
                isinstance(item, str) for item in value.values()
            ):
                raise bad_request(f"{path} must be an object of texts")
            return dict(value)


def _number(path: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"{path} must be a number")
    if not abs(value) < 2**63:
        raise bad_request(f"{path} is too large")
    return float(value)


def _plain(value: object) -> object:
    """A whole number without its `.0`, as Go writes it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
