"""A name server of the tests' own in a container's network, and questions from another."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any

import traffic
from traffic import TCP, UDP, End

from chaoskit.helpers import dns

KNOWN = "203.0.113.53"
"""What it answers to every question for an address of IPv4."""


class NameServer:
    """At port 53 of every address that the container has. asked: the names, in order."""

    def __init__(self, end: End) -> None:
        self.asked: list[str] = []
        for version in (4, 6):
            for kind in (UDP, TCP):
                made = end.socket(kind, version)
                made.settimeout(None)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if version == 6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(("" if version == 4 else "::", 53))
                if kind == TCP:
                    made.listen()
                threading.Thread(target=self._serve, args=(made, kind), daemon=True).start()

    def _serve(self, made: socket.socket, kind: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == UDP:
                    query, sender = made.recvfrom(65535)
                    if sender is None:
                        return
                    made.sendto(self._told(query), sender)
                    continue
                accepted, _ = made.accept()
                threading.Thread(target=self._talk, args=(accepted,), daemon=True).start()

    def _talk(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            accepted.settimeout(traffic.LONG)
            while query := message(accepted):
                told = self._told(query)
                accepted.sendall(struct.pack("!H", len(told)) + told)

    def _told(self, query: bytes) -> bytes:
        found = dns.question(query)
        assert found is not None
        self.asked.append(found[0])
        return dns.answer(query, address=KNOWN)


def message(connection: socket.socket) -> bytes:
    """The next message of a TCP connection; empty at its end."""
    head = connection.recv(2, socket.MSG_WAITALL)
    return connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL) if head else b""


class Asking:
    """A socket that asks one name server, again and again."""

    def __init__(self, end: End, server: str, kind: int = UDP) -> None:
        self.kind = kind
        self.socket = end.socket(kind, 6 if ":" in server else 4)
        self.socket.connect((server, 53))
        self._number = 0

    def ask(self, name: str, kind: int = dns.A, within: float = traffic.LONG) -> Any:
        """The address that it tells, `none`, `silence`, or the number of an error."""
        self._number += 1
        query = dns.ask(name, kind, self._number)
        self.socket.settimeout(within)
        try:
            if self.kind == TCP:
                self.socket.sendall(struct.pack("!H", len(query)) + query)
                told = message(self.socket)
            else:
                self.socket.send(query)
                told = self.socket.recv(65535)
        except TimeoutError:
            return "silence"
        assert told[:2] == query[:2] and told[2] & 0x80, "no answer to this question"
        if code := told[3] & 0x0F:
            return code
        if told[6:8] == b"\0\0":
            return "none"
        size = 16 if kind == dns.AAAA else 4
        return socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, told[-size:])


def asks(end: End, server: str, name: str, kind: int = UDP, of: int = dns.A, **more: Any) -> Any:
    asking = Asking(end, server, kind)
    try:
        return asking.ask(name, of, **more)
    finally:
        asking.socket.close()
