"""Delays on containers where the kernel has no netem, or not everybody is meant: the redirect."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cells
import pytest
from cells import SOON, hurt
from daemons import Daemon
from traffic import LONG, TCP, UDP, End, echoed

from chaoskit import nft, qdisc
from chaoskit.clock import now, until
from chaoskit.errors import ChaoskitError
from chaoskit.faults import peers
from chaoskit.faults.slow_network import SlowNetwork
from chaoskit.faults.spoiled_packets import SpoiledPackets
from chaoskit.model.fault import Change
from chaoskit.targets import proxy_process, redirect
from chaoskit.targets.container import ContainerTarget

DELAY = 0.6
"""Seconds: what takes less was not delayed, on a busy machine too."""
MOST = 8.0


class Two:
    """A container that is hurt, `web`, and one that it talks with; both answer everywhere.

    Two that are as they were go to the next test: to start them costs more than to hurt them.
    """

    _free: ClassVar[list[Two]] = []

    @classmethod
    def on(cls, daemon: Daemon, folder: Path) -> Two:
        two = cls._free.pop() if cls._free else cls(daemon)
        two.folder = folder
        try:
            assert two.rules() == two.before
        except (AssertionError, ValueError, ChaoskitError):  # The daemon was emptied meanwhile.
            two.close()
            two = cls(daemon)
            two.folder = folder
        two.reading, two.writing = os.pipe()
        return two

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.folder = Path()
        self.reading = self.writing = -1
        network = daemon.network(ipv6=True)
        made = [daemon.run(name=daemon.name(word), network=network.name) for word in ("web", "db")]
        self.web, self.db = (End(container) for container in made)
        for end in (self.web, self.db):
            end.serve(80, 5432)
        for version in (4, 6):
            assert self.web.reaches(self.db.address(version))
            assert self.db.reaches(self.web.address(version))
        self.before = self.rules()

    def target(self, step: str = "1", **more: Any) -> ContainerTarget:
        """As a runner has it, which holds the other end of the lifeline."""
        bound = cells.binding(step, lifeline=self.reading, **more)
        return cells.target(self.daemon, self.web.container, replace(bound, folder=self.folder))

    def cut(self) -> None:
        """The runner is gone."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def give_back(self) -> None:
        self.cut()
        os.close(self.reading)
        assert until(lambda: not our_proxies(), SOON)
        assert self.rules() == self.before
        assert not list(self.folder.glob("*.sock"))
        self._free.append(self)

    def rules(self) -> str:
        """All rules in the network of the one that is hurt, and who listens in it."""
        on = cells.target(self.daemon, self.web.container)
        return cells.rules(on) + cells.in_network(on, "ss", "-Hltn")

    def close(self) -> None:
        for end in (self.web, self.db):
            end.close()


@pytest.fixture
def two(session_daemon: Daemon, tmp_path: Path) -> Iterator[Two]:
    session_daemon.revive()
    made = Two.on(session_daemon, tmp_path)
    yield made
    made.give_back()


