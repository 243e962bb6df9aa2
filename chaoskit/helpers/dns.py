"""Answers DNS queries in a target's network in place of its resolvers: wrongly, late or with an
error for some names; what is asked of all others it asks the resolver that was meant.

    dns.py MARK DEADLINE PLAN

It ends when its standard input closes (a pipe that only the runner holds), when the target ends
(a descriptor says so), when CLOCK_MONOTONIC reaches DEADLINE, or on any signal; and in ending
becomes an nft that takes away the table that leads queries here, for without us they would lead
nowhere. MARK is there so that it can be found. PLAN is JSON:

    nft, table       the program, and the table that goes with us
    target           the descriptor that can be read when the target has ended
    ends             of each resolver: its address, `udp` and `tcp`, descriptors of our sockets for
                     it, and `port`, which they have
    names            whom it is about: `api.example`, `*.internal` (all below), `*`
    answer           {"wrong": ADDRESS}, {"slow": SECONDS}, or {"failing": how}

Nothing is kept: no name, no answer. What we make up lives for 0 seconds, so nobody else keeps it.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

PORT = 53
SOCKET_MARK = 0x6B616F74
"""SO_MARK of what we ask ourselves: the table does not lead that here."""
A, AAAA = 1, 28
TRANSFERS = (251, 252)
"""Types of questions that are answered in several messages: IXFR, AXFR."""
SERVFAIL = 2
CODES = {"nxdomain": 3, "servfail": SERVFAIL}
"""How a name server fails, and what it says then."""
PATIENCE = 10.0
"""Seconds that a resolver has to answer; whoever asked has given up by then, or asks again."""
IDLE = 60.0
"""Seconds after which a silent connection is closed."""
MOST = 2000
"""Queries that wait at the same time; one more is lost, as in a resolver that is too busy."""


def question(query: bytes) -> tuple[str, int, int] | None:
    """The name that is asked for in small letters, the type, and where the question ends; None for
    what is no plain query."""
    if len(query) < 17 or query[2] & 0xF8 or query[4:6] != b"\0\1":
        return None
    labels, at = [], 12
    while at < len(query) and (length := query[at]):
        if length > 63:
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    if at + 5 > len(query):
        return None
    return ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big"), at + 5


def answer(query: bytes, code: int = 0, address: str = "") -> bytes:
    """The answer to a query (see `question`): an error, or that address where its kind was asked
    for and else that there is none."""
    found = question(query)
    assert found is not None
    _, kind, end = found
    data = b""
    if address:
        family, its_kind = (socket.AF_INET6, AAAA) if ":" in address else (socket.AF_INET, A)
        data = socket.inet_pton(family, address) if kind == its_kind else b""
    # A response, to what was asked, recursion desired as it was, recursion available.
    flags = bytes([0x80 | query[2] & 0x01, 0x80 | code])
    head = query[:2] + flags + struct.pack("!HHHH", 1, bool(data), 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data if data else b""
    return head + query[12:end] + record


def ask(name: str, kind: int = A, number: int = 0x6368) -> bytes:
    """A query for that name."""
    labels = (part.encode("latin-1") for part in name.split(".") if part)
    inside = b"".join(bytes([len(label)]) + label for label in labels)
    return (
        struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0)
        + inside
        + struct.pack("!BHH", 0, kind, 1)
    )


def meant(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is about that name."""
    for pattern in patterns:
        pattern = pattern.lower().removesuffix(".")
        if pattern in ("*", name) or (pattern[:2] == "*." and name.endswith(pattern[1:])):
            return True
    return False


class Verdict:
    """What is done with a query. made: the answer, if it is ours. silent: there is none. late:
    seconds to wait before the resolver is asked."""

    def __init__(self, query: bytes, names: Sequence[str], how: dict[str, Any]) -> None:
        self.made: bytes | None = None
        self.silent = False
        self.late = 0.0
        found = question(query)
        if found is None or not meant(found[0], names):
            return
        if "wrong" in how:
            self.made = answer(query, address=how["wrong"])
        elif "slow" in how:
            self.late = float(how["slow"])
        elif how["failing"] == "silence":
            self.silent = True
        else:
            self.made = answer(query, CODES[how["failing"]])


