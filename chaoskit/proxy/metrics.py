"""What the proxy counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from chaoskit.version import __version__

if TYPE_CHECKING:
    from chaoskit.proxy.link import Link
    from chaoskit.proxy.server import Server
    from chaoskit.proxy.stream import Meter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Family(NamedTuple):
    name: str
    kind: str
    help: str
    samples: Iterable[tuple[Mapping[str, str], int]]


def text(server: Server) -> str:
    """All metrics. Those named `toxiproxy_` are Toxiproxy's own, with its labels."""
    lines: list[str] = []
    for family in _families(server):
        lines += f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"
        lines += (f"{family.name}{_labels(labels)} {value}" for labels, value in family.samples)
    return "\n".join(lines) + "\n"


def _families(server: Server) -> Iterator[_Family]:
    links = list(server.links.values())
    yield _Family(
        "toxiproxy_proxy_received_bytes_total",
        "counter",
        "Bytes that came in, by the direction in which they went.",
        [
            (_directed(link, direction), meter.received)
            for link in links
            for direction, meter in _meters(link)
        ],
    )
    yield _Family(
        "toxiproxy_proxy_sent_bytes_total",
        "counter",
        "Bytes that were passed on, by the direction in which they went.",
        [
            (_directed(link, direction), meter.sent)
            for link in links
            for direction, meter in _meters(link)
        ],
    )
    per_proxy: tuple[tuple[str, str, str, Iterable[int]], ...] = (
        (
            "connections",
            "gauge",
            "Connections that are open.",
            (link.open for link in links),
        ),
        (
            "connections_total",
            "counter",
            "Connections that were accepted.",
            (link.counters.accepted for link in links),
        ),
        (
            "refused_total",
            "counter",
            "Connections that were accepted in vain: no upstream answered, or there was no room.",
            (link.counters.refused for link in links),
        ),
        ("toxics", "gauge", "Toxics in force.", (len(link.toxics()) for link in links)),
        ("enabled", "gauge", "1 while the proxy listens.", (int(link.enabled) for link in links)),
    )
    for name, kind, told, values in per_proxy:
        samples = [({"proxy": link.name}, value) for link, value in zip(links, values, strict=True)]
        yield _Family(f"chaoskit_proxy_{name}", kind, told, samples)
    yield _Family(
        "chaoskit_proxy_memory_bytes",
        "gauge",
        "Bytes on their way that are held in memory.",
        [({}, server.memory.used)],
    )
    yield _Family(
        "chaoskit_proxy_build_info",
        "gauge",
        "Always 1: the versions are in the labels.",
        [({"version": __version__, "toxiproxy": server.version}, 1)],
    )


def _meters(link: Link) -> tuple[tuple[str, Meter], tuple[str, Meter]]:
    return ("upstream", link.counters.up), ("downstream", link.counters.down)


def _directed(link: Link, direction: str) -> dict[str, str]:
    return {
        "direction": direction,
        "proxy": link.name,
        "listener": link.listen,
        "upstream": link.upstream,
    }


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
