"""Can one connect?"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from chaoskit.clock import now
from chaoskit.errors import ProbeError
from chaoskit.model.probe import Context, Probe, Reading
from chaoskit.model.units import Duration, Json, Unit
from chaoskit.web import connected


@dataclass(frozen=True)
class TcpProbe(Probe):
    """A TCP connection: whether it comes about, how fast, and what the server says."""

    address: str = field(metadata={"doc": "HOST:PORT"})
    send: str | None = field(default=None, metadata={"doc": "text to send first"})
    read_banner: bool = field(default=False, metadata={"doc": "read what the server says"})
    timeout: Duration = 2.0
    kind = "tcp"
    readings = {
        "connected": Unit.TEXT,
        "latency": Unit.DURATION,
        "banner": Unit.TEXT,
        "error": Unit.TEXT,
    }
    main = "connected"

    def read(self, context: Context) -> Reading:
        """A refused or silent port is a reading (`connected: false`); an unknown host is none."""
        host, port = self._parts()
        began = now()
        try:
            with connected(host, port, self.timeout) as connection:
                reading: dict[str, Json] = {"connected": True, "latency": now() - began}
                connection.settimeout(max(0.001, self.timeout - (now() - began)))
                if self.send is not None:
                    connection.sendall(self.send.encode())
                if self.read_banner:
                    reading["banner"] = connection.recv(4096).decode(errors="replace")
                return reading
        except socket.gaierror as error:
            raise ProbeError(f"the host {host} is not known: {error.strerror}") from error
        except TimeoutError:
            return {"connected": False, "error": f"nothing within {self.timeout:g}s"}
        except OSError as error:
            return {"connected": False, "error": (error.strerror or str(error)).lower()}

    def describe(self) -> str:
        return f"tcp {self.address}"

    def problems(self) -> list[tuple[str, str]]:
        try:
            host, port = self._parts()
        except ValueError:
            return [("address", f"expected HOST:PORT, found {self.address!r}")]
        if not host or not 1 <= port <= 65535:
            return [("address", f"expected HOST:PORT, found {self.address!r}")]
        return []

    def _parts(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)
