"""Every row of the table is asked of our server and of the real Toxiproxy, and both must answer as
it says: so the table is true, and we are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import peers
import pytest

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BY_CHANCE = {"date", "content-length"}
IDENTITY = "x-toxiproxy-request-id"


class Said(NamedTuple):
    """headers: those that say what the answer is, by lower-case name."""

    status: int
    body: str
    headers: dict[str, str]


@dataclass
class Row:
    """One of the table. ours: None where we answer as Toxiproxy does."""

    title: str
    given: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    request: str = ""
    real: Said | None = None
    ours: Said | None = None
    why: str = ""


def read_table() -> tuple[list[Row], dict[str, str]]:
    """The rows, and the texts and requests that have names."""
    named: dict[str, str] = {}
    rows: list[Row] = []
    text = (Path(__file__).parent / "conformance.txt").read_text("utf-8")
    for line in text.split("\n"):
        word, _, rest = line.partition(" ")
        if found := re.fullmatch(r"(\w+) = (.*)", line):
            named[found[1]] = found[2]
        elif word == "#":
            rows.append(Row(rest))
        elif rows and line:
            _read_line(rows[-1], word, rest, line, named)
    return rows, named


def _read_line(row: Row, word: str, rest: str, line: str, named: dict[str, str]) -> None:
    match word:
        case "given":
            row.given = [named[name] for name in rest.split()]
        case "with":
            name, _, value = rest.partition(": ")
            row.headers[name] = value
        case "ours":
            row.ours = _said(rest, named)
        case "why":
            row.why = rest
        case _ if not row.request:
            row.request = line
        case _:
            row.real = _said(line, named)


def _said(text: str, named: dict[str, str]) -> Said:
    status, _, rest = text.partition(" ")
    kind, _, body = rest.partition(" ")
    body = _written(body, named)
    told = {"content-type": TEXT, "x-content-type-options": "nosniff"}
    if kind in ("error", "unread"):
        message = f"bad request body: {body}" if kind == "unread" else body
        error = {"error": message, "status": int(status)}
        body = json.dumps(error, separators=(",", ":"), ensure_ascii=False)
    if kind in ("", "to"):
        return Said(int(status), "", {"location": body} if body else {})
    if kind == "json":
        return Said(int(status), body, {"content-type": JSON})
    if kind == "version":
        told = {"content-type": f"{JSON};charset=utf-8"}
    return Said(int(status), f"{body}\n", told)


def _written(text: str, named: dict[str, str]) -> str:
    text = re.sub(r"\$([A-Z]+)", lambda found: named[found[1]], text)
    return re.sub("~{([0-9a-f]*)}", lambda found: found[1] and chr(int(found[1], 16)), text)


ROWS, NAMED = read_table()


@pytest.fixture(scope="module")
def real() -> Iterator[peers.Running]:
    with peers.toxiproxy() as running:
        yield running


@pytest.fixture(scope="module")
def mine() -> Iterator[peers.Running]:
    with peers.ours() as running:
        yield running


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_both_answer_as_the_table_says(row: Row, real: peers.Running, mine: peers.Running) -> None:
    assert row.real is not None
    assert bool(row.ours) == bool(row.why), "where we differ there is a reason, and only there"
    assert row.ours != row.real
    real_said, real_identified = asked(real, row)
    assert real_said == row.real
    said, identified = asked(mine, row)
    assert said == (row.ours or row.real)
    assert identified == real_identified or row.ours, "whether a request gets a name"


def test_the_table_is_read_whole() -> None:
    assert len(ROWS) > 180
    assert all(row.request and row.real for row in ROWS)
    assert len({row.title for row in ROWS}) == len(ROWS)


def asked(server: peers.Running, row: Row) -> tuple[Said, bool]:
    """The answer to a row's request, on a server that has nothing but what the row wants; and
    whether the request was given a name of its own."""
    for name in json.loads(peers.ask(server, "GET", "/proxies").body):
        peers.ask(server, "DELETE", f"/proxies/{quote(name, safe='')}")
    for line in row.given:
        send(server, line)
    answer = send(server, row.request, row.headers)
    body = answer.body.decode()
    body = re.sub(r'("listen":"(?:127\.0\.0\.1|\[::\])):\d{3,}"', r'\1:PORT"', body)
    body = re.sub(r'("(?:version|chaoskit)": )"[^"]+"', r'\1"VERSION"', body)
    body = body.replace('"Logger":{},', "")
    told = {name: value for name, value in answer.headers.items() if name not in BY_CHANCE}
    identified = bool(re.fullmatch("[0-9a-v]{20}", told.pop(IDENTITY, "")))
    return Said(answer.status, body, told), identified


def send(server: peers.Running, line: str, headers: dict[str, str] | None = None) -> peers.Answer:
    method, path, *body = line.split(" ", 2)
    return peers.ask(server, method, path, _written(body[0], NAMED) if body else None, headers)
