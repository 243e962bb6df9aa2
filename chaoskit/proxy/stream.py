"""One direction of a TCP connection: from the socket that is read, through the stages, to the
socket that is written.

Without stages nothing is looked at: small amounts are copied through one buffer, and as soon as
the source gives more than that at once, splice(2) moves them within the kernel.
"""

from __future__ import annotations

import collections
import os
import select
import socket
from typing import TYPE_CHECKING

from chaoskit.proxy.loop import HANGUP, OUT, STREAM, URGENT, Loop
from chaoskit.proxy.pipes import SIZE, Pipe, Pipes
from chaoskit.proxy.stage import JOINED, SMALL, Chunk, Memory, Next, Stage

if TYPE_CHECKING:
    from chaoskit.proxy.connection import Connection

COPIED = 64 * 1024
"""Bytes that are copied at once; more than this moves by splice."""
READ = 256 * 1024
"""Bytes that are read at once for the stages."""
TURN = 4 * 1024 * 1024
"""Bytes that one direction may move before others have their turn."""
UNSENT = 1024 * 1024
"""Bytes that may wait for a receiver who does not take them."""
TINY = 1024
"""Bytes of a chunk that waits in a buffer together with others of its size."""

_ERROR = select.EPOLLERR
_UNTIL_NOTHING = HANGUP | URGENT
_SPLICE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE if hasattr(os, "SPLICE_F_MOVE") else 0

_buffer = bytearray(COPIED)
_view = memoryview(_buffer)


