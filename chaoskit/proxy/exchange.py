"""HTTP/1.1 as it goes over one connection: requests that are treated on their way, and our answers
between the upstream's.

Two stages work together. `Requests`, in the direction upstream, is the toxic's own: it scans, lets
pass, lets wait or swallows. `Responses`, the first stage of the other direction, scans what the
upstream answers, because an answer of ours must come behind those of earlier requests (RFC 9112,
9.3.2). What was begun is ended even when the toxic goes in the middle of it: then `Rest` swallows
what is left of a request, and `Responses` stays until the last answer is through.

Once a direction can be read no more (another protocol, or framing that is not clear), everything
passes as it is for good.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from chaoskit.clock import now
from chaoskit.proxy.answer import Answer
from chaoskit.proxy.http1 import Request, RequestScanner, ResponseScanner, begins_request
from chaoskit.proxy.scanning import Scanning
from chaoskit.proxy.stage import Chunk, Direction
from chaoskit.proxy.toxic import Toxic

if TYPE_CHECKING:
    from chaoskit.proxy.loop import Timer
    from chaoskit.proxy.stream import Stream

MOST_WAITING = 256
"""Requests of one client that may wait for their answers before no more are read."""
AGAIN = 0.02
"""Seconds until a client that takes no answers is tried again."""
LINGER = 5.0
"""Seconds for a client to close after our last answer (RFC 9112, 9.6)."""
UNSENT = 256 * 1024
"""Bytes that may wait for a client before it gets more answers of ours."""
NOBODYS = Toxic()
"""The toxic of the stages that must outlive theirs, or they would be taken out with it."""


class Turn(NamedTuple):
    """A request that is not answered yet. answer: ours; None when it is the upstream's."""

    method: str
    may_switch: bool = False
    answer: Answer | None = None


