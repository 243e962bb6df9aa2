"""What every part of the market has that is asked over HTTP: JSON out, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, Any]]
Answers = Callable[[str, str, dict[str, str]], Answer]
"""Of a method, a path and the words behind its question mark."""


def serve(answers: Answers) -> None:
    """On port 80, until the container is stopped."""
    end_on_signals()
    with Server(("", 80), _handler(answers)) as server:
        server.serve_forever()


def end_on_signals() -> None:
    """Pid 1 of a container hears no signal that it has no handler for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are everyday."""


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            status, content = answers(self.command, url.path, dict(parse_qsl(url.query)))
            body = json.dumps(content).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: there are too many of them."""

    return Handler
