"""Delays by redirect: at most one in a network, and one that has lost its proxy is soon no more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cells
import pytest
from cells import SOON, hurt
from daemons import Daemon
from traffic import End, echoed

from chaoskit import qdisc
from chaoskit.clock import until
from chaoskit.errors import ChaoskitError
from chaoskit.faults.slow_network import SlowNetwork
from chaoskit.targets import proxy_process, redirect_rules
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.redirect import Redirect

DELAY = 0.3


class Pair:
    """A container that is hurt, `web`, and one that it talks with; both answer."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        network = daemon.network().name
        self.web, self.db = (End(daemon.run(network=network)) for _ in range(2))
        for end in (self.web, self.db):
            end.serve(80)
        assert self.web.reaches(self.db.address()) and self.db.reaches(self.web.address())
        self.reading, self.writing = os.pipe()

    def target(self, step: str = "1", **more: Any) -> ContainerTarget:
        """As a runner has it, which holds the other end of the lifeline."""
        bound = cells.binding(step, lifeline=self.reading, **more)
        return cells.target(self.daemon, self.web.container, replace(bound, folder=self.folder))

    def close(self) -> None:
        os.close(self.writing)
        os.close(self.reading)
        for end in (self.web, self.db):
            end.close()
        assert until(lambda: not proxies(), SOON)


@pytest.fixture
def pair(daemon: Daemon, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(daemon, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def without_netem(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose kernel has it, it is not taken here."""
    monkeypatch.setattr(qdisc, "missing", lambda: "this kernel has no netem")


def proxies() -> list[int]:
    return [p.pid for mark, p in proxy_process.leftover_proxies() if cells.RUN in mark]


def redirect(on: ContainerTarget, changes: Any) -> Redirect:
    found = on._redirected(changes)
    assert found is not None
    return found


def test_a_second_redirect_in_one_network_is_refused(pair: Pair) -> None:
    fault = SlowNetwork(DELAY)
    guest = pair.daemon.run(network_mode=f"container:{pair.web.container.id}")
    beside = cells.target(pair.daemon, guest, cells.binding(allow_shared=True))
    with hurt(fault, pair.target("1", allow_shared=True)):
        for other in (pair.target("2", allow_shared=True), beside):
            told = fault.refuse(other)
            assert told is not None and "redirected by chaoskit already" in told, told
        assert pair.target("1", allow_shared=True).disturbed_by_itself(fault.what), (
            "its own is no second one"
        )
    assert fault.refuse(pair.target("2", allow_shared=True)) is None


def test_two_redirects_that_came_at_once_do_not_lead_to_each_other(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both had looked before either was in."""
    monkeypatch.setattr(Redirect, "others", lambda _: [])
    fault = SlowNetwork(DELAY)
    with hurt(fault, pair.target("1")), hurt(fault, pair.target("2")):
        made = pair.web.dial(pair.db.address(), 80)
        assert echoed(made)
        came = pair.db.dial(pair.web.address(), 80)
        assert echoed(came)
        time.sleep(0.5)
        for pid in proxies():
            assert len(os.listdir(f"/proc/{pid}/fd")) < 60, "connections without end"


def test_the_rules_are_idle_soon_after_their_proxy_was_killed(pair: Pair) -> None:
    """Runner, guardian and proxy at once, as by an OOM of their group: nobody is left but the
    kernel. The run itself would have gone on for minutes."""
    on, fault = pair.target(), SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    time.sleep(redirect_rules.LEASE + 1.0)
    assert fault.took(on, changes), "while the proxy lives it renews the lease"
    for pid in proxies():
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not proxies(), SOON)
    assert until(lambda: pair.db.asks(pair.web.address()) == "answer", SOON)
    assert redirect(on, changes).has_table(redirect(on, changes).rules)
    cells.undo(fault, on, changes)


def test_a_killed_proxy_is_seen_though_the_first_process_has_ended(pair: Pair) -> None:
    guest = pair.daemon.run(network_mode=f"container:{pair.web.container.id}")
    on, fault = pair.target(allow_shared=True), SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    pair.web.container.kill()
    assert until(lambda: not on.root.alive(), SOON)
    fault.keep(on, changes)
    for pid in proxies():
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not proxies(), SOON)
    with pytest.raises(ChaoskitError) as told:
        fault.keep(on, changes)
    assert on.name in str(told.value) and f"{pair.folder}/proxy-" in str(told.value)
    cells.undo(fault, on, changes)
    guest.remove(force=True)


def test_a_proxy_that_does_not_come_up_says_where_its_log_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redirect, "toxics", lambda *_: [("opened", {"type": "nonsense"})])
    on, fault = pair.target(), SlowNetwork(DELAY)
    nat, proxy = (c for c, _ in zip(fault.changes(on), range(2), strict=False))
    fault.make(on, nat)
    with pytest.raises(ChaoskitError, match=rf"invalid toxic type.*{pair.folder}/proxy-.*\.log"):
        fault.make(on, proxy)
    cells.undo(fault, on, [nat, proxy])


def test_a_proxy_without_arguments_yet_has_not_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel shows it for a moment: whoever looks by the arguments sees nobody."""
    shown = proxy_process._proxies
    looks = iter(range(3))
    monkeypatch.setattr(
        proxy_process, "_proxies", lambda: [] if next(looks, None) is not None else shown()
    )
    on, fault = pair.target(), SlowNetwork(DELAY)
    changes = cells.inject(fault, on)
    monkeypatch.undo()
    cells.undo(fault, on, changes)


def test_the_proxy_may_have_as_many_connections_as_it_can(pair: Pair) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        with hurt(SlowNetwork(DELAY), pair.target()):
            (pid,) = proxies()
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_peer_that_has_gone_has_no_connections_to_delay(pair: Pair) -> None:
    """The next container gets its address, and is another."""
    on, fault = pair.target(), SlowNetwork(DELAY, peers=(f"container:{pair.db.name}",))
    changes = cells.inject(fault, on)
    assert fault.took(on, changes)
    pair.db.container.stop()

    def forgotten() -> bool:
        fault.keep(on, changes)
        return not fault.took(on, changes)

    assert until(forgotten, SOON)
    told = fault.refuse(on)
    assert told is not None and "no container with an address" in told
    cells.undo(fault, on, changes)


@pytest.mark.parametrize("used", [True, False])
def test_a_delay_that_nobody_met_has_tried_nothing(pair: Pair, used: bool) -> None:
    on, fault = pair.target(), SlowNetwork(DELAY)
    with hurt(fault, on) as changes:
        if used:
            assert pair.web.reaches(pair.db.address()) and pair.db.reaches(pair.web.address())
        told = fault.no_outcome(on, changes, 1.0)
        assert told is not None and told.unknown is not used
        assert ("no connection was opened" in told.text) is not used, told.text
