"""HTTP/1.1 messages by hand, for what the HTTP toxics do to them."""

from __future__ import annotations

from typing import Any

GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"
GOOD, BAD = GET % b"good", GET % b"bad"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
LAST = ERROR.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
BUSY: dict[str, Any] = {"body": "busy", "path": "/bad.*"}


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    return post_head(path, len(body), *headers) + body


def post_head(path: bytes, size: int, *headers: bytes) -> bytes:
    lines = [b"POST /%s HTTP/1.1" % path, b"Content-Length: %d" % size, *headers, b"", b""]
    return b"\r\n".join(lines)


def chunked(path: bytes, *chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"POST /%s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" % path + parts
