"""The service behind every proxy: one epoll loop. The first byte of a connection says what it is:
B: take and throw away (MSG_TRUNC: nothing is copied); E: echo; T: note when each message came."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

MESSAGE = struct.Struct("<d56x")  # When it was sent, in a message of 64 bytes.


def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    sides: dict[int, list] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                for _ in range(256):
                    try:
                        side, _ = listener.accept()
                    except BlockingIOError:
                        break
                    side.setblocking(False)
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sides[side.fileno()] = [side, None, b"", []]
                    epoll.register(side.fileno(), select.EPOLLIN)
                continue
            entry = sides[number]
            side, kind = entry[0], entry[1]
            try:
                if kind is None:
                    kind = entry[1] = side.recv(1)
                    if not kind:
                        raise ConnectionResetError
                if kind == b"B":
                    ended = not side.recv(1 << 20, socket.MSG_TRUNC)
                else:
                    data = side.recv(65536)
                    ended = not data
                    if kind == b"E":
                        side.send(data)
                    else:
                        came = time.monotonic()
                        entry[2] += data
                        while len(entry[2]) >= MESSAGE.size:
                            (sent,) = MESSAGE.unpack(entry[2][: MESSAGE.size])
                            entry[2] = entry[2][MESSAGE.size :]
                            side.send(struct.pack("<d", came - sent))
            except BlockingIOError:
                continue
            except OSError:
                ended = True
            if ended:
                epoll.unregister(number)
                sides.pop(number)[0].close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
