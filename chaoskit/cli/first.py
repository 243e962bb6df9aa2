"""The words of a first experiment: the YAML that `chaoskit init` writes, and what it says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaoskit.errors import InputError

_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person named; the empty ones they did not."""

    process: str
    pid: int | None
    url: str
    port: int | None

    @property
    def empty(self) -> bool:
        return not (self.process or self.pid or self.url or self.port)

    def target(self) -> str:
        """The selector of the process to freeze; "" when nothing of theirs leads to one."""
        if self.process:
            return f"{{cmdline: {_quoted(self.process)}}}"
        if self.pid:
            return f"{{pid: {self.pid}}}"
        port = self.port or _local_port(self.url)
        return f"{{port: {port}}}" if port else ""


def _local_port(url: str) -> int | None:
    """The port of a URL that somebody on this machine answers. Raises InputError."""
    if not url:
        return None
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError([f"chaoskit init: the URL is wrong: {error}"]) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError([f"chaoskit init: {url!r} is no http or https URL"])
    if parts.hostname not in _LOCAL:
        return None
    return port or (443 if parts.scheme == "https" else 80)


def _quoted(text: str) -> str:
    """As a double-quoted YAML string in which `${` is no variable."""
    if not text.isprintable():
        raise InputError([f"chaoskit init: {text!r} holds characters that cannot be written"])
    return json.dumps(text, ensure_ascii=False).replace("${", "$${")


def _checks(wish: Wish) -> Iterator[tuple[str, str]]:
    """Each check's name and its lines."""
    if wish.url:
        yield (
            "it answers",
            f"""\
  - name: it answers
    http: {{url: {_quoted(wish.url)}, timeout: 2s}}
    expect: {{status: 200}}
""",
        )
    if wish.port:
        yield (
            "the port is open",
            f"""\
  - name: the port is open
    tcp: {{address: "127.0.0.1:{wish.port}", timeout: 2s}}
    expect: {{equals: true}}
""",
        )
    if wish.process or (wish.pid and not wish.url and not wish.port):
        yield (
            "the process lives",
            f"""\
  - name: the process lives
    process: {wish.target()}
    expect: {{count: {{above: 0}}}}
""",
        )


def experiment(wish: Wish, file: str) -> str:
    """The YAML of a first experiment. Raises InputError when a wish cannot be written down."""
    target = wish.target()
    checks = list(_checks(wish))
    steady = "".join(lines for _, lines in checks)
    method = (
        f"""\
  - fault: pause                # freezes it with SIGSTOP; SIGCONT lets it go on
    target: {{process: {target}, pick: 1}}
    for: 5s
"""
        if target
        else """\
  - wait: 5s                    # that URL is on another machine: name a process here to break it
  # - fault: pause
  #   target: {process: {cmdline: "worker\\\\.py"}, pick: 1}
  #   for: 5s
"""
    )
    title = "One process is frozen for five seconds" if target else "It is well for five seconds"
    return f"""\
# A first experiment. In this order:
#   chaoskit check   tells what is wrong with this file
#   chaoskit plan    shows which process it would be, and how it is undone
#   chaoskit run     runs it; whatever happens, everything is put back
chaoskit: 1
title: {title}
hypothesis: Nobody notices. If that turns out wrong, something has been learnt.

# What "healthy" means. It must hold before anything is broken, is watched while something is, and
# must hold again afterwards.
steady-state:
{steady}
# What is broken, and for how long.
method:
{method}
# When to stop at once and undo: so many failed readings in a row.
gates:
  - {{check: {checks[0][0]}, every: 1s, consecutive: 3}}

# What a run of this file may hurt at most. `chaoskit plan` refuses what goes beyond.
blast-radius: {{max-targets: 1, max-duration: 2m}}
"""


def explained(wish: Wish, file: Path) -> Iterator[str]:
    """What it does, in a few lines, and what to type next."""
    from shlex import quote

    names = " and ".join(f"{name!r}" for name, _ in _checks(wish))
    yield f"  steady-state  what healthy means: {names}"
    if wish.target():
        yield f"  method        freeze one process {wish.target()} for 5s, then let it go on"
    else:
        yield "  method        only a wait: name a process in it to break something"
    yield "  gates         3 failures in a row stop the run and undo at once"
    yield "  blast-radius  at most one process, at most 2 minutes"
    if wish.pid:
        yield "  a pid is another one after a restart: `cmdline` finds the process again"
    yield f"next: chaoskit plan {quote(str(file))}"
    yield f"then: chaoskit run {quote(str(file))}"
