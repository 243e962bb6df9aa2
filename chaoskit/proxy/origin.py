"""Who may ask: no web page, neither by a request across sites nor by a name that it lets point
here (DNS rebinding)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")


def stranger(host: str | None, origin: str | None, target: str, told: str) -> str:
    """Why this request is refused, or "".

    host, origin: those headers, if there are any. target: of the request; where it names a host,
    that one counts. told: the host that we were told to listen on. No browser leaves Host out, and
    what is no browser can say anything: so only what a browser would say is looked at.
    """
    if not target.startswith("/") and "://" in target:
        host = re.split("[/?]", target.partition("://")[2], maxsplit=1)[0]
    if host and not _known(host, told):
        return "Host not allowed: use localhost, an IP address or the host that is listened on"
    if origin is not None and not _same(origin, host or ""):
        return "Origin not allowed"
    return ""


def _known(host: str, told: str) -> bool:
    found = _AUTHORITY.fullmatch(host)
    if not found:
        return False
    name = found[1].strip("[]").lower()
    if name in ("localhost", told.lower()):
        return bool(name)
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        return parts.scheme == "http" and bool(host) and _full(parts.netloc) == _full(host)
    except ValueError:
        return False


def _full(authority: str) -> tuple[str, str]:
    found = _AUTHORITY.fullmatch(authority)
    return (found[1].lower(), found[2] or "80") if found else (authority, "")
