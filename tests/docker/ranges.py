"""The networks of one daemon: two on one machine would both give out the first free one."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

import pytest


class Range(NamedTuple):
    """Of IPv4, half of it is given out by the daemon itself; the other half is for tests that
    configure a subnet."""

    number: int
    hold: socket.socket

    @property
    def auto(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"10.{200 + self.number}.0.0/17")

    @property
    def all(self) -> list[str]:
        return [f"10.{200 + self.number}.0.0/16", f"fdc4:a05:{self.number:x}::/48"]

    def subnet(self, count: int) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"10.{200 + self.number}.{128 + count}.0/24")

    def subnet6(self, count: int) -> ipaddress.IPv6Network:
        return ipaddress.IPv6Network(f"fdc4:a05:{self.number:x}:{count:x}::/64")


class Network(NamedTuple):
    name: str
    id: str
    subnets: list[str]

    @property
    def bridge(self) -> str:
        """What it is called on the host."""
        return f"br-{self.id[:12]}"


def free_range() -> Range:
    """Held by a socket, which is gone with the last process that has it."""
    for number in range(32):
        hold = socket.socket(socket.AF_UNIX)
        try:
            hold.bind(f"\0chaoskit-tests-networks-{number}")
        except OSError:
            hold.close()
            continue
        return Range(number, hold)
    pytest.fail("32 daemons of tests run on this machine already")
