"""A stage: one toxic at work in one direction of one connection.

The stages of a direction form a chain from the socket that is read to the socket that is written.
A stage gets chunks in order and passes them on in order, now or later. What it keeps it accounts
for, so that a source is paused (back pressure reaches the sender) before memory runs out.
"""

from __future__ import annotations

import collections
import random
from typing import TYPE_CHECKING, Any, Protocol

from chaoskit.clock import now

if TYPE_CHECKING:
    from chaoskit.proxy.loop import Loop, Timer
    from chaoskit.proxy.toxic import Toxic

Chunk = bytes | memoryview
"""Bytes of a stream, or one whole datagram."""

SEGMENT = 1448
"""Bytes of a TCP segment on an Ethernet: what loss and corruption count in."""

SMALL = 64 * 1024
"""Bytes that every stage may hold even when the proxy's memory is used up."""
EACH = 160
"""Bytes that keeping a chunk takes beside its own: of small ones that is nearly all."""
JOINED = 16 * 1024
"""Bytes of a stream that are let go of as one. Less than comes at once from a sender who has much:
copying that would cost more than it saves."""


class Memory:
    """Bytes that all stages of a server hold together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Connected(Protocol):
    """What a stage may ask of the connection that it works on."""

    @property
    def number(self) -> int:
        """Counted by the link from 1, in the order in which connections came."""

    def reset(self) -> None:
        """End both sides with a TCP reset (a UDP session is forgotten)."""


class Direction(Protocol):
    """One direction of a connection, as its stages see it."""

    loop: Loop
    memory: Memory
    name: str
    """`upstream` (from the client to the server) or `downstream`."""

    @property
    def datagrams(self) -> bool:
        """Whether each chunk is a whole datagram."""

    @property
    def peer(self) -> Direction:
        """The other direction."""

    @property
    def connection(self) -> Connected: ...

    def inject(self, data: Chunk) -> None:
        """As if the source had sent it."""

    def cut(self) -> None:
        """Read nothing more here; when what was passed on is written, the connection ends."""

    def relieved(self) -> None:
        """A stage holds less than it did: the source may go on."""


class Next(Protocol):
    def feed(self, data: Chunk) -> None: ...
    def finish(self) -> None: ...


class Stage:
    """Passes everything on; subclasses keep, change or drop. See the module."""

    __slots__ = ("_chance", "closed", "held", "next", "stream", "toxic")

    capacity: int = 256 * 1024
    """Bytes that may be held before the source is paused."""

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        self.stream = stream
        self.toxic: Any = toxic
        self.next: Next
        self.held = 0
        self.closed = False
        self._chance: random.Random | None = None

    @property
    def chance(self) -> random.Random:
        """Of this connection alone, under the toxic's seed. Made at the first draw: a toxic that
        comes to thousands of quiet connections must not take long."""
        if self._chance is None:
            self._chance = self.toxic.random(self.stream.connection.number)
        return self._chance

    def feed(self, data: Chunk) -> None:
        """Data arrives."""
        self.emit(data)

    def finish(self) -> None:
        """The end of file arrives, behind all data."""
        self.end()

    def let_go(self) -> None:
        """The toxic is being removed: pass on, at once and in order, all that is held."""

    def changed(self) -> None:
        """The toxic's attributes have changed."""

    def gone(self) -> None:
        """The connection is over, or the stage has been taken out."""
        self.closed = True
        if self.held:
            self.release(self.held)

    def emit(self, data: Chunk) -> None:
        self.next.feed(data)

    def end(self) -> None:
        self.next.finish()

    def hold(self, size: int) -> None:
        self.held += size
        self.stream.memory.used += size

    def release(self, size: int) -> None:
        self.held -= size
        self.stream.memory.used -= size
        if not self.closed:
            self.stream.relieved()

    @property
    def full(self) -> bool:
        if self.held < SMALL:
            return False
        memory = self.stream.memory
        return self.held >= self.capacity or memory.used >= memory.limit


