"""`chaoskit proxy`: a fault proxy that everything which speaks to Toxiproxy can speak to."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaoskit.cli.common import add_json
from chaoskit.report.stream import printable, say, say_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoskit.proxy.server import Server

SUMMARY = """\
Carry TCP and UDP traffic between services and add faults to it, as Toxiproxy's HTTP interface asks.
It runs until SIGINT or SIGTERM; then every connection through it ends."""
EXAMPLES = """\
  chaoskit proxy
  chaoskit proxy --listen 127.0.0.1:8474 --config proxies.yaml
  chaoskit proxy --listen unix:/run/user/1000/proxy.sock --seed 7 --max-memory 256MiB"""
LISTEN = "127.0.0.1:8474"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=LISTEN,
        help=f"where the HTTP interface listens (default: {LISTEN}); also unix:/path. It is asked "
        "by this host's name, as localhost or by an IP address; other names are refused",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="a JSON or YAML list of proxies, each of which may have toxics, to begin with",
    )
    parser.add_argument(
        "--seed", type=int, help="of every random draw (default: another one each time)"
    )
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        type=_size,
        help="what all connections together may hold before senders are slowed down "
        "(default: 1GiB)",
    )
    add_json(parser)


def _size(text: str) -> int:
    from chaoskit.model.units import parse_size

    try:
        size = parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if size < 1024 * 1024:
        raise ArgumentTypeError("at least 1MiB is needed")
    return size


def run(args: Namespace) -> int:
    from chaoskit.proxy.control import Control
    from chaoskit.proxy.descriptors import open_many
    from chaoskit.proxy.server import MEMORY, Server

    open_many()
    server = Server(seed=args.seed, memory=args.max_memory or MEMORY)
    control = Control(server)
    try:
        where = control.listen(args.listen)
        if args.config:
            _configure(server, args.config)
        _until_signalled(server, lambda: _tell(server, where, args.json))
    finally:
        control.close()
        server.close()
    return 0


def _configure(server: Server, path: Path) -> None:
    """Make what the file lists. Raises InputError or Refused with file, line and column."""
    from chaoskit.errors import InputError, Problem, Refused
    from chaoskit.proxy.config import WrongEntry, load
    from chaoskit.spec.nodes import Listing, Node, Table, plain
    from chaoskit.spec.problems import Problems
    from chaoskit.spec.source import read, text_of
    from chaoskit.spec.yaml_reader import read_tree

    problems = Problems(str(path))
    root = read_tree(text_of(read(path), str(path)), problems)
    if problems:
        raise InputError(problems.listed())
    try:
        load(server, plain(root))
    except WrongEntry as wrong:
        at, node = root.at, root
        for step in wrong.place:
            found: Node | None = None
            if isinstance(node, Listing) and isinstance(step, int):
                found = node.items[step]
                at = found.at
            elif isinstance(node, Table) and step in node.entries:
                at, found = node.entries[str(step)]
            if found is None:
                break
            node = found
        problem = Problem(str(path), *at, printable(wrong))
        if wrong.taken:
            raise Refused(str(problem)) from wrong
        raise InputError([problem]) from wrong


def _tell(server: Server, where: str, json: bool) -> None:
    """Say where it listens and what it carries."""
    links = list(server.links.values())
    if json:
        shown: dict[str, Any] = {"schema": 1, "kind": "proxy", "listen": where}
        say_json({**shown, "proxies": [link.show() for link in links]})
        return
    say(f"chaoskit proxy listens on {where if where.startswith('unix:') else f'http://{where}'}")
    for link in links:
        toxics = ", ".join(toxic.name for toxic in link.toxics())
        notes = [
            *([] if link.enabled else ["disabled"]),
            *([f"toxics: {toxics}"] if toxics else []),
        ]
        told = f" ({'; '.join(notes)})" if notes else ""
        say(printable(f"  {link.name}  {link.listen} -> {link.upstream}{told}"))


def _until_signalled(server: Server, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM. ready: called when they are heeded."""
    import os
    import signal

    # The loop waits in a system call that goes on after a handler: it must be woken.
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    loop = server.loop
    ending = (signal.SIGINT, signal.SIGTERM)

    def heard(_: int) -> None:
        if any(number in ending for number in os.read(reading, 4096)):
            loop.stop()

    loop.watch(reading, heard, urgent=True)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in ending}
    try:
        ready()
        loop.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        loop.unwatch(reading)
        os.close(reading)
        os.close(writing)
