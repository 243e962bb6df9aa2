"""What is asked of each proxy, by address. One process of its own for each measurement, so that
neither the proxy nor the service shares its interpreter."""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import threading
import time

from service import MESSAGE

Address = tuple[str, int]
PATIENCE = 2.0
"""Seconds after which connections that say nothing are given up as lost."""


def open_to(address: Address, first: bytes = b"") -> socket.socket:
    side = socket.create_connection(address, 10)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if first:
        side.sendall(first)
    return side


def bulk(address: Address, connections: int, seconds: float) -> dict[str, float]:
    """Bytes a second that could be sent, over all connections."""
    sides = [open_to(address, b"B") for _ in range(connections)]
    block = bytes(1 << 20)
    sent = [0] * connections
    began = time.monotonic()
    # What fills the buffers on the way is not counted.
    warm, end = began + seconds / 4, began + seconds

    def push(at: int) -> None:
        while (now := time.monotonic()) < end:
            took = sides[at].send(block)
            if now >= warm:
                sent[at] += took

    threads = [threading.Thread(target=push, args=(at,)) for at in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - warm
    for side in sides:
        side.close()
    return {"bytes": sum(sent) / took}


def pingpong(address: Address, count: int) -> dict[str, float]:
    """Microseconds of a 64-byte round trip."""
    side = open_to(address, b"E")
    message = bytes(64)
    times = []
    for number in range(count + count // 10):
        began = time.perf_counter()
        side.send(message)
        left = 64
        while left:
            left -= len(side.recv(left))
        if number >= count // 10:
            times.append(time.perf_counter() - began)
    side.close()
    times.sort()
    return {"p50": times[count // 2] * 1e6, "p99": times[int(count * 0.99)] * 1e6,
            "mean": sum(times) / count * 1e6}  # fmt: skip


def connects(address: Address, count: int, at_once: int = 16) -> dict[str, float]:
    """New connections a second: connect, one small exchange, close; so many at once."""
    poll = select.epoll()
    open_: dict[int, socket.socket] = {}
    started = done = lost = 0
    pauses = 0.0
    began = time.monotonic()
    while done < count:
        while len(open_) < at_once and started < count:
            side = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            side.connect_ex(address)
            open_[side.fileno()] = side
            poll.register(side.fileno(), select.EPOLLOUT)
            started += 1
        ready = poll.poll(PATIENCE)
        if not ready:
            lost += len(open_)
            done += len(open_)
            pauses += PATIENCE
            for number, side in open_.items():
                poll.unregister(number)
                side.close()
            open_.clear()
        for number, events in ready:
            side = open_[number]
            if events & select.EPOLLOUT and not events & select.EPOLLIN:
                side.send(b"Ex")
                poll.modify(number, select.EPOLLIN)
            else:
                assert side.recv(16) == b"x"
                poll.unregister(number)
                open_.pop(number).close()
                done += 1
    took = time.monotonic() - began - pauses
    return {"rate": (count - lost) / took, "lost": float(lost)}


def delays(address: Address, connections: int, seconds: float, every: float) -> dict[str, float]:
    """Milliseconds that messages took one way; each connection sends one each `every` seconds."""
    sides = [open_to(address, b"T") for _ in range(connections)]
    for side in sides:
        side.setblocking(False)
    got: list[float] = []
    sent = 0
    poll = select.epoll()
    by_number = {side.fileno(): side for side in sides}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    began = time.monotonic()
    gap = every / connections
    while True:
        now = time.monotonic()
        if now < began + seconds:
            while began + sent * gap <= now:
                sides[sent % connections].send(MESSAGE.pack(time.monotonic()))
                sent += 1
            wait = max(0.0, began + sent * gap - time.monotonic())
        else:
            if len(got) >= sent or now > began + seconds + 5:
                break
            wait = 0.1
        for number, _ in poll.poll(wait):
            data = by_number[number].recv(65536)
            got += struct.unpack(f"<{len(data) // 8}d", data[: len(data) // 8 * 8])
    for side in sides:
        side.close()
    times = sorted(got)[: len(got)]
    return {"p50": times[len(times) // 2] * 1e3, "p99": times[int(len(times) * 0.99)] * 1e3,
            "lost": float(sent - len(got))}  # fmt: skip


def timed(address: Address, size: int) -> dict[str, float]:
    """Milliseconds until so many bytes have come back through an echo."""
    side = open_to(address, b"E")
    data = bytes(size)
    began = time.monotonic()
    sender = threading.Thread(target=side.sendall, args=(data,))
    sender.start()
    left = size
    while left:
        left -= len(side.recv(65536))
    took = time.monotonic() - began
    sender.join()
    side.close()
    return {"ms": took * 1e3}


def idle(address: Address, connections: int) -> dict[str, float]:
    """Open so many, say so, and keep them until a line comes in. Clients have several addresses:
    one has ports for about 28,000 connections."""
    sides = []
    for number in range(connections):
        side = socket.socket()
        side.bind((f"127.0.0.{2 + number % 8}", 0))
        side.connect(address)
        side.send(b"E")
        sides.append(side)
    print("open", flush=True)
    sys.stdin.readline()
    for side in sides:
        side.close()
    return {}


if __name__ == "__main__":
    name, host, port, *rest = sys.argv[1:]
    numbers = [float(one) if "." in one else int(one) for one in rest]
    print(json.dumps(globals()[name]((host, int(port)), *numbers)))
