"""URLs as a file writes them, and how to trust the server behind one. No socket here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tls:
    """How to trust a server, and how to show who we are. Paths of PEM files."""

    verify: bool = field(default=True, metadata={"doc": "check the server's certificate and name"})
    ca: str | None = field(default=None, metadata={"doc": "trust the authorities in this file"})
    cert: str | None = field(default=None, metadata={"doc": "our own certificate"})
    key: str | None = field(default=None, metadata={"doc": "the key of our certificate"})


def problem_with_method(method: str) -> str | None:
    if method.isascii() and method.isalpha() and method.isupper():
        return None
    return "expected a method such as GET or POST"


def problem_with(url: str) -> str | None:
    """What is wrong with a URL; None when it can be asked."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return f"expected a URL that begins with http:// or https://, found {url!r}"
        if not parts.hostname:
            return f"the URL {url!r} names no host"
        if parts.port == 0:
            return "port 0 cannot be asked"
    except ValueError:  # Its message quotes a part of the URL, which may be one of a secret.
        return f"{url!r} is no URL: its host or its port makes no sense"
    if any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return f"the URL {url!r} has spaces or control characters in it"
    return None