@pytest.fixture(autouse=True)
def without_netem(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose kernel has it, it is not taken here."""
    monkeypatch.setattr(qdisc, "missing", lambda: "this kernel has no netem")


def our_proxies() -> list[int]:
    return [p.pid for mark, p in proxy_process.leftover_proxies() if cells.RUN in mark]


def takes(one: End, other: End, port: int = 80, kind: int = TCP, version: int = 4) -> float:
    """Seconds for a question and its answer."""
    address = other.address(version)
    with one.socket(kind, version) as made:
        made.settimeout(MOST)
        made.connect((address, port))
        began = time.monotonic()
        made.send(b"hello")
        assert made.recv(99) == b"hello"
        return time.monotonic() - began


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("direction", "times"), [("out", 1), ("in", 1), ("both", 2)])
def test_what_it_opens_and_what_comes_to_it_is_late(
    two: Two, version: int, direction: Any, times: int
) -> None:
    with hurt(SlowNetwork(DELAY, direction=direction), two.target()):
        assert times * DELAY <= takes(two.web, two.db, version=version) < MOST
        assert times * DELAY <= takes(two.db, two.web, version=version) < MOST
        assert takes(two.web, two.db, kind=UDP, version=version) < DELAY
        assert takes(two.web, two.web, version=version) < DELAY, "what stays in it is not"
    assert takes(two.web, two.db, version=version) < DELAY
    assert takes(two.db, two.web, version=version) < DELAY


def test_each_direction_is_late_by_itself(two: Two) -> None:
    """Not only there and back: what it sends is late, and what it gets is not."""
    with hurt(SlowNetwork(DELAY), two.target()):
        listening = two.db.socket(TCP)
        listening.bind(("", 0))
        listening.listen()
        sending = two.web.dial(two.db.address(), listening.getsockname()[1])
        getting, _ = listening.accept()
        getting.settimeout(MOST)
        for one, other, late in ((sending, getting, True), (getting, sending, False)):
            began = time.monotonic()
            one.sendall(b"x")
            assert other.recv(1) == b"x"
            assert (time.monotonic() - began >= DELAY) is late
        getting.close()


@pytest.mark.parametrize(("params", "db80", "db5432", "web80"), [
    ({"peers": ("container:DB",)}, True, True, True),
    ({"peers": ("203.0.113.0/24",)}, False, False, False),
    ({"peer_ports": (5432,)}, False, True, False),
    ({"own_ports": ("79-81",)}, False, False, True),
    ({"peers": ("container:DB",), "peer_ports": (5432,)}, False, True, False),
    ({"peers": ("203.0.113.0/24",), "peer_ports": (5432,)}, False, False, False),
])  # fmt: skip
def test_only_those_that_are_meant_are_late(
    two: Two, params: dict[str, Any], db80: bool, db5432: bool, web80: bool
) -> None:
    whom = tuple(p.replace("DB", two.db.name) for p in params.get("peers", ()))
    fault = SlowNetwork(DELAY, **params | ({"peers": whom} if whom else {}))
    with hurt(fault, two.target()):
        for version in (4, 6):
            assert (takes(two.web, two.db, 80, version=version) >= DELAY) is db80
            assert (takes(two.web, two.db, 5432, version=version) >= DELAY) is db5432
            assert (takes(two.db, two.web, 80, version=version) >= DELAY) is web80


def test_a_name_that_has_other_addresses_by_now_means_those(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = two.target()
    addresses = ["203.0.113.7"]
    monkeypatch.setattr(on, "addresses_of", lambda peer: addresses)
    fault = SlowNetwork(DELAY, peers=("container:wanderer",))
    with hurt(fault, on) as changes:
        assert takes(two.web, two.db) < DELAY
        addresses[:] = [two.db.address(), two.db.address(6)]

        def moved() -> bool:
            fault.keep(on, changes)
            return takes(two.web, two.db) >= DELAY

        assert until(moved, SOON)
        assert takes(two.web, two.db, version=6) >= DELAY
    assert peers.peers_of(on, fault.peers).loaded


def test_what_was_open_before_is_not_touched_and_what_is_opened_meanwhile_is_reset(
    two: Two,
) -> None:
    old = [two.web.dial(two.db.address(), 80), two.db.dial(two.web.address(6), 80)]
    assert all(map(echoed, old))
    on = two.target()
    fault = SlowNetwork(DELAY)
    assert any("before are not delayed" in remark for remark in fault.remarks(on))
    with hurt(fault, on):
        for made in old:
            began = time.monotonic()
            assert echoed(made) and time.monotonic() - began < DELAY
        new = [two.web.dial(two.db.address(v), 80) for v in (4, 6)]
        new += [two.db.dial(two.web.address(v), 80) for v in (4, 6)]
        assert all(map(echoed, new))
    assert all(map(echoed, old))
    for made in new:
        with pytest.raises(ConnectionResetError):
            made.recv(1)


def test_a_question_that_is_on_its_way_when_it_ends_is_answered(two: Two) -> None:
    on = two.target()
    fault = SlowNetwork(30.0)
    changes = cells.inject(fault, on)
    asking = two.web.dial(two.db.address(), 80)
    asking.sendall(b"hello")
    time.sleep(0.1)
    ending = threading.Thread(target=cells.undo, args=(fault, on, changes))
    ending.start()
    assert asking.recv(99) == b"hello"  # At once, and not when thirty seconds are over.
    ending.join()
    with pytest.raises(ConnectionResetError):
        asking.recv(1)


def test_much_goes_through_and_is_what_was_sent(two: Two) -> None:
    data = os.urandom(1 << 20) * 24
    with hurt(SlowNetwork(0.05, direction="both"), two.target()):
        made = two.web.dial(two.db.address(), 80)
        sending = threading.Thread(target=made.sendall, args=(data,))
        sending.start()
        got = bytearray()
        made.settimeout(60)
        while len(got) < len(data):
            part = made.recv(1 << 20)
            assert part
            got += part
        sending.join()
    assert got == data


def test_many_connections_at_once_are_let_through(two: Two) -> None:
    """Each takes two of the proxy's descriptors, and shells give their programs 1024."""
    fault, on = SlowNetwork(0.05), two.target()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    changes = cells.inject(fault, on)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with contextlib.ExitStack() as open_now:
            many = [open_now.enter_context(two.web.dial(two.db.address(), 80)) for _ in range(600)]
            for made in many:
                made.sendall(b"x")
            assert all(made.recv(1) == b"x" for made in many)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        cells.undo(fault, on, changes)


def test_nobody_answers_is_a_reset(two: Two) -> None:
    reset = pytest.raises((ConnectionResetError, ConnectionRefusedError))
    with hurt(SlowNetwork(0.05), two.target()), reset:
        two.web.dial(two.db.address(), 9).recv(1)


def test_who_is_not_redirected_to_the_proxy_is_turned_away(two: Two) -> None:
    """It would lead him to itself, round and round."""
    on = two.target()
    with hurt(SlowNetwork(0.05), on) as changes:
        at = on._redirected(changes)
        assert at
        port = at._port("accepted")
        # The reset may be there before whoever dials has noticed that he is let in.
        with pytest.raises(ConnectionResetError):
            two.web.dial("127.0.0.1", port).recv(1)
        with pytest.raises(ConnectionResetError):  # Redirected, to where it was going already.
            two.db.dial(two.web.address(), port).recv(1)


def test_rules_of_others_go_before(two: Two) -> None:
    theirs = "table ip theirs {\n chain in {\n type nat hook prerouting priority -100;\n"
    theirs += " tcp dport 81 redirect to :80\n }\n}"
    on = two.target()
    cells.in_network(on, "nft", "-f", "-", told=theirs)
    try:
        before = cells.rules(on)
        with hurt(SlowNetwork(DELAY), on):
            assert takes(two.db, two.web, 81) < MOST
            assert takes(two.db, two.web, 80) >= DELAY
        assert cells.rules(on) == before
    finally:
        cells.in_network(on, "nft", "delete table ip theirs")


def test_what_it_hands_on_for_others_is_not_late(two: Two) -> None:
    """A container that is a router: what goes through it does not come to it."""
    network = next(iter(two.web.container.attrs["NetworkSettings"]["Networks"]))
    far = End(two.daemon.run(network=network))
    web, db, beyond = (cells.target(two.daemon, end.container) for end in (two.web, two.db, far))
    try:
        far.serve(80)
        cells.in_network(beyond, "ip", "address", "add", "198.51.100.1/32", "dev", "lo")
        to = ("ip", "route", "add", "198.51.100.1", "via")
        cells.in_network(web, *to, far.address())
        cells.in_network(web, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        cells.in_network(db, *to, two.web.address())
        assert two.db.reaches("198.51.100.1")
        with hurt(SlowNetwork(DELAY), web), two.db.dial("198.51.100.1", 80) as made:
            began = time.monotonic()
            assert echoed(made) and time.monotonic() - began < DELAY
            assert takes(two.db, two.web) >= DELAY
    finally:
        for on in (web, db):
            cells.in_network(on, "ip", "route", "delete", "198.51.100.1")
        far.close()
        far.container.remove(force=True)


def test_it_lets_go_by_itself_when_nobody_is_left(two: Two) -> None:
    """No guardian and no `recover`: the proxy takes its tables away and ends."""
    on = two.target()
    fault = SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    assert takes(two.db, two.web) >= DELAY
    two.cut()
    assert until(lambda: not our_proxies(), SOON)
    assert two.rules() == two.before
    assert takes(two.db, two.web) < DELAY
    cells.undo(fault, on, changes)


def test_it_lets_go_at_its_deadline(two: Two) -> None:
    on = two.target(ends_at=now() + 8.0)
    fault = SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    assert until(lambda: not our_proxies(), SOON)
    assert two.rules() == two.before
    cells.undo(fault, on, changes)


def test_rules_without_a_proxy_lose_their_force(two: Two) -> None:
    """Everybody was killed, the proxy too: the kernel ends it."""
    on = two.target()
    fault = SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    for pid in our_proxies():
        os.kill(pid, signal.SIGKILL)
    assert two.db.asks(two.web.address(), within=LONG) == "refusal"
    assert two.db.reaches(two.web.address())
    assert "lease" in cells.rules(on)
    cells.undo(fault, on, changes)


def test_a_proxy_that_died_is_no_proof_and_is_not_kept(two: Two) -> None:
    on = two.target()
    fault = SlowNetwork(0.05)
    changes = cells.inject(fault, on)
    fault.keep(on, changes)
    assert fault.took(on, changes)
    for pid in our_proxies():
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not our_proxies(), SOON)
    assert not fault.took(on, changes)
    with pytest.raises(ChaoskitError, match="has ended"):
        fault.keep(on, changes)
    cells.undo(fault, on, changes)


@pytest.mark.parametrize("spoil", ["rules", "toxics", "lease"])
def test_what_is_not_there_any_more_is_not_proven(two: Two, spoil: str) -> None:
    on = two.target()
    fault = SlowNetwork(0.2)
    changes = cells.inject(fault, on)
    at = on._redirected(changes)
    assert at and fault.took(on, changes)
    run = on.nft_runner(on.network_key())
    if spoil == "rules":
        run(["flush", "chain", nft.FAMILY, at.rules, "output"], "")
    elif spoil == "toxics":
        at.client.remove("opened", f"{at.mark}-out")
    else:
        run(["flush", "set", nft.FAMILY, at.rules, "lease"], "")
    assert not fault.took(on, changes)
    cells.undo(fault, on, changes)


def test_the_proxy_is_left_alone_by_a_mark_of_another_step(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one is refused, unless both had looked before either was in."""
    monkeypatch.setattr(redirect.Redirect, "others", lambda _: [])
    first, second = two.target("1"), two.target("2")
    with hurt(SlowNetwork(DELAY, peer_ports=(80,)), first):
        with hurt(SlowNetwork(DELAY, peer_ports=(5432,)), second):
            assert takes(two.web, two.db, 80) >= DELAY
            assert takes(two.web, two.db, 5432) >= DELAY
        assert takes(two.web, two.db, 80) >= DELAY
        assert takes(two.web, two.db, 5432) < DELAY


def test_netem_alone_can_spoil_packets(two: Two) -> None:
    fault = SpoiledPackets(0.1)
    told = fault.refuse(two.target())
    assert told == "corrupt needs the kernel's netem, and this kernel has no netem"
    with pytest.raises(ChaoskitError):
        list(fault.changes(two.target()))


def test_the_plan_says_which_way_and_why(two: Two) -> None:
    fault, on = SlowNetwork(DELAY), two.target()
    assert fault.ends_on(on).value == "by itself"
    told = " ".join(fault.remarks(on))
    assert "proxy of chaoskit's own" in told and "no netem" in told and "TCP" in told
    assert [change.key.split()[0] for change in fault.changes(on)] == ["nat", "proxy", "rules"]


def test_the_cells_are_as_they_were(two: Two) -> None:
    on, fault = two.target(), SlowNetwork(0.05)
    changes: list[Change] = []
    for change in fault.changes(on):
        assert fault.look(on, change) is None
        fault.make(on, change)
        assert fault.look(on, change) == change.put
        changes.append(change)
    assert os.getpid() not in our_proxies() and len(our_proxies()) == 1
    cells.undo(fault, on, changes)
    assert [fault.look(on, change) for change in changes] == [None] * 3
    with contextlib.suppress(OSError):
        socket.create_connection((two.web.address(), 80), LONG).close()