class Keeping(Stage):
    """Keeps all that comes until it is let go, or a subclass decides otherwise."""

    __slots__ = ("_ending", "_queue", "_timer")

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        super().__init__(stream, toxic)
        self._queue: collections.deque[Chunk] = collections.deque()
        self._ending = False
        self._timer: Timer | None = None

    def feed(self, data: Chunk) -> None:
        self._queue.append(data)
        self.hold(len(data) + EACH)

    def finish(self) -> None:
        self._ending = True

    def let_go(self) -> None:
        while self._queue:
            self.emit(self.take())
        if self._ending and not self.closed:
            self.end()

    def gone(self) -> None:
        self._queue.clear()
        self.alarm(None)
        super().gone()

    def take(self, most: int = 1 << 62) -> Chunk:
        """The next `most` bytes that are kept, of one chunk; kept no more."""
        data = self._queue.popleft()
        freed = len(data) + EACH
        if most < len(data):
            whole = memoryview(data)
            data = whole[:most]
            self._queue.appendleft(whole[most:])
            freed = most
        self.release(freed)
        return data

    def alarm(self, when: float | None) -> None:
        """Call `ring` at that moment and at no other."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self.stream.loop.at(when, self.ring)

    def ring(self) -> None:
        """The moment has come."""


class Delaying(Stage):
    """Holds each chunk for a time of its own and keeps their order."""

    __slots__ = ("_queue", "_timer")

    capacity: int = 256 * 1024

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        super().__init__(stream, toxic)
        self._queue: collections.deque[tuple[float, Chunk | None]] = collections.deque()
        self._timer: Timer | None = None

    def delay(self, data: Chunk | None) -> float:
        """Seconds that this chunk (None: the end of file) waits from now."""
        return 0.0

    def most(self) -> float:
        """Seconds that anything waits at most by the attributes as they are now."""
        return float("inf")

    def feed(self, data: Chunk) -> None:
        self.put(self.delay(data), data)

    def finish(self) -> None:
        self.put(self.delay(None), None)

    def put(self, delay: float, data: Chunk | None) -> None:
        """Pass it on after so many seconds, behind what came before it."""
        if delay <= 0 and not self._queue:
            self._pass(data)
            return
        due = now() + delay  # Who comes earlier waits for those before it in the queue.
        self._queue.append((due, data))
        if data is not None:
            self.hold(len(data) + EACH)
        if self._timer is None:
            self._timer = self.stream.loop.at(due, self._due)

    def let_go(self) -> None:
        # Stages behind may care how it was cut, as those who get datagrams do.
        if not isinstance(self.next, Stage) and not self.stream.datagrams:
            self._join()
        self._pass_all(float("inf"))

    def changed(self) -> None:
        """What waits longer than it would now, comes sooner."""
        latest = now() + self.most()
        if self._queue:
            self._queue = collections.deque((min(due, latest), data) for due, data in self._queue)
            self._set()

    def gone(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().gone()

    def _due(self) -> None:
        self._timer = None
        self._pass_all(now())

    def _pass_all(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            data = queue.popleft()[1]
            if data is not None:
                self.release(len(data) + EACH)
            self._pass(data)
        self._set()

    def _join(self) -> None:
        """Of small chunks there may be very many, and a system call for each of them."""
        queue = self._queue
        while queue and queue[0][1] is not None:
            parts, size = [], 0
            while queue and size < JOINED and (data := queue[0][1]) is not None:
                queue.popleft()
                parts.append(data)
                size += len(data)
            self.release(size + EACH * len(parts))
            self.emit(parts[0] if len(parts) == 1 else b"".join(parts))

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and not self.closed:
            self._timer = self.stream.loop.at(self._queue[0][0], self._due)

    def _pass(self, data: Chunk | None) -> None:
        if data is None:
            self.end()
        else:
            self.emit(data)