class Meter:
    """Bytes of one direction of a link."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class Stream:
    """See the module. All state of one direction; the connection owns two of them."""

    __slots__ = (
        "asks",
        "connection",
        "cutting",
        "done",
        "ended",
        "finishing",
        "last",
        "loop",
        "memory",
        "meter",
        "name",
        "out",
        "peer",
        "pipes",
        "ready",
        "room_told",
        "scheduled",
        "sink",
        "source",
        "stages",
        "unsent",
    )

    datagrams = False

    def __init__(
        self,
        connection: Connection,
        name: str,
        source: socket.SocketType,
        sink: socket.SocketType,
        meter: Meter,
    ) -> None:
        self.connection = connection
        self.name = name
        self.asks = name == "upstream"
        self.source = source
        self.sink = sink
        self.meter = meter
        link = connection.link
        self.loop: Loop = link.loop
        self.memory: Memory = link.memory
        self.pipes: Pipes = link.pipes
        self.peer: Stream
        self.stages: list[Stage] = []
        self.out: collections.deque[Chunk | bytearray | Pipe] | None = None
        self.unsent = 0
        self.ready = False  # The source may have more to read.
        self.last = False  # A short reading says nothing: read on until there is no more.
        self.ended = False  # Nothing more is read.
        self.cutting = False  # When all is written, the whole connection ends.
        self.finishing = False  # The end of file follows what is unsent.
        self.done = False  # The end of file has been written.
        self.scheduled = False
        self.room_told = False  # The loop tells when the sink takes more.

    # --- the chain -------------------------------------------------------------------------------

    def add(self, stage: Stage, at: int) -> None:
        """Put a stage into the chain, behind so many others."""
        self.stages = [*self.stages[:at], stage, *self.stages[at:]]
        self._join()

    def take_out(self, stage: Stage) -> None:
        """Take it out of the chain; what it holds goes on first."""
        stage.let_go()
        if stage in self.stages:  # Letting go may have ended the connection.
            self.stages = [other for other in self.stages if other is not stage]
            self._join()
        stage.gone()
        self.relieved()

    def _join(self) -> None:
        after: list[Next] = [*self.stages[1:], self]
        for stage, following in zip(self.stages, after, strict=False):
            stage.next = following

    def inject(self, data: Chunk) -> None:
        (self.stages[0] if self.stages else self).feed(data)

    def cut(self) -> None:
        self.ended = True
        self.cutting = True

    def relieved(self) -> None:
        if self.ready and not self.scheduled:
            self.scheduled = True
            self.loop.soon(self._go_on)

    def gone(self) -> None:
        """The connection is over: forget everything, one another too: there are many of them, and
        what leads round and round is found late."""
        del self.peer
        self.ended = self.done = True
        if self.stages:
            stages, self.stages = self.stages, []
            for stage in stages:
                stage.gone()
        if self.out:
            self._drop_unsent()

    # --- reading ---------------------------------------------------------------------------------

    def event(self, events: int) -> None:
        """Something has happened to the socket that is read here, and written by the peer."""
        peer = self.peer
        if events & _UNTIL_NOTHING:
            # A reset comes behind what was sent before it, as far as that is taken at once. Urgent
            # data ends a reading.
            self.last = True
        if peer.out and events & OUT and not events & _ERROR:
            peer.writable()
        if events != OUT:
            self.ready = True
            self.pump()
            if events & _ERROR and not (self.connection.over or self.scheduled):
                self.connection.reset()

    def _go_on(self) -> None:
        self.scheduled = False
        if self.ready:
            self.pump()

    def pump(self) -> None:
        """Move what the source has, as far as the receiver, the stages and fairness allow."""
        if self.ended:
            return
        if self.stages:
            self._pump_stages()
            return
        if self.out:
            return  # The receiver has not taken what it was given: `writable` goes on.
        moved = 0
        while moved < TURN:
            try:
                size = self.source.recv_into(_buffer)
            except (BlockingIOError, InterruptedError):
                self.ready = self.last = False
                return
            except OSError:
                self.connection.reset()
                return
            if not size:
                self.finish()
                return
            self.meter.received += size
            self.connection.asked = self.asks
            try:
                sent = self.sink.send(_view[:size] if size < COPIED else _buffer)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._receiver_lost()
                return
            self.meter.sent += sent
            if sent < size:
                self._keep(bytes(_view[sent:size]))
                return
            if size == COPIED:
                self._splice()
                return
            if not self.last:
                self.ready = False  # Edge-triggered: a short reading means there is no more.
                return
            moved += size
        self.relieved()

    def _splice(self) -> None:
        self.loop.busy = True
        pipe = self.pipes.lend()
        if pipe is None:
            self.relieved()
            return
        source, sink, meter = self.source.fileno(), self.sink.fileno(), self.meter
        moved = 0
        try:
            while moved < TURN:
                try:
                    size = os.splice(source, pipe.writing, SIZE, flags=_SPLICE)
                except BlockingIOError:
                    self.ready = self.last  # It says so in front of urgent data, too.
                    self.relieved()
                    return
                if not size:
                    self._source_ended()
                    return
                meter.received += size
                moved += size
                pipe.size = size
                while pipe.size:
                    try:
                        sent = os.splice(pipe.reading, sink, pipe.size, flags=_SPLICE)
                    except BlockingIOError:
                        self._keep(pipe)
                        return
                    except OSError:
                        self._receiver_lost()
                        return
                    pipe.size -= sent
                    meter.sent += sent
            self.relieved()
        except OSError:
            self.connection.reset()
        finally:
            if self.out is None or pipe not in self.out:
                self.pipes.back(pipe)

    def _pump_stages(self) -> None:
        self.loop.busy = True
        moved, memory = 0, self.memory
        while moved < TURN and not self.ended:
            if self.unsent >= UNSENT or (self.unsent >= SMALL and memory.used >= memory.limit):
                return
            for stage in self.stages:
                if stage.full:
                    return
            try:
                data = self.source.recv(READ)
            except (BlockingIOError, InterruptedError):
                self.ready = self.last = False
                return
            except OSError:
                self.connection.reset()
                return
            if not data:
                self._source_ended()
                return
            self.meter.received += len(data)
            self.connection.asked = self.asks
            moved += len(data)
            if len(data) < JOINED:
                # What was read is as large as it might have been, for as long as it is kept.
                data = bytes(memoryview(data))
            self.inject(data)
            if len(data) < COPIED and not self.last:
                self.ready = False
                return
        self.relieved()

    def _source_ended(self) -> None:
        self.ended = True
        self.ready = False
        (self.stages[0] if self.stages else self).finish()

    # --- writing ---------------------------------------------------------------------------------

    def feed(self, data: Chunk) -> None:
        """Write it to the receiver, or keep it until the receiver takes it."""
        if self.out or self.done:
            if not self.done:
                self._keep(data)
            return
        try:
            sent = self.sink.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._receiver_lost()
            return
        self.meter.sent += sent
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def finish(self) -> None:
        """The end of file, behind all that was fed."""
        self.ended = self.finishing = True
        if not self.out and not self.done:
            self.done = True
            self.connection.end_of(self)

    def writable(self) -> None:
        """The receiver takes more."""
        out = self.out
        while out:
            first = out[0]
            try:
                if isinstance(first, Pipe):
                    sent = os.splice(first.reading, self.sink.fileno(), first.size, flags=_SPLICE)
                    first.size -= sent
                    empty = not first.size
                elif len(out) > 1 and len(first) < COPIED:
                    sent = self._send_many()
                    empty = False
                else:
                    sent = self.sink.send(first)
                    empty = sent == len(first)
                    if not empty:
                        out[0] = memoryview(first)[sent:]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._receiver_lost()
                return
            self.meter.sent += sent
            self.unsent -= sent
            self.memory.used -= sent
            if empty:
                out.popleft()
                if isinstance(first, Pipe):
                    self.pipes.back(first)
        self.out = None
        if self.finishing:
            self.finish()
        else:
            self.relieved()

    def _receiver_lost(self) -> None:
        """It has reset the connection. What it had sent before that is delivered, as far as it is
        taken at once, then the reset: an answer that refuses an upload comes so."""
        connection, peer = self.connection, self.peer
        if connection.broken or peer.ended or peer.stages:
            connection.reset()
            return
        connection.broken = True
        self.ended = self.done = True
        self._drop_unsent()
        peer.last = peer.ready = True
        peer.pump()
        if not (connection.over or peer.scheduled):
            connection.reset()

    def _drop_unsent(self) -> None:
        for item in self.out or ():
            if isinstance(item, Pipe):
                self.pipes.back(item)
        self.memory.used -= self.unsent
        self.unsent = 0
        self.out = None

    def _send_many(self) -> int:
        """Several small chunks in one call."""
        assert self.out is not None
        chunks: list[Chunk | bytearray] = []
        for item in self.out:
            if isinstance(item, Pipe) or len(chunks) == 64:
                break
            chunks.append(item)
        left = sent = self.sink.sendmsg(chunks)
        while left:
            first = self.out[0]
            assert not isinstance(first, Pipe)
            if left >= len(first):
                left -= len(first)
                self.out.popleft()
            else:
                self.out[0] = memoryview(first)[left:]
                left = 0
        return sent

    def _keep(self, item: Chunk | Pipe) -> None:
        if self.out is None:
            self.out = collections.deque()
            if not self.room_told:
                self.room_told = True
                self.loop.modify(self.sink.fileno(), STREAM)
        size = item.size if isinstance(item, Pipe) else len(item)
        if isinstance(item, Pipe) or size >= TINY:
            self.out.append(item)
        elif self.out and isinstance(last := self.out[-1], bytearray) and len(last) < COPIED:
            last += item  # By itself it would take many times its size.
        else:
            self.out.append(bytearray(item))
        self.unsent += size
        self.memory.used += size