class Stand:
    """What stands for one resolver."""

    def __init__(self, plan: dict[str, Any], resolver: str) -> None:
        self._plan = plan
        self._resolver = resolver
        self._waiting: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._waiting) >= MOST:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def serve(
        self, query: bytes, say: Callable[[bytes], None], ask: Callable[[bytes], Any]
    ) -> None:
        """Answer one query. ask: asks the resolver, and says what it answers."""
        verdict = Verdict(query, self._plan["names"], self._plan["answer"])
        if verdict.made is not None:
            say(verdict.made)
        elif not verdict.silent:
            if verdict.late:
                await asyncio.sleep(verdict.late)
            try:
                await asyncio.wait_for(ask(query), PATIENCE)
            except TimeoutError:
                return
            except (OSError, EOFError):
                # Nobody is there: told at once, as it would be without us.
                if question(query) is not None:
                    say(answer(query, SERVFAIL))

    async def datagrams(self, made: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        made.setblocking(False)
        while True:
            try:
                query, sender = await loop.sock_recvfrom(made, 65535)
            except OSError:
                continue  # What is told of an answer of ours that could not be delivered.

            def say(told: bytes, sender: Any = sender) -> None:
                with contextlib.suppress(OSError):
                    made.sendto(told, sender)

            async def ask(query: bytes, say: Callable[[bytes], None] = say) -> None:
                with self._connection(socket.SOCK_DGRAM) as other:
                    await loop.sock_connect(other, self._place())
                    await loop.sock_sendall(other, query)
                    say(await loop.sock_recv(other, 65535))

            self.begin(self.serve(query, say, ask))

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's, who may ask several things before the first is answered."""
        loop = asyncio.get_running_loop()

        def say(told: bytes) -> None:
            if not writer.is_closing():
                writer.write(len(told).to_bytes(2, "big") + told)

        async def ask(query: bytes) -> None:
            with self._connection(socket.SOCK_STREAM) as other:
                await loop.sock_connect(other, self._place())
                its_reader, its_writer = await asyncio.open_connection(sock=other)
                its_writer.write(len(query).to_bytes(2, "big") + query)
                found = question(query)
                say(await _message(its_reader))
                while found and found[1] in TRANSFERS:
                    say(await _message(its_reader))
                its_writer.close()

        try:
            while True:
                query = await asyncio.wait_for(_message(reader), IDLE)
                self.begin(self.serve(query, say, ask))
        except (TimeoutError, OSError, EOFError):
            writer.close()

    def _connection(self, kind: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self._resolver else socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SOCKET_MARK)
        made.setblocking(False)
        return made

    def _place(self) -> Any:
        flags = socket.AI_NUMERICHOST  # A link-local address has the device's name with it.
        return socket.getaddrinfo(self._resolver, PORT, type=socket.SOCK_DGRAM, flags=flags)[0][4]


async def _message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def serve(plan: dict[str, Any]) -> None:
    work = []
    for end in plan["ends"]:
        stand = Stand(plan, end["resolver"])
        work.append(stand.datagrams(socket.socket(fileno=end["udp"])))
        server = await asyncio.start_server(stand.connection, sock=socket.socket(fileno=end["tcp"]))
        work.append(server.serve_forever())
    await asyncio.gather(*work)


def end(plan: dict[str, Any]) -> None:
    """Be the nft that takes the table away, and nothing else any more."""
    table = f"inet {plan['table']}"
    try:
        os.execv(plan["nft"], [plan["nft"], f"add table {table}; delete table {table}"])
    finally:
        os._exit(1)


def end_in_time(plan: dict[str, Any], deadline: float) -> None:
    """In a thread of its own, so that it ends us in the middle of whatever we do."""
    try:
        watched = select.poll()
        for descriptor in (0, plan["target"]):
            watched.register(descriptor, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if watched.poll(min(left, 3600.0) * 1000):
                break
    finally:
        end(plan)


def main(arguments: Sequence[str]) -> None:
    _, deadline, told = arguments
    plan = json.loads(told)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: end(plan))
    threading.Thread(target=end_in_time, args=(plan, float(deadline)), daemon=True).start()
    try:
        asyncio.run(serve(plan))
    finally:
        end(plan)


if __name__ == "__main__":
    main(sys.argv[1:])
