"""Real traffic between containers, sent by the test from within their networks.

A socket stays in the network in which it was opened, so everything is opened there by a thread and
used from here: nothing needs to be installed in an image.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from docker.models.containers import Container

from chaoskit.clock import until
from chaoskit.namespaces import in_network_of
from chaoskit.procfs import Process

R = TypeVar("R")
SHORT = 0.8
"""Seconds after which silence counts as silence: an answer takes less than a millisecond."""
LONG = 10.0
"""Seconds in which an answer comes on a busy machine."""
_SO_RCVBUFFORCE = 33
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


class End:
    """A container as one end of a conversation: it answers on every port that it is told to."""

    def __init__(self, container: Container) -> None:
        container.reload()
        self.container = container
        self.process = Process.at(container.attrs["State"]["Pid"])
        self._open: list[socket.socket] = []

    @property
    def name(self) -> str:
        return str(self.container.name)

    def address(self, version: int = 4) -> str:
        key = "IPAddress" if version == 4 else "GlobalIPv6Address"
        self.container.reload()
        networks = self.container.attrs["NetworkSettings"]["Networks"].values()
        return str(next(network[key] for network in networks if network[key]))

    def inside(self, work: Callable[[], R]) -> R:
        return in_network_of(self.process, work)

    def socket(self, kind: int, version: int = 4) -> socket.socket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        made = self.inside(lambda: socket.socket(family, kind))
        made.settimeout(LONG)
        self._open.append(made)
        return made

    def serve(self, *ports: int) -> None:
        """Echo on these ports, TCP and UDP, IPv4 and IPv6."""
        for port in ports:
            for version in (4, 6):
                for kind in (TCP, UDP):
                    made = self.socket(kind, version)
                    made.settimeout(None)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if version == 6:
                        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    made.bind(("" if version == 4 else "::", port))
                    if kind == TCP:
                        made.listen()
                    threading.Thread(target=_serve, args=(made, kind), daemon=True).start()

    def datagrams(self, version: int) -> tuple[socket.socket, tuple[Any, ...]]:
        """A socket for datagrams, and where it can be reached."""
        made = self.socket(UDP, version)
        made.bind(("", 0))
        return made, (self.address(version), made.getsockname()[1])

    def dial(self, other: str, port: int, within: float = LONG) -> socket.socket:
        """A TCP connection from here. Raises OSError."""
        made = self.socket(TCP, _version(other))
        made.settimeout(within)
        made.connect((other, port))
        made.settimeout(LONG)
        return made

    def asks(self, other: str, port: int = 80, kind: int = TCP, within: float = SHORT) -> str:
        """What a question gets: `answer`, `silence`, `refusal`, or `error` where it was sent."""
        made = self.socket(kind, _version(other))
        made.settimeout(within)
        try:
            made.connect((other, port))
            made.send(b"hello")
            assert made.recv(99) == b"hello"
        except TimeoutError:
            return "silence"
        except (ConnectionRefusedError, ConnectionResetError):
            return "refusal"
        except PermissionError:
            return "error"
        finally:
            made.close()
            self._open.remove(made)
        return "answer"

    def reaches(self, other: str, port: int = 80, kind: int = TCP) -> bool:
        """With the patience that a busy machine needs."""
        return until(lambda: self.asks(other, port, kind, 2.0) == "answer", LONG)

    def close(self) -> None:
        for made in self._open:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _serve(made: socket.socket, kind: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            if kind == UDP:
                data, sender = made.recvfrom(65536)
                if sender is None:  # It was shut down.
                    return
                made.sendto(data, sender)
            else:
                accepted, _ = made.accept()
                threading.Thread(target=_echo, args=(accepted,), daemon=True).start()


def _echo(accepted: socket.socket) -> None:
    with accepted, contextlib.suppress(OSError):
        while data := accepted.recv(65536):
            accepted.sendall(data)


def echoed(made: socket.socket, data: bytes = b"ping", within: float = LONG) -> bool:
    """Whether that comes back on a connection."""
    made.settimeout(within)
    try:
        made.sendall(data)
        got = b""
        while len(got) < len(data):
            if not (part := made.recv(65536)):
                return False
            got += part
    except TimeoutError:
        return False
    finally:
        made.settimeout(LONG)
    return got == data


def arrived(sender: socket.socket, receiver: socket.socket, to: tuple[Any, ...], count: int) -> int:
    """How many of so many datagrams come to the receiver; none fails where it is sent."""
    receiver.settimeout(0.5)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 * 2**20)
    came, sent = 0, threading.Event()

    def receive() -> None:
        nonlocal came
        last = False
        while not last:
            last = sent.is_set()  # After the end of the sender too it takes all that is there.
            with contextlib.suppress(TimeoutError):
                while True:
                    receiver.recv(2048)
                    came += 1

    thread = threading.Thread(target=receive)
    thread.start()
    for number in range(count):
        sender.sendto(b"x" * 64, to)
        if number % 50 == 49:
            time.sleep(0.002)  # Its buffer must not overflow.
    sent.set()
    thread.join()
    return came


def rate(sender: End, receiver: End, seconds: float) -> float:
    """Bytes a second that come through one connection, from its second second on."""
    listening = receiver.socket(TCP)
    listening.bind(("", 0))
    listening.listen()
    pushing = sender.dial(receiver.address(), listening.getsockname()[1])
    taking, _ = listening.accept()
    end = time.monotonic() + 1 + seconds

    def push() -> None:
        pushing.settimeout(0.2)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                pushing.send(b"x" * 65536)

    thread = threading.Thread(target=push)
    thread.start()
    begin, came = time.monotonic() + 1, 0
    taking.settimeout(0.2)
    while (at := time.monotonic()) < end:
        with contextlib.suppress(TimeoutError):
            part = len(taking.recv(262144))
            came += part if at >= begin else 0
    thread.join()
    # What is still on its way would be sent for as long as it takes.
    pushing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pushing.close()
    taking.close()
    return came / seconds
