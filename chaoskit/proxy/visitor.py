"""One connection to the control interface: HTTP/1.1 with everything bounded.

h11 knows the protocol; this knows the limits. One answer is written before the next request is
looked at, so a visitor that does not read holds up itself alone.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import traceback
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11

from chaoskit.proxy.api import Answer, BadTarget, Request, plain_text, refusal
from chaoskit.proxy.events import CONTENT_TYPE, MOST_LISTENERS
from chaoskit.proxy.loop import IN, OUT
from chaoskit.proxy.origin import stranger

if TYPE_CHECKING:
    from chaoskit.proxy.control import Control
    from chaoskit.proxy.events import Listener

MOST_BODY = 1024 * 1024
MOST_HEADER = 16 * 1024
MOST_HEADERS = 100
TO_ASK = 15.0
"""Seconds for a whole request, from its first byte or from the connection."""
TO_READ = 30.0
"""Seconds for taking an answer."""
IDLE = 60.0
"""Seconds between requests."""
TO_LEAVE = 2.0
"""Seconds in which what a visitor still sends is thrown away, so that it can read our last word."""
_NEVER = float("inf")
_READ = 16 * 1024
_STEPS = 128
"""Parts of requests that are looked at before others have their turn."""


class Visitor:
    """See the module. Made with its socket, tells the control when it is over."""

    def __init__(self, control: Control, side: socket.socket) -> None:
        self._control = control
        self._loop = control.loop
        self._side = side
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._out = b""
        self._scheduled = False
        self._idle = False
        self._leaving = False  # Nothing more is answered; what still comes is thrown away.
        self._events = IN
        self._listener: Listener | None = None
        self.over = False
        self.began = self._loop.now()
        """When it began to wait for a request, however much of one it has sent since."""
        self.deadline = self.began + TO_ASK
        self._loop.watch(side.fileno(), self._happened, IN, urgent=True)

    @property
    def stays(self) -> bool:
        """It listens to events, so being quiet is its right."""
        return self._listener is not None

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        if self._listener is not None:
            self._control.events.leave(self._listener)
        self._loop.close_later(self._side)
        self._control.forget(self)

    def _happened(self, events: int) -> None:
        """Whatever goes wrong with one visitor is the end of that one alone."""
        try:
            if not self._out:
                self._read()
                return
            self._flush()
            self._go_on()
        except OSError:
            self.close()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.close()

    def _read(self) -> None:
        if self._scheduled:
            return  # What came before is not done yet.
        try:
            data = self._side.recv(_READ)
        except BlockingIOError:
            return
        if self._leaving or self._listener is not None:
            if not data:
                self.close()
            return
        if self._idle:
            self._idle = False
            self.began = self._loop.now()
            self.deadline = self.began + TO_ASK
        self._http.receive_data(data)
        self._go_on()

    def _later(self) -> None:
        self._scheduled = False
        try:
            self._go_on()
        except OSError:
            self.close()

    def _go_on(self) -> None:
        """Look at what has come, as far as our own answers are taken."""
        for _ in range(_STEPS):
            if self._out or self.over or self._leaving or self._listener is not None:
                return
            try:
                event: Any = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._malformed(error.error_status_hint)
                return
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(
                        h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
                    )
                return
            self._step(event)
        self._scheduled = True
        self._loop.soon(self._later)

    def _step(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._request = event
            self._body.clear()
            if len(event.headers) > MOST_HEADERS:
                self._malformed(431)
            elif int(self._header(b"content-length") or 0) > MOST_BODY:
                self._too_large()
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > MOST_BODY:
                self._too_large()
        elif isinstance(event, h11.EndOfMessage):
            self._asked()
        else:
            self.close()  # ConnectionClosed; PAUSED never comes, since each answer is whole.

    def _header(self, name: bytes) -> str | None:
        assert self._request is not None
        for key, value in self._request.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def _asked(self) -> None:
        """The request is whole."""
        assert self._request is not None
        target = self._request.target.decode("latin-1")
        refused = stranger(
            self._header(b"host"), self._header(b"origin"), target, self._control.told
        )
        if refused:
            self._answer(plain_text(403, refused))
            return
        agent = self._header(b"user-agent") or ""
        request = Request(self._request.method.decode(), target, agent, bytes(self._body))
        try:
            answer = self._control.api.answer(request)
        except BadTarget:
            self._malformed(400)
            return
        if answer.events:
            self._listen(answer)
        else:
            self._answer(answer)

    def _too_large(self) -> None:
        self._answer(refusal(f"request body is larger than {MOST_BODY} bytes", 413), last=True)

    def _answer(self, answer: Answer, last: bool = False) -> None:
        headers = [*answer.headers, ("Date", formatdate(usegmt=True))]
        if answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        if last:
            headers.append(("Connection", "close"))
        self.deadline = self._loop.now() + TO_READ
        body = b"" if self._request is None or self._request.method == b"HEAD" else answer.body
        self._send(
            h11.Response(
                status_code=answer.status,
                headers=headers,
                reason=HTTPStatus(answer.status).phrase,
            ),
            *([h11.Data(data=body)] if body else []),
            h11.EndOfMessage(),
        )

    def _listen(self, answer: Answer) -> None:
        if self._control.events.full:
            self._answer(refusal(f"too many listeners: {MOST_LISTENERS} at most", 503))
            return
        headers = [
            ("Content-Type", CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            *answer.headers,
            ("Date", formatdate(usegmt=True)),
        ]
        self._listener = self._control.events.listen(self._tell)
        self._send(
            h11.Response(status_code=200, headers=headers, reason="OK"),
            h11.Data(data=b": events of chaoskit's proxy\n\n"),
        )

    def _tell(self) -> None:
        """Events are waiting to be sent."""
        if not self._out and self._listener is not None and not self.over:
            with contextlib.suppress(OSError):
                self._send(h11.Data(data=self._listener.take()))
                return
            self.close()

    def _malformed(self, status: int) -> None:
        """Answer what is no HTTP as Go's server does, and leave."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reason = _REASONS.get(status, "Bad Request")
            status = status if status in _REASONS else 400
            text = f"{status} {reason}"
            self._out += (
                f"HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Connection: close\r\n\r\n{text}"
            ).encode()
        self._leave()
        self._flush()

    def _leave(self) -> None:
        self._leaving = True
        self.deadline = self._loop.now() + TO_LEAVE

    def _send(self, *parts: h11.Event) -> None:
        self._out += b"".join(self._http.send(part) or b"" for part in parts)
        self._flush()

    def _flush(self) -> None:
        """Send as much as is taken; when all is, go on to what comes next."""
        try:
            sent = self._side.send(self._out)
        except BlockingIOError:
            sent = 0
        self._out = self._out[sent:]
        if self._listener is not None and (sent or self.deadline == _NEVER):
            self.deadline = self._loop.now() + TO_READ
        self._watch(OUT if self._out else IN)
        if not self._out:
            self._sent()

    def _sent(self) -> None:
        if self._leaving:
            self._side.shutdown(socket.SHUT_WR)
        elif self._listener is not None:
            self.deadline = _NEVER
            if waiting := self._listener.take():
                self._send(h11.Data(data=waiting))
        elif self._http.our_state is h11.MUST_CLOSE:
            self._leave()
            self._side.shutdown(socket.SHUT_WR)
        elif self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
            self._request = None
            self.began = self._loop.now()
            self.deadline = self.began + IDLE
            self._idle = True

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._loop.modify(self._side.fileno(), events)


_REASONS = {
    400: "Bad Request",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
