"""`chaoskit demo`: a shop of real processes opens, two experiments break it, and it closes."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from chaoskit.cli.common import add_json, open_state, state_option
from chaoskit.cli.scenes import SCENES
from chaoskit.errors import ChaoskitError, Refused
from chaoskit.model.result import Result
from chaoskit.model.verdict import Verdict, worst
from chaoskit.report.stream import printable, say, say_json

SUMMARY = "Open a small shop of real processes on this machine, break it twice, and watch."
EXAMPLES = """\
  chaoskit demo
  chaoskit demo --plain"""

_PORTS = 4
_OPENING = 30.0
"""Seconds that the shop may take to open."""
_LONGEST = 300
"""Seconds after which the shop closes by itself, should we die."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Shop:
    """An open shop: its name, by which its processes are found, and its front."""

    name: str
    url: str


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain lines, no live view")
    add_json(parser)


def run(args: Namespace) -> int:
    state = open_state(args)
    results: list[Result] = []
    with _orderly_end(), _shop() as shop, tempfile.TemporaryDirectory(prefix="chaoskit-") as folder:
        if not args.json:
            say(f"A small shop is open at {shop.url}: a web front, two carts, workers, a ledger.")
        for scene in SCENES:
            from chaoskit import spec
            from chaoskit.cli.run import one

            file = Path(folder) / scene.file
            file.write_text(scene.text)
            if not args.json:
                say(["", *scene.said, ""])
            variables = {"SHOP": shop.name, "SHOP_URL": shop.url}
            experiment = spec.load(file, variables)
            result, aborted_by = one(
                experiment, state, Namespace(**vars(args), seed=None, reason="chaoskit demo")
            )
            results.append(result)
            if result.verdict is not scene.expected or aborted_by in ("signal", "halt"):
                break
    return _ending(results, args)


def _ending(results: list[Result], args: Namespace) -> int:
    """0 when every scene came to what was expected of it, else what went wrong."""
    pairs = list(zip(results, SCENES, strict=False))
    odd = [r.verdict or Verdict.FAILED for r, scene in pairs if r.verdict is not scene.expected]
    interrupted = len(results) < len(SCENES)
    code = worst(odd).exit_code if odd else Verdict.ABORTED.exit_code if interrupted else 0
    if args.json:
        runs = [result.to_json() for result in results]
        say_json({"schema": 1, "kind": "demo", "exit": code, "runs": runs})
    elif code:
        say(
            [
                "",
                "The demo did not go as it should; the verdict above says why. The shop is closed.",
            ]
        )
    else:
        state = state_option(args)
        say(["", "Both went as they should, everything was put back, and the shop is closed."])
        say("The reports, each with the experiment as it was run beside it:")
        say(printable(f"  {Path(result.folder) / 'report.md'}") for result in results)
        say(["What next:", f"  chaoskit report{state}", "  chaoskit init", "  chaoskit faults"])
    return code


def find_shop() -> Path:
    """The shop's supervisor: in the installed package, or in the repository beside it.

    Raises ChaoskitError where it is in neither.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_demo" / "shop", package.parent / "examples" / "shop"):
        if (supervisor := folder / "supervisor.py").is_file():
            return supervisor
    raise ChaoskitError("the demo's shop is not part of this installation")


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Let a signal outside a run, too, close the shop before it ends us."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shop() -> Iterator[Shop]:
    """Open the shop in a folder of its own, and close it whatever happens."""
    supervisor = find_shop()
    with tempfile.TemporaryDirectory(prefix="chaoskit-shop-", ignore_cleanup_errors=True) as folder:
        trouble = ""
        for number in range(_TRIES):
            data = Path(folder) / str(number)
            process, shop = _start(supervisor, data)
            try:
                trouble = _wait_open(process)
                if not trouble:
                    yield shop
                    return
            finally:
                _close(process)
        raise Refused(f"the demo's shop did not open: {trouble}")


def _start(supervisor: Path, data: Path) -> tuple[subprocess.Popen[bytes], Shop]:
    port = _free_ports()
    shop = Shop(f"demo-{os.getpid()}", f"http://127.0.0.1:{port}")
    process = subprocess.Popen(
        [
            *(sys.executable, str(supervisor), "--shop", shop.name, "--data", str(data)),
            *("--port", str(port), "--for", str(_LONGEST)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the run; the shop must be there for its undo and its verification.
        start_new_session=True,
    )
    return process, shop


def _free_ports() -> int:
    """The first of so many free ports in a row, below those that the kernel gives to clients."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for offset in range(_PORTS):
                one = held.enter_context(socket.socket())
                # As a server binds: connections that were closed a moment ago are in nobody's way.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port + offset))
                one.listen()
            return port
    raise Refused("there are no free ports in a row on 127.0.0.1")


def _wait_open(process: subprocess.Popen[bytes]) -> str:
    """Until the supervisor says that the shop is open; what it says instead, or ""."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], _OPENING)
    if not ready:
        return f"nothing was heard of it for {_OPENING:g} s"
    line = process.stdout.readline().decode(errors="replace").strip()
    return "" if "is open" in line else line or "its supervisor ended at once"


def _close(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM closes the whole shop; its processes end as well when the supervisor is killed."""
    process.terminate()
    try:
        process.wait(10)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout:
            process.stdout.close()
