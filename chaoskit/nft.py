"""nftables, in tables of our own: loaded in one transaction, known by name, deleted whole.

Other people's rules are never read, changed or counted on. See nft(8).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from chaoskit.errors import ChaoskitError

TIMEOUT = 10.0
"""Seconds that one call of nft may take."""
FAMILY = "inet"
"""One table for IPv4 and IPv6."""

Runner = Callable[[Sequence[str], str], str]
"""Calls nft with these arguments and this standard input, in some network namespace; what it
printed. Raises ChaoskitError with what it complained of, Gone when the namespace is gone."""


def here(arguments: Sequence[str], commands: str = "") -> str:
    """The runner for the network namespace of the calling thread."""
    return _checked(
        subprocess.run(
            [_program(), *arguments],
            input=commands,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    )


def missing() -> str | None:
    """Why nft cannot be used on this machine; None when it is there."""
    return None if shutil.which("nft") else "nft is not installed (Debian's package nftables)"


def table_name(mark: str) -> str:
    """A mark as the name of a table. nft takes letters, digits, `-`, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", mark)


def tables(run: Runner) -> list[str]:
    """The names of all tables of our family there."""
    return [
        item["table"]["name"]
        for item in _items(run(["-j", "list", "tables", FAMILY], ""))
        if "table" in item and item["table"]["family"] == FAMILY
    ]


def rules(run: Runner, table: str) -> list[dict[str, Any]]:
    """The rules of one of our tables, as nft's JSON has them (see libnftables-json(5)); counters
    move. Raises ChaoskitError when there is no such table."""
    told = run(["-j", "list", "table", FAMILY, table], "")
    return [item["rule"] for item in _items(told) if "rule" in item]


def load(run: Runner, table: str, body: str) -> None:
    """Make the table with that body (chains, sets), whole or not at all."""
    _do(run, f"create table {FAMILY} {table}\ntable {FAMILY} {table} {{\n{body}\n}}\n")


def replace_set(run: Runner, table: str, name: str, elements: list[str]) -> None:
    """Put these elements in place of those that a set has, in one transaction."""
    commands = f"flush set {FAMILY} {table} {name}\n"
    if elements:
        commands += f"add element {FAMILY} {table} {name} {{ {', '.join(elements)} }}\n"
    _do(run, commands)


def delete(run: Runner, table: str) -> None:
    """Take the table away, with all that is in it."""
    _do(run, f"delete table {FAMILY} {table}\n")


def _do(run: Runner, commands: str) -> None:
    run(["-f", "-"], commands)  # Not as JSON: what is no JSON would be passed over in silence.


def _program() -> str:
    for place in (None, "/usr/sbin:/sbin:/usr/local/sbin"):
        if found := shutil.which("nft", path=place):
            return found
    raise ChaoskitError(missing())


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror:" in line]
        told = (lines or done.stderr.splitlines() or ["no reason was given"])[0]
        raise ChaoskitError(f"nft: {told.partition('rror: ')[2] or told}")
    return done.stdout


def _items(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["nftables"] if text.strip() else []
    return found
