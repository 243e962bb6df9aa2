"""dns: real questions from a container, to docker's own name server and to one beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cells
import daemons
import images
import names
import pytest
from cells import hurt
from daemons import Daemon
from names import KNOWN, Asking, NameServer, asks
from traffic import TCP, UDP, End

from chaoskit.clock import now, until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.dns import Dns
from chaoskit.helpers import dns
from chaoskit.procfs import Process
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.resolver import Resolver, leftover_resolvers

DOCKERS = "127.0.0.11"
"""Where docker's own name server seems to be."""


class Pair:
    """A container that asks docker's name server, and one that asks another's, by IPv4 and IPv6.
    `db` is known to docker."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        network = daemon.network(ipv6=True).name
        made = [daemon.run(name=daemon.name(word), network=network)
                for word in ("web", "db", "other")]  # fmt: skip
        self.web, self.db, self.other = (End(container) for container in made)
        self.server = NameServer(self.db)
        self.servers = [self.db.address(4), self.db.address(6)]
        self.configure(*self.servers)
        for server in self.servers:
            assert until(lambda s=server: self._hears(s), 20)  # type: ignore[misc]

    def configure(self, *servers: str) -> None:
        lines = "".join(f"nameserver {server}\n" for server in servers)
        told = self.other.container.exec_run(
            ["/bin/sh", "-c", f"printf '{lines}' >/etc/resolv.conf".replace("\n", "\\n")]
        )
        assert told.exit_code == 0, told.output

    def _hears(self, server: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(asks(self.other, server, "up.example", within=1.0) == KNOWN)
        return False

    def target(self, end: End, **more: Any) -> ContainerTarget:
        return cells.target(self.daemon, end.container, cells.binding(**more))

    def close(self) -> None:
        for end in (self.web, self.db, self.other):
            end.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    daemon = daemons.shared()
    daemon.revive()
    daemon.empty()
    made = Pair(daemon)
    try:
        yield made
    finally:
        made.close()
        daemon.empty()


@pytest.fixture
def pair(shared: Pair) -> Iterator[Pair]:
    """Each test leaves all rules as they were, byte for byte, and no helper."""
    before = [cells.rules(shared.target(end)) for end in (shared.web, shared.other)]
    yield shared
    assert [cells.rules(shared.target(end)) for end in (shared.web, shared.other)] == before
    assert helpers() == []


def helpers() -> list[str]:
    return [mark for mark, _ in leftover_resolvers() if cells.RUN in mark]


def dead(mark: str) -> bool:
    return until(lambda: not any(found == mark for found, _ in leftover_resolvers()), cells.SOON)


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_dockers_answers_are_wrong_for_that_name_and_right_for_others(
    pair: Pair, kind: int
) -> None:
    right = pair.db.address()
    fault = Dns(("api.example", "*.internal"))
    with hurt(fault, pair.target(pair.web)):
        for name in ("api.example", "API.example", "a.internal", "a.b.internal"):
            assert asks(pair.web, DOCKERS, name, kind) == "192.0.2.1"
            assert asks(pair.web, DOCKERS, name, kind, of=dns.AAAA) == "none"
            assert asks(pair.web, DOCKERS, name, kind, of=16) == "none"
        assert asks(pair.web, DOCKERS, pair.db.name, kind) == right
        assert asks(pair.web, DOCKERS, pair.db.name, kind, of=dns.AAAA) == pair.db.address(6)
    assert asks(pair.web, DOCKERS, pair.db.name, kind) == right


def test_a_program_in_it_goes_where_it_is_sent(pair: Pair) -> None:
    def target_of_ping() -> str:
        told = pair.web.container.exec_run(
            ["ping", "-4", "-c1", "-W1", pair.db.name]
        ).output.decode()
        return str(told.partition("(")[2].partition(")")[0])

    assert target_of_ping() == pair.db.address()
    with hurt(Dns((pair.db.name,), address=pair.other.address()), pair.target(pair.web)):
        assert target_of_ping() == pair.other.address()
    assert target_of_ping() == pair.db.address()


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_every_name_server_of_its_configuration_is_replaced(pair: Pair, kind: int) -> None:
    asked = len(pair.server.asked)
    with hurt(Dns(("*.internal",), address="2001:db8::1"), pair.target(pair.other)):
        for server in pair.servers:
            assert asks(pair.other, server, "a.internal", kind) == "none"
            told = asks(pair.other, server, "a.internal", kind, of=dns.AAAA)
            assert told == "2001:db8::1"
            assert asks(pair.other, server, "b.example", kind) == KNOWN
    assert set(pair.server.asked[asked:]) == {"b.example"}


@pytest.mark.parametrize("how", ["nxdomain", "servfail", "silence"])
@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_it_fails_as_it_should(pair: Pair, how: Any, kind: int) -> None:
    expected = {"nxdomain": 3, "servfail": 2, "silence": "silence"}[how]
    with hurt(Dns(("a.example",), "failing", how=how), pair.target(pair.other)):
        for server in pair.servers:
            within = 0.4 if how == "silence" else 10.0
            assert asks(pair.other, server, "a.example", kind, within=within) == expected
            assert asks(pair.other, server, "b.example", kind) == KNOWN
    assert asks(pair.other, pair.servers[0], "a.example", kind) == KNOWN


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_it_is_slow_for_that_name_only(pair: Pair, kind: int) -> None:
    def took(name: str) -> float:
        begin = time.monotonic()
        assert asks(pair.other, pair.servers[0], name, kind) == KNOWN
        return time.monotonic() - begin

    with hurt(Dns(("a.example",), "slow", delay=0.7), pair.target(pair.other)):
        assert took("a.example") >= 0.7
        assert min(took("b.example") for _ in range(5)) < 0.5
    assert min(took("a.example") for _ in range(5)) < 0.5


@pytest.mark.parametrize("who", ["web", "other"])
def test_a_socket_that_was_open_is_led_there_and_back(pair: Pair, who: str) -> None:
    end = getattr(pair, who)
    server = DOCKERS if who == "web" else pair.servers[0]
    name, right = (pair.db.name, pair.db.address()) if who == "web" else ("a.example", KNOWN)
    live = Asking(end, server)
    assert live.ask(name) == right
    for _ in range(2):
        with hurt(Dns((name,)), pair.target(end)):
            assert live.ask(name) == "192.0.2.1"
        assert live.ask(name) == right


def test_many_questions_at_once(pair: Pair) -> None:
    with hurt(Dns(("a.example",)), pair.target(pair.other)):
        wrong: list[str] = []

        def ask() -> None:
            asking = Asking(pair.other, pair.servers[0])
            for _ in range(40):
                if (asking.ask("a.example"), asking.ask("b.example")) != ("192.0.2.1", KNOWN):
                    wrong.append("wrong")

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_questions_in_a_row_on_one_connection(pair: Pair) -> None:
    with hurt(Dns(("a.example",), "slow", delay=1.0), pair.target(pair.other)):
        asking = Asking(pair.other, pair.servers[0], TCP)
        for name in ("a.example", "b.example"):
            query = dns.ask(name, number=7 if name == "a.example" else 8)
            asking.socket.sendall(len(query).to_bytes(2, "big") + query)
        # The second is not held up by the first.
        assert [names.message(asking.socket)[:2] for _ in range(2)] == [b"\0\x08", b"\0\x07"]


def test_a_name_server_that_is_away_is_told_at_once(pair: Pair) -> None:
    away = pair.web.address()
    pair.configure(away)
    try:
        with hurt(Dns(("a.example",)), pair.target(pair.other)):
            for kind in (UDP, TCP):
                assert asks(pair.other, away, "a.example", kind) == "192.0.2.1"
                assert asks(pair.other, away, "b.example", kind) == 2
    finally:
        pair.configure(*pair.servers)


def test_the_plan_says_whose_answers_are_meant(pair: Pair) -> None:
    told = Dns(("a.example",)).remarks(pair.target(pair.other))
    assert all(server in told[0] for server in pair.servers)
    assert DOCKERS in Dns(("a.example",)).remarks(pair.target(pair.web))[0]


@pytest.mark.parametrize(
    "meddle", ["table", "chain", "armed", "helper", "another server", "right after all"]
)
def test_it_is_not_there_when_somebody_has_meddled(pair: Pair, meddle: str) -> None:
    fault, on = Dns(("a.example",)), pair.target(pair.other)
    changes = cells.inject(fault, on)
    try:
        assert until(lambda: fault.took(on, changes), cells.SOON)
        match meddle:
            case "table":
                cells.in_network(on, "nft", "delete", "table", "inet", on.mark)
            case "chain":
                cells.in_network(on, "nft", "flush", "chain", "inet", on.mark, "questions")
            case "armed":
                cells.in_network(on, "nft", "flush", "set", "inet", on.mark, "armed")
            case "helper":
                on.end_answering(f"{on.mark}-dns")
                assert until(lambda: not fault.took(on, changes), cells.SOON)
                with pytest.raises(ChaoskitError, match="has ended"):
                    fault.keep(on, changes)
            case "another server":
                pair.configure(*pair.servers, "198.51.100.1")
            case _:
                # Whatever the reason, what counts is what is answered.
                assert not Dns(("b.example",)).took(on, changes)
                return
        assert not fault.took(on, changes)
    finally:
        cells.undo(fault, on, changes)
        pair.configure(*pair.servers)


def test_without_its_runner_the_helper_takes_the_table_away(pair: Pair) -> None:
    reading, writing = os.pipe()
    on = pair.target(pair.other, lifeline=reading)
    fault = Dns(("a.example",))
    changes = cells.inject(fault, on)
    assert until(lambda: fault.took(on, changes), cells.SOON)
    os.close(writing)
    assert dead(f"{on.mark}-dns")
    assert until(lambda: on.table(changes[1].key) is None, cells.SOON)
    assert asks(pair.other, pair.servers[0], "a.example") == KNOWN
    os.close(reading)
    cells.undo(fault, on, changes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_on_a_signal_it_takes_the_table_away(pair: Pair, number: signal.Signals) -> None:
    fault, on = Dns(("a.example",)), pair.target(pair.other)
    changes = cells.inject(fault, on)
    assert until(lambda: fault.took(on, changes), cells.SOON)
    for mark, process in leftover_resolvers():
        if mark == f"{on.mark}-dns":
            process.signal(number)
    assert dead(f"{on.mark}-dns")
    assert until(lambda: on.table(changes[1].key) is None, cells.SOON)
    cells.undo(fault, on, changes)


def test_its_time_is_limited(pair: Pair) -> None:
    on = pair.target(pair.other, ends_at=now() + 8.0)
    fault = Dns(("a.example",))
    changes = cells.inject(fault, on)
    assert asks(pair.other, pair.servers[0], "a.example") == "192.0.2.1"
    assert dead(f"{on.mark}-dns")
    assert until(lambda: on.table(changes[1].key) is None, cells.SOON)
    cells.undo(fault, on, changes)


def test_a_killed_helper_is_in_nobodys_way_for_longer_than_the_run(pair: Pair) -> None:
    on = pair.target(pair.other, ends_at=now() + 8.0)
    fault = Dns(("a.example",))
    changes = cells.inject(fault, on)
    on.end_answering(f"{on.mark}-dns")
    assert until(lambda: pair._hears(pair.servers[0]), cells.SOON)
    assert on.table(changes[1].key) == on.mark
    cells.undo(fault, on, changes)


def test_it_ends_with_its_target(pair: Pair) -> None:
    box = pair.daemon.run(network=pair.daemon.network().name)
    on, fault = cells.target(pair.daemon, box), Dns(("a.example",))
    changes = cells.inject(fault, on)
    assert until(lambda: fault.took(on, changes), cells.SOON)
    box.remove(force=True)
    assert dead(f"{on.mark}-dns")

    def ended() -> bool:
        with contextlib.suppress(Gone):
            fault.look(on, changes[1])
            return False
        return True

    assert until(ended, cells.SOON)
    assert not fault.took(on, changes)
    fault.keep(on, changes)


def test_the_scan_finds_both_without_any_journal(pair: Pair, tmp_path: Path) -> None:
    from chaoskit.journal import State
    from chaoskit.recovery import scan

    run = "20261123-053812-dd" + os.urandom(2).hex()
    on, fault = pair.target(pair.other, run=run), Dns(("a.example",))
    changes = cells.inject(fault, on)
    found = [left for left in scan(State(tmp_path), [], print) if left.run == run]
    assert [left.kind for left in found] == ["table", "process"]
    for left in found:
        left.end()
    assert dead(f"{on.mark}-dns")
    assert on.table(changes[1].key) is None
    assert asks(pair.other, pair.servers[0], "a.example") == KNOWN


class Rooted(Resolver):
    """A process with a root of its own, and nothing else of a target."""

    def __init__(self, pid: int) -> None:
        self.root = Process.at(pid)
        self.binding = cells.binding()


def test_its_configuration_is_read_as_it_sees_it(tmp_path: Path) -> None:
    busybox = images.busybox()
    assert busybox
    shutil.copy(busybox, tmp_path / "sleep")
    for folder in ("etc", "run/own"):
        (tmp_path / folder).mkdir(parents=True)
    # An absolute link, which would lead us to a file of this machine.
    (tmp_path / "etc/resolv.conf").symlink_to("/run/own/resolv")
    file = tmp_path / "run/own/resolv"
    file.write_text("# nameserver 198.51.100.1\nsearch example\nnameserver\tfd00::1\n"
                    "nameserver 198.51.100.9 \nnameserver nonsense\n")  # fmt: skip
    process = subprocess.Popen(["chroot", str(tmp_path), "/sleep", "600"])
    try:
        on = Rooted(process.pid)
        # A process that is just becoming another program has no command line.
        assert until(lambda: on.root.cmdline()[:1] == ["/sleep"], cells.SOON)
        assert on.resolvers() == ["fd00::1", "198.51.100.9"]
        file.unlink()
        assert on.resolvers() == ["127.0.0.1"]  # As resolv.conf(5) has it.
        os.mkfifo(file)
        with pytest.raises(ChaoskitError, match="cannot be read"):
            on.resolvers()
    finally:
        process.kill()
        process.wait()
    with pytest.raises(Gone):
        on.resolvers()
