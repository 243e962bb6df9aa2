"""nftables, in tables of our own: loaded in one transaction, known by name, deleted whole.

Other people's rules are never read, changed or counted on. See nft(8).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaoskit.errors import ChaoskitError

TIMEOUT = 10.0
"""Seconds that one call of nft may take."""
FAMILY = "inet"
"""One table for IPv4 and IPv6."""

Runner = Callable[[Sequence[str], str], str]
"""Calls nft with these arguments and this standard input, in some network namespace; what it
printed. Raises ChaoskitError with what it complained of, Gone when the namespace is gone."""


@dataclass(slots=True)
class Contents:
    """What is in one of our tables now.

    hooks: of each chain, the hook that it hangs on, or "". rules: of each chain, how many it has.
    elements: of each set, how many it has. packets: of each chain, what its counters have counted.
    asleep: somebody has set the flag by which a table does nothing.
    """

    hooks: dict[str, str] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    packets: dict[str, int] = field(default_factory=dict)
    asleep: bool = False


def here(arguments: Sequence[str], commands: str = "", mark: str = "") -> str:
    """The runner for the network namespace of the calling thread. mark: of the step for which it is
    called. Should we be killed meanwhile, whoever undoes the step finds the nft that goes on by it,
    and ends it first: it could still put in what was looked for and not found."""
    try:
        done = subprocess.run(
            [program(), *arguments],
            input=commands,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "CHAOSKIT_COMMAND": mark} if mark else None,
        )
    except subprocess.TimeoutExpired as error:
        raise ChaoskitError(f"nft did not end within {TIMEOUT:g}s") from error
    return checked(done.returncode, done.stdout, done.stderr)


def missing() -> str | None:
    """Why nft cannot be used on this machine; None when it is there."""
    return None if _found() else "nft is not installed (Debian's package nftables)"


def program() -> str:
    """Where nft is. Raises ChaoskitError."""
    if found := _found():
        return found
    raise ChaoskitError(missing())


def table_name(mark: str) -> str:
    """A mark as the name of a table. nft takes letters, digits, `-`, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", mark)


def tables(run: Runner) -> list[str]:
    """The names of all tables of our family there."""
    # Not as JSON, which nft 1.0 writes wrongly as soon as anybody's table has a flag.
    lines = run(["list", "tables", FAMILY], "").splitlines()
    return [words[2] for line in lines if len(words := line.split()) >= 3]


def rules(run: Runner, table: str) -> list[dict[str, Any]]:
    """The rules of one of our tables, as nft's JSON has them (see libnftables-json(5)); counters
    move. Raises ChaoskitError when there is no such table."""
    told = run(["-j", "list", "table", FAMILY, table], "")
    return [item["rule"] for item in _items(told) if "rule" in item]


def contents(run: Runner, table: str) -> Contents:
    """What is in one of our tables. Raises ChaoskitError when there is no such table."""
    found = Contents()
    for item in _items(run(["-j", "list", "table", FAMILY, table], "")):
        match item:
            case {"table": told}:
                found.asleep = "dormant" in told.get("flags", ())
            case {"set": told}:
                found.elements[told["name"]] = len(told.get("elem", ()))
            case {"chain": told}:
                found.hooks[told["name"]] = told.get("hook", "")
                found.rules.setdefault(told["name"], 0)
                found.packets.setdefault(told["name"], 0)
            case {"rule": told}:
                chain = told["chain"]
                found.rules[chain] = found.rules.get(chain, 0) + 1
                counters = (part["counter"] for part in told["expr"] if "counter" in part)
                counted = sum(counter["packets"] for counter in counters)
                found.packets[chain] = found.packets.get(chain, 0) + counted
    return found


def load(run: Runner, table: str, body: str) -> None:
    """Make the table with that body (chains, sets), whole or not at all."""
    _do(run, f"create table {FAMILY} {table}\ntable {FAMILY} {table} {{\n{body}\n}}\n")


def replace_sets(run: Runner, table: str, sets: Mapping[str, Sequence[str]]) -> None:
    """Put these elements in place of those that the sets of these names have, in one
    transaction."""
    commands = ""
    for name, elements in sets.items():
        commands += f"flush set {FAMILY} {table} {name}\n"
        if elements:
            commands += f"add element {FAMILY} {table} {name} {{ {', '.join(elements)} }}\n"
    _do(run, commands)


def delete(run: Runner, table: str) -> None:
    """Take the table away, with all that is in it; nothing when there is none."""
    _do(run, deletion(table))


def deletion(table: str) -> str:
    """The commands for that. One that is not there is made first, in the same transaction: else it
    could not be deleted, and nobody could tell that from trouble."""
    return f"add table {FAMILY} {table}; delete table {FAMILY} {table}\n"


def _do(run: Runner, commands: str) -> None:
    run(["-f", "-"], commands)  # Not as JSON: what is no JSON would be passed over in silence.


def _found() -> str | None:
    places = (None, "/usr/sbin:/sbin:/usr/local/sbin")
    return next(filter(None, (shutil.which("nft", path=place) for place in places)), None)


def checked(code: int, output: str, errors: str) -> str:
    """What nft has printed. Raises ChaoskitError with what it complained of."""
    if code:
        raise ChaoskitError(f"nft: {_complaint(errors.splitlines())}")
    return output


def _complaint(lines: Sequence[str]) -> str:
    """The first of its errors, with the line of ours that it shows below it."""
    for number, line in enumerate(lines):
        if "rror:" in line:
            told = line.partition("rror: ")[2]
            shown = next((below.strip() for below in lines[number + 1 :]), "")
            return f"{told}: `{shown}`" if shown else told
    return lines[0] if lines else "no reason was given"


def _items(text: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(text)["nftables"] if text.strip() else []
    except ValueError as error:
        raise ChaoskitError(f"nft: its answer is no JSON: {error}") from error
    return found
