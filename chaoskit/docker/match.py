"""Which containers are meant: the keys that a target and the `docker` probe share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from chaoskit.docker.client import Daemon, daemon, where

PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_SHORT_ID = re.compile(r"[0-9a-f]{12,64}")


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@dataclass(frozen=True)
class ContainerMatch:
    """Containers by what they are; several keys mean and."""

    name: str | None = field(default=None, metadata=_doc("its name; * and ? stand for anything"))
    label: str | tuple[str, ...] | None = field(
        default=None, metadata=_doc("a label, or several: `app=cart`, or `app` with any value")
    )
    image: str | None = field(
        default=None, metadata=_doc("its image: `redis`, `redis:7`, or an image id")
    )
    compose_project: str | None = field(
        default=None, metadata=_doc("the project that compose made")
    )
    compose_service: str | None = field(default=None, metadata=_doc("the service in that project"))
    network: str | None = field(default=None, metadata=_doc("a Docker network that it is in"))
    id: str | None = field(default=None, metadata=_doc("its id, or how that begins"))
    host: str | None = field(
        default=None,
        metadata=_doc("the daemon: unix://, tcp:// or ssh://; DOCKER_HOST unless said"),
    )

    def problems(self) -> list[tuple[str, str]]:
        found = []
        named = [f.name for f in fields(ContainerMatch) if f.name != "host"]
        if all(getattr(self, name) is None for name in named):
            keys = ", ".join(name.replace("_", "-") for name in named)
            found.append(("", f"say which containers: {keys}"))
        found += [(name, "is empty") for name in named if getattr(self, name) in ("", ())]
        if self.host is not None and "://" not in self.host:
            found.append(("host", "expected unix://, tcp:// or ssh://"))
        return found

    def daemon(self) -> Daemon:
        return daemon(where(self.host))

    def matching(self) -> list[dict[str, Any]]:
        """Those that match, running or not, as the daemon's list tells of them, by name. Raises
        NoDaemon."""
        found = [told for told in self.daemon().containers() if self.matches(told)]
        return sorted(found, key=name_of)

    def matches(self, told: Mapping[str, Any]) -> bool:
        return all(self._matches(told))

    def _matches(self, told: Mapping[str, Any]) -> Iterator[bool]:
        labels: Mapping[str, str] = told.get("Labels") or {}
        if self.name is not None:
            # Its own: a link gives it a name that begins with that of another container.
            yield fnmatchcase(name_of(told), self.name)
        for label in (self.label,) if isinstance(self.label, str) else self.label or ():
            key, equals, value = label.partition("=")
            yield key in labels and (not equals or labels[key] == value)
        if self.image is not None:
            yield _is_image(self.image, str(told.get("Image")), str(told.get("ImageID")))
        if self.compose_project is not None:
            yield labels.get(PROJECT) == self.compose_project
        if self.compose_service is not None:
            yield labels.get(_SERVICE) == self.compose_service
        if self.network is not None:
            yield self.network in networks_of(told)
        if self.id is not None:
            yield str(told["Id"]).startswith(self.id)

    def written(self) -> str:
        """The keys as the file has them: `compose-service=web`."""
        pairs = ((f.name.replace("_", "-"), getattr(self, f.name)) for f in fields(ContainerMatch))
        return " ".join(
            f"{key}={','.join(value) if isinstance(value, tuple) else value}"
            for key, value in pairs
            if value is not None
        )


def name_of(told: Mapping[str, Any]) -> str:
    """Its own name: links give it others, with a slash in them."""
    names = [str(name).lstrip("/") for name in told.get("Names") or []]
    return next((name for name in names if "/" not in name), str(told["Id"])[:12])


def networks_of(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its networks, by name, with its addresses in each."""
    found: Mapping[str, Any] = (told.get("NetworkSettings") or {}).get("Networks") or {}
    return found


def _is_image(wanted: str, image: str, number: str) -> bool:
    """`redis` is any tag of it, from any registry's default place; an id may be cut short, but not
    so far that it could be a name: `cafe`."""
    if image == wanted:
        return True
    if wanted.startswith("sha256:") or _SHORT_ID.fullmatch(wanted):
        return number.removeprefix("sha256:").startswith(wanted.removeprefix("sha256:"))
    image = image.removeprefix("docker.io/").removeprefix("library/").removeprefix("localhost/")
    last = wanted.rpartition("/")[2]
    if ":" in last or "@" in last:
        return image == wanted
    return image.partition("@")[0] == wanted or image.rpartition(":")[0] == wanted
