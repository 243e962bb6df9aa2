"""What a request to the proxy can get wrong."""

from __future__ import annotations

from chaoskit.errors import ChaoskitError


class ProxyError(ChaoskitError):
    """Told to the client as it is. The words are Toxiproxy's where it has any.

    status: the HTTP status that goes with it.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def bad_request(reason: str) -> ProxyError:
    return ProxyError(f"bad request body: {reason}", 400)
