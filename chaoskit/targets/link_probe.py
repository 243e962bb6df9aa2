"""A connection of ours through a link, to see a delay with our own eyes.

It sends nothing, shuts down its writing side and waits for the end of file: our proxy delays that
as it delays data, and nearly every server closes when its client has.
"""

from __future__ import annotations

import socket

from chaoskit.clock import Cancel, now

BEYOND = 1.0
"""Seconds after the delay in which a server that closes at all has closed."""
EARLY = 0.002
"""Seconds before the delay that still count as it: clocks are read at different moments."""
LOOK = 0.05


def delayed(listen: str, least: float, cancel: Cancel) -> bool | None:
    """Whether what passes takes `least` seconds; None when nothing can be told from it.

    Raises Interrupted.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    try:
        with socket.create_connection((host, int(port)), BEYOND) as probe:
            began = now()
            probe.shutdown(socket.SHUT_WR)
            while (left := began + least + BEYOND - now()) > 0:
                cancel.check()
                probe.settimeout(min(left, LOOK))
                try:
                    if not probe.recv(4096):
                        return now() - began >= least - EARLY
                except TimeoutError:
                    continue
    except OSError:
        return None  # A dead service, or one that resets: no end of file, nothing seen.
    return None
