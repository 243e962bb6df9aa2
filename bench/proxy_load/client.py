"""What is asked of each proxy: `client.py WHAT PROXY-PORT SERVICE-PORT NUMBERS...`, answers JSON.

A process of its own for each measurement, so that neither proxy nor service shares its interpreter.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

from service import COUNT, MESSAGE, TOOK

BLOCK = 1 << 20
ADDRESSES = 8
"""Addresses that idle clients come from: one alone has ports for about 28,000 connections."""


def opened(port: int, first: bytes = b"") -> socket.socket:
    side = socket.create_connection(("127.0.0.1", port), 10)
    side.settimeout(30)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    side.sendall(first)
    return side


def exactly(side: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = side.recv(size - len(data))
        if not piece:
            raise SystemExit("the connection ended too early")
        data += piece
    return data


def bulk(port: int, service: int, connections: int, seconds: float) -> dict[str, float]:
    """Bytes a second that arrive, counted by the service when the first quarter is over: what
    fills the buffers on the way does not count. Sent by send(2) of 1 MiB, as most programs do;
    sendfile(2) was measured slower here, its pages are small."""
    block = bytes(BLOCK)
    counter = opened(service, b"C")
    sides = [opened(port, b"B") for _ in range(connections)]
    for side in sides:
        side.setblocking(True)
    stopped = False

    def push(side: socket.socket) -> None:
        try:
            while not stopped:
                side.send(block)
        except OSError:
            pass  # It is over: the other thread has closed it.

    def count() -> tuple[int, int]:
        counter.send(b"?")
        return COUNT.unpack(exactly(counter, COUNT.size))

    threads = [threading.Thread(target=push, args=(side,), daemon=True) for side in sides]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 4)
    before, since = count()
    time.sleep(seconds)
    after, until = count()
    stopped = True
    for side in sides:
        side.shutdown(socket.SHUT_RDWR)
    return {"rate": (after - before) / (until - since) * 1e9}


def pingpong(port: int, service: int, count: int) -> dict[str, float]:
    """Microseconds of a 64-byte round trip; the first tenth warms up."""
    side = opened(port, b"E")
    message = bytes(64)
    times = []
    for number in range(-(count // 10), count):
        began = time.perf_counter_ns()
        side.send(message)
        exactly(side, 64)
        if number >= 0:
            times.append((time.perf_counter_ns() - began) / 1e3)
    return spread(times)


def connects(port: int, service: int, count: int, at_once: int) -> dict[str, float]:
    """New connections a second: connect, one small exchange, close; so many at once."""
    poll = select.epoll()
    open_: dict[int, socket.socket] = {}
    started = done = 0
    began = time.monotonic()
    while done < count:
        while len(open_) < at_once and started < count:
            side = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            side.connect_ex(("127.0.0.1", port))
            open_[side.fileno()] = side
            poll.register(side.fileno(), select.EPOLLOUT)
            started += 1
        for number, events in poll.poll(20) or [(-1, 0)]:
            if number < 0:
                raise SystemExit("a connection does not answer")
            side = open_[number]
            if events & select.EPOLLIN:
                if side.recv(16) != b"x":
                    raise SystemExit("a connection was ended")
                poll.unregister(number)
                open_.pop(number).close()
                done += 1
            elif events & select.EPOLLOUT:
                side.send(b"Ex")
                poll.modify(number, select.EPOLLIN)
            else:
                raise SystemExit("a connection was refused")
    return {"rate": count / (time.monotonic() - began)}


def delays(
    port: int, service: int, connections: int, seconds: float, every: float
) -> dict[str, float]:
    """Microseconds that messages took one way; each connection sends one each `every` seconds.
    They are spread evenly over the time, so that none waits for another."""
    poll = select.epoll()
    sides = [opened(port, b"T") for _ in range(connections)]
    by_number = {side.fileno(): side for side in sides}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    time.sleep(0.3)
    took: list[float] = []
    sent = 0
    gap = every / connections
    began = time.monotonic()
    while len(took) < sent or time.monotonic() < began + seconds:
        now = time.monotonic()
        if now > began + seconds + 10:
            raise SystemExit("messages got lost")
        wait = 0.5
        if now < began + seconds:
            while began + sent * gap <= now:
                sides[sent % connections].send(MESSAGE.pack(time.monotonic_ns()))
                sent += 1
            wait = max(0.0, began + sent * gap - time.monotonic())
        for number, _ in poll.poll(wait):
            data = exactly(by_number[number], TOOK.size)
            took.append(TOOK.unpack(data)[0] / 1e3)
    return spread(took)


def paced(port: int, service: int, size: int) -> dict[str, float]:
    """Milliseconds until so many bytes have arrived at the service."""
    counter = opened(service, b"C")

    def count() -> tuple[int, int]:
        counter.send(b"?")
        return COUNT.unpack(exactly(counter, COUNT.size))

    side = opened(port, b"B")
    time.sleep(0.1)
    before, _ = count()
    began = time.monotonic_ns()
    sender = threading.Thread(target=side.sendall, args=(bytes(size),))
    sender.start()
    while True:
        arrived, at = count()
        if arrived - before >= size:
            break
        if at - began > 20e9:
            raise SystemExit("it does not arrive")
        time.sleep(0.0005)
    sender.join()
    return {"ms": (at - began) / 1e6}


def idle(port: int, service: int, connections: int) -> dict[str, float]:
    """Open so many, say so, and keep them until a line comes in."""
    sides = []
    began = time.monotonic()
    for number in range(connections):
        side = socket.socket()
        side.settimeout(20)
        # The port is chosen at connect: the same one may serve several destinations.
        side.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        side.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
        side.connect(("127.0.0.1", port))
        side.send(b"Ex")
        sides.append(side)
    for side in sides:  # Each has reached the service and has an answer.
        exactly(side, 1)
    print("open", flush=True)
    sys.stdin.readline()
    for side in sides:
        side.close()
    return {"seconds": time.monotonic() - began}


def spread(times: list[float]) -> dict[str, float]:
    times.sort()
    most = len(times) - 1
    return {"p50": times[most // 2], "p99": times[round(most * 0.99)],
            "least": times[0], "most": times[most], "mean": sum(times) / len(times)}  # fmt: skip


KINDS: dict[str, Callable[..., dict[str, float]]] = {
    "bulk": bulk, "pingpong": pingpong, "connects": connects,
    "delays": delays, "paced": paced, "idle": idle,
}  # fmt: skip


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    numbers = [float(one) if "." in one else int(one) for one in rest]
    print(json.dumps(KINDS[what](*numbers)))
