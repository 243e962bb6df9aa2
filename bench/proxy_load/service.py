"""The service behind every proxy: one process, one epoll loop.

The first byte of a connection says what it wants:
  B  take and throw away (MSG_TRUNC: the kernel copies nothing), and count
  C  for each byte, how many bytes all B connections have brought, with the time
  E  echo
  T  for each message of 64 bytes that begins with a time, how long ago that was
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

MESSAGE = struct.Struct("<q56x")  # CLOCK_MONOTONIC nanoseconds, filled up to 64 bytes.
TOOK = struct.Struct("<q")
COUNT = struct.Struct("<qq")  # Bytes, CLOCK_MONOTONIC nanoseconds.
BULK = 1 << 20


class Service:
    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        self.sides: dict[int, socket.socket] = {}
        self.kinds: dict[int, bytes] = {}
        self.begun: dict[int, bytes] = {}  # The part of a message that came so far.
        self.buffer = bytearray(BULK)
        self.taken = 0

    def run(self) -> None:
        listener = self.listener.fileno()
        while True:
            for number, _ in self.epoll.poll():
                if number == listener:
                    self.accept()
                    continue
                try:
                    over = self.serve(number)
                except BlockingIOError:
                    continue
                except OSError:
                    over = True
                if over:
                    self.epoll.unregister(number)
                    self.kinds.pop(number, None)
                    self.begun.pop(number, None)
                    self.sides.pop(number).close()

    def accept(self) -> None:
        for _ in range(256):
            try:
                side, _ = self.listener.accept()
            except BlockingIOError:
                return
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sides[side.fileno()] = side
            self.epoll.register(side.fileno(), select.EPOLLIN)

    def serve(self, number: int) -> bool:
        """Whether the connection is over."""
        side = self.sides[number]
        kind = self.kinds.get(number)
        if kind is None:
            kind = side.recv(1)
            if not kind:
                return True
            self.kinds[number] = kind
        if kind == b"B":
            size = side.recv_into(self.buffer, BULK, socket.MSG_TRUNC)
            self.taken += size
            return not size
        data = side.recv(65536)
        if not data:
            return True
        if kind == b"E":
            side.send(data)
        elif kind == b"C":
            side.send(COUNT.pack(self.taken, time.monotonic_ns()) * len(data))
        else:
            came = time.monotonic_ns()
            data = self.begun.pop(number, b"") + data
            whole = len(data) // MESSAGE.size * MESSAGE.size
            side.send(b"".join(TOOK.pack(came - sent)
                               for (sent,) in MESSAGE.iter_unpack(data[:whole])))  # fmt: skip
            if whole < len(data):
                self.begun[number] = data[whole:]
        return False


if __name__ == "__main__":
    service = Service(int(sys.argv[1]))
    print("ready", flush=True)
    service.run()
