"""One run's own proxy: a process with one link, which ends with the run whatever becomes of it.

Standard input is the run's lifeline, a pipe whose other end the runner alone holds open.
"""

from __future__ import annotations

import select
import signal
import sys
from argparse import ArgumentParser

from chaoskit.errors import ChaoskitError
from chaoskit.proxy.control import Control
from chaoskit.proxy.descriptors import open_many
from chaoskit.proxy.server import Server


def main() -> int:
    """Serve until the lifeline closes, the deadline comes or SIGTERM does."""
    parser = ArgumentParser(prog="python -m chaoskit.proxy", description=__doc__)
    parser.add_argument("--mark", required=True, help="whose it is; only there to be seen")
    parser.add_argument("--control", required=True, help="unix:/path of the control interface")
    parser.add_argument(
        "--link",
        required=True,
        nargs=3,
        metavar=("LISTEN", "UPSTREAM", "PROTOCOL"),
        help="its only link, whose name is LISTEN",
    )
    parser.add_argument("--ends-at", required=True, type=float, help="CLOCK_MONOTONIC seconds")
    parser.add_argument("--seed", required=True, type=int)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    open_many()
    server = Server(seed=args.seed)
    control = Control(server)
    server.loop.watch(0, lambda _: server.loop.stop(), select.EPOLLHUP, urgent=True)
    server.loop.at(args.ends_at, server.loop.stop)
    listen, upstream, protocol = args.link
    try:
        # The link before the interface: whoever is answered may count on both.
        server.create(listen, listen, upstream, protocol=protocol)
        control.listen(args.control)
        server.loop.run()
    except ChaoskitError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        control.close()
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