class Exchange:
    """What the stages of one toxic on one connection know together."""

    def __init__(self, synchronised: bool, quiet: bool) -> None:
        self.requests = RequestScanner()
        self.responses = ResponseScanner(self._asked)
        self.synchronised = synchronised
        self.quiet = quiet
        """Not synchronised: the upstream has spoken last, so a request may begin."""
        self.waiting: collections.deque[Turn] = collections.deque()
        self.swallowing: Answer | None = None
        """The answer to the request whose body is being swallowed."""
        self.closing = False
        """Nothing from the client goes on any more."""
        self.shut = False
        """The client has had its last answer."""
        self.retired = False
        """The toxic is gone."""
        self.source: Requests | Rest
        self.tap: Responses | None = None
        self.timer: Timer | None = None

    def _asked(self) -> str | None:
        return self.waiting[0].method if self.waiting else None

    @property
    def ours_next(self) -> bool:
        """Whether the client's next answer is ours, and not given yet."""
        if self.waiting:
            return self.waiting[0].answer is not None
        return self.swallowing is not None

    def answer(self, answer: Answer) -> None:
        """In its turn."""
        self.swallowing = None
        self.closing = self.closing or answer.closes
        self.waiting.append(Turn(answer.method, answer=answer))
        self.flush()

    def flush(self) -> None:
        """Give the answers whose turn it is, as far as the client takes them."""
        tap = self.tap
        assert tap is not None
        while self.waiting and not tap.closed and not self.shut:
            answer = self.waiting[0].answer
            if answer is None:
                break
            if not tap.room():
                self._alarm(AGAIN, self.flush)
                return
            self.waiting.popleft()
            closes = answer.closes or tap.ending
            tap.emit(answer.render(closes=closes))
            if closes and not tap.closed:
                self._shut(tap)
        self.settle()
        tap.work()
        self.source.work()

    def unreadable(self) -> None:
        """What the upstream says can be read no more: no answer finds its place."""
        if self.swallowing is None and not any(turn.answer for turn in self.waiting):
            self.source.give_up()
            return
        # Requests have been swallowed and cannot be answered. No others may go on, whose answers
        # would be taken for theirs; what the upstream still says is the last of it.
        if self.source.closed:
            self.source.stream.connection.reset()
            return
        self._drop()
        self.source.end()

    def settle(self) -> None:
        """After the toxic: leave when everything that was begun is ended."""
        if not self.retired or self.closing or self.swallowing:
            return
        if isinstance(self.source, Rest) and not self.source.closed:
            self.source.leave()
        if self.tap and not self.tap.closed and not any(turn.answer for turn in self.waiting):
            self.tap.leave()

    def forget(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _shut(self, tap: Responses) -> None:
        """The client has been told that it is over: what it still sends is read and dropped until
        it closes, or a reset might overtake the answer."""
        self._drop()
        self.shut = True
        tap.end()
        if not tap.closed:
            self._alarm(LINGER, self._cut)

    def _drop(self) -> None:
        self.closing = True
        self.swallowing = None
        self.waiting.clear()

    def _cut(self) -> None:
        if not self.source.closed:
            self.source.stream.cut()
            self.source.end()

    def _alarm(self, seconds: float, callback: Callable[[], None]) -> None:
        self.forget()
        self.timer = self.source.stream.loop.at(now() + seconds, callback)


class Requests(Scanning):
    """See the module. It begins with the connection, or in the middle of anything.

    The toxic says by `treat` what becomes of a request: None, it passes; seconds that it waits, at
    most `most()`; or the answer that it gets instead.
    """

    __slots__ = ("_opaque", "_postponed", "_timer", "exchange")

    def __init__(self, stream: Direction, toxic: Toxic) -> None:
        # Whether the connection is so new that nothing has passed.
        connection = cast("Stream", stream).connection
        super().__init__(stream, toxic)
        self.exchange = Exchange(synchronised=not connection.begun, quiet=not connection.asked)
        self.exchange.source = self
        self._opaque = False
        self._postponed: tuple[float, Request] | None = None
        self._timer: Timer | None = None

    def feed(self, data: Chunk) -> None:
        if self.exchange.tap is None:
            self.exchange.tap = Responses(self)
        super().feed(data)

    def blocked(self) -> bool:
        waiting = self.exchange.waiting
        return self._postponed is not None or (
            self.exchange.requests.idle
            and len(waiting) > 0
            # What follows may be another protocol: the answer says so.
            and (waiting[-1].may_switch or len(waiting) >= MOST_WAITING)
        )

    def step(self, data: bytes, at: int) -> None:
        exchange, scanner = self.exchange, self.exchange.requests
        if exchange.closing:
            self.advance(data, len(data))
            self.release(len(data) - at)
            return
        if not self._opaque and not exchange.synchronised:
            exchange.synchronised = exchange.quiet and begins_request(data)
            exchange.quiet = False
        if self._opaque or not exchange.synchronised:
            self.advance(data, len(data))
            self.send(data, at, len(data))
            return
        in_head = scanner.in_head
        end, request = scanner.scan(data, at)
        self.advance(data, end)
        if request is not None:
            self._meet(request)
        elif in_head:
            pass  # It stays with the scanner until it is complete.
        elif exchange.swallowing is not None:
            self.release(end - at)
        else:
            self.send(data, at, end)
        if self.closed:
            return
        if exchange.swallowing is not None and (scanner.idle or scanner.lost):
            exchange.answer(exchange.swallowing.last(scanner.lost))
        elif scanner.lost:
            self.give_up()

    def drained(self) -> None:
        if self._postponed is None:
            self.exchange.swallowing = None  # The client has not sent all of it.
            self._send_kept()
            self.end()

    def give_up(self) -> None:
        """Nothing can be read here any more: all of it passes."""
        if not self._opaque:
            self._opaque = True
            self.exchange.requests.lose()
            self._send_kept()
            self.work()

    def changed(self) -> None:
        if self._postponed is not None:
            due, request = self._postponed
            self._postpone(min(due, now() + self.toxic.most()), request)

    def let_go(self) -> None:
        exchange = self.exchange
        exchange.retired = self.leaving = True
        if self._postponed is not None:
            self._forward(self._postponed[1])
        if exchange.swallowing or exchange.closing:
            chain = cast("Stream", self.stream)
            exchange.source = Rest(self.stream, exchange)
            chain.add(exchange.source, chain.stages.index(self) + 1)
        self._send_kept()
        super().let_go()
        exchange.settle()

    def gone(self) -> None:
        self._unset()
        super().gone()

    def _meet(self, request: Request) -> None:
        treatment: Answer | float | None = self.toxic.treat(request, self.chance)
        if treatment is None:
            self._forward(request)
        elif not isinstance(treatment, Answer):
            self._postpone(now() + treatment, request)
        else:
            self.release(len(request.raw))
            if request.waits and not self.exchange.requests.idle:
                # Whether the body comes now is the client's choice: only the end of the
                # connection is clear to both (RFC 9110, 10.1.1).
                self.exchange.answer(treatment.last())
            else:
                self.exchange.swallowing = treatment

    def _forward(self, request: Request) -> None:
        self._unset()
        self._postponed = None
        self.exchange.waiting.append(Turn(request.method, request.may_switch))
        self.send(request.raw, 0, len(request.raw))

    def _postpone(self, due: float, request: Request) -> None:
        self._unset()
        self._postponed = (due, request)
        self._timer = self.stream.loop.at(due, self._ring)

    def _ring(self) -> None:
        assert self._postponed is not None
        self._forward(self._postponed[1])
        self.work()

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_kept(self) -> None:
        kept = self.exchange.requests.take_kept()
        self.send(kept, 0, len(kept))


class Rest(Scanning):
    """In the place of `Requests` after its toxic: what is left of a swallowed request goes nowhere
    either."""

    __slots__ = ("exchange",)

    def __init__(self, stream: Direction, exchange: Exchange) -> None:
        super().__init__(stream, NOBODYS)
        self.exchange = exchange

    def step(self, data: bytes, at: int) -> None:
        exchange, scanner = self.exchange, self.exchange.requests
        end = len(data)
        if not exchange.closing:
            end, _ = scanner.scan(data, at)
        self.advance(data, end)
        self.release(end - at)
        if exchange.swallowing is not None and (scanner.idle or scanner.lost):
            exchange.answer(exchange.swallowing.last(scanner.lost))

    def drained(self) -> None:
        self.exchange.swallowing = None
        self.end()

    def give_up(self) -> None:
        """It is only there while a request is being swallowed: no other one is read."""

    def leave(self) -> None:
        cast("Stream", self.stream).take_out(self)


class Responses(Scanning):
    """See the module. Everything passes at once but what must come behind an answer of ours."""

    __slots__ = ("_final", "exchange")

    def __init__(self, requests: Requests) -> None:
        super().__init__(requests.stream.peer, NOBODYS)
        self.exchange = requests.exchange
        self._final = False
        self._join(requests)

    def _join(self, requests: Requests) -> None:
        """First in its direction, behind those alone that answer nearer to the upstream."""
        up, down = cast("Stream", requests.stream), cast("Stream", self.stream)
        nearer = [
            stage.exchange.tap
            for stage in up.stages[up.stages.index(requests) + 1 :]
            if isinstance(stage, Requests | Rest)
        ]
        places = [place for place, stage in enumerate(down.stages, 1) if stage in nearer]
        down.add(self, max(places, default=0))

    def room(self) -> bool:
        """Whether the client takes more."""
        down = cast("Stream", self.stream)
        behind = down.stages[down.stages.index(self) + 1 :]
        return down.unsent < UNSENT and not any(stage.full for stage in behind)

    def blocked(self) -> bool:
        waiting = self.exchange.waiting
        return bool(waiting) and waiting[0].answer is not None

    def step(self, data: bytes, at: int) -> None:
        exchange, scanner = self.exchange, self.exchange.responses
        if exchange.shut:
            self.advance(data, len(data))
            self.release(len(data) - at)
            return
        if not exchange.synchronised:
            exchange.quiet = True
        if scanner.lost or not exchange.synchronised:
            self.advance(data, len(data))
            self.send(data, at, len(data))
            return
        end, response = scanner.scan(data, at)
        self.advance(data, end)
        self.send(data, at, end)
        if self.closed:
            return
        if response is not None and response.status >= 200:
            self._final = True
        if scanner.lost:
            exchange.unreadable()
        elif scanner.idle and self._final:
            self._final = False
            exchange.waiting.popleft()
            exchange.flush()

    def drained(self) -> None:
        exchange = self.exchange
        if exchange.shut or exchange.ours_next:
            return  # The last of our answers ends it.
        exchange.shut = True
        exchange.waiting.clear()
        self.end()

    def leave(self) -> None:
        cast("Stream", self.stream).take_out(self)

    def gone(self) -> None:
        self.exchange.forget()
        super().gone()
