"""Which network a fault is put into: that of the plan's incarnation, of whom the plan names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import cells
import hurting
import pytest
from cells import hurt
from daemons import Daemon
from docker.models.containers import Container

from chaoskit import namespaces, qdisc
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.container_kill import KillContainer
from chaoskit.faults.disconnect import Disconnect
from chaoskit.faults.packet_drop import DropPackets
from chaoskit.faults.remove import Remove
from chaoskit.faults.restart import Restart
from chaoskit.faults.slow_network import SlowNetwork
from chaoskit.faults.stop import Stop
from chaoskit.model.fault import Change
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.disturbed import _queues


@pytest.fixture
def one(daemon: Daemon) -> Container:
    return daemon.run(name=daemon.name("one"), network=daemon.network().name)


def guest_of(
    daemon: Daemon, host: Container, by: str = "id", mode: str = "network_mode", **more: Any
) -> Container:
    lent = f"container:{host.id if by == 'id' else host.name}"
    return daemon.run(name=daemon.name("guest"), **{mode: lent}, **more)


def test_a_stranger_with_the_same_number_is_not_touched(daemon: Daemon, one: Container) -> None:
    """The kernel gives a number to the next namespace as soon as one has ended."""
    fault, on = DropPackets(), cells.target(daemon, one)
    before = cells.rules(on)
    key = on.network_key()
    number, _, rest = key.partition("/")
    cookie, _, who = rest.partition(" ")
    assert int(cookie) and who == f"of {on.root.key}", key
    then = Change(f"{number}/{int(cookie) + 1} {who}", None, on.mark)
    with pytest.raises(Gone):
        fault.make(on, then)
    with pytest.raises(Gone):
        fault.look(on, then)
    assert cells.rules(on) == before


def test_a_network_of_another_boot_is_gone(daemon: Daemon, one: Container) -> None:
    on = cells.target(daemon, one)
    key = on.network_key().replace(on.root.boot, "0" * 8)
    with pytest.raises(Gone):
        DropPackets().look(on, Change(key, None, on.mark))


def test_without_cookies_only_a_living_process_vouches_for_a_number(
    daemon: Daemon, one: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 5.14: undone it is by the number, made it is not."""
    monkeypatch.setattr(namespaces, "cookie_here", lambda: None)
    guest_of(daemon, one)
    fault, on = DropPackets(), cells.target(daemon, one)
    changes = cells.inject(fault, on)
    assert "/" not in changes[0].key
    one.kill()
    assert fault.look(on, changes[0]) == on.mark
    cells.undo(fault, on, changes)
    with pytest.raises(Gone):
        fault.make(on, changes[0])
    assert fault.look(on, changes[0]) is None


@pytest.mark.parametrize("mode", ["network_mode", "pid_mode", "ipc_mode"])
@pytest.mark.parametrize("by", ["id", "name"])
def test_who_would_end_with_it_or_be_left_alone_keeps_its_host_from_being_ended(
    daemon: Daemon, one: Container, by: str, mode: str
) -> None:
    """Started again it has another network, processes and memory; the guest has the old ones."""
    host = one
    if mode == "ipc_mode":  # Which is shared where it was allowed at the start.
        host = daemon.run(name=daemon.name("lender"), ipc_mode="shareable")
    guest = guest_of(daemon, host, by, mode)
    allowed = cells.target(daemon, host, cells.binding(allow_shared=True))
    for fault in (Stop(), KillContainer(), Restart(), Remove(recreate=True)):
        assert str(fault.refuse(allowed)).startswith(f"{guest.name} "), fault.refuse(allowed)
    for fault in (Stop(), KillContainer(), Restart()):
        assert fault.refuse(cells.target(daemon, guest)) is None
    guest.kill()
    assert until(lambda: Stop().refuse(allowed) is None, cells.SOON)


def test_what_others_make_again_has_no_guests_either(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    made = daemon.run(network=network.name, labels={"chaoskit.recreated": "true"})
    on = cells.target(daemon, made)
    assert Remove().refuse(on) is None
    guest = guest_of(daemon, made)
    assert until(lambda: guest.name in str(Remove().refuse(on)), cells.SOON)


def test_leaving_a_network_that_others_use_needs_leave(daemon: Daemon, one: Container) -> None:
    one.reload()
    (name,) = one.attrs["NetworkSettings"]["Networks"]
    fault = Disconnect(name)
    assert fault.refuse(cells.target(daemon, one)) is None
    guest = guest_of(daemon, one)
    assert until(lambda: guest.name in str(fault.refuse(cells.target(daemon, one))), cells.SOON)
    assert "allow-shared: true" in str(fault.refuse(cells.target(daemon, one)))
    assert fault.refuse(cells.target(daemon, one, cells.binding(allow_shared=True))) is None


@pytest.mark.parametrize("by", ["id", "name"])
def test_who_shares_a_network_is_named_and_needs_leave(
    daemon: Daemon, one: Container, by: str
) -> None:
    fault = DropPackets()
    assert fault.refuse(cells.target(daemon, one)) is None
    guest = guest_of(daemon, one, by)
    for hurt_one, other in ((one, guest), (guest, one)):
        for kind in (fault, SlowNetwork(0.1)):
            told = kind.refuse(cells.target(daemon, hurt_one))
            assert told is not None and "allow-shared: true" in told and other.name in told, told
    allowed = cells.target(daemon, guest, cells.binding(allow_shared=True))
    told_more = fault.remarks(allowed)
    assert any("shares its network" in remark for remark in told_more)
    with hurt(fault, allowed):
        pass


def test_who_is_protected_is_not_hurt_by_way_of_a_shared_network(
    daemon: Daemon, one: Container
) -> None:
    guest = guest_of(daemon, one, labels={"chaoskit.protect": "true"})
    allowed = cells.target(daemon, one, cells.binding(allow_shared=True))
    told = DropPackets().refuse(allowed)
    assert told is not None and guest.name in told and "is protected" in told


@pytest.mark.parametrize("by", ["id", "name"])
def test_two_runs_cannot_both_have_a_network(daemon: Daemon, one: Container, by: str) -> None:
    guest = guest_of(daemon, one, by)
    alone = daemon.run(network=daemon.network().name)
    claims = [cells.target(daemon, container).claim() for container in (one, guest, alone)]
    assert claims[0].meets(claims[1])
    assert not claims[0].meets(claims[2]) and not claims[1].meets(claims[2])


def test_the_file_gives_leave(daemon: Daemon, one: Container, tmp_path: Path) -> None:
    guest_of(daemon, one)
    step = hurting.step("drop-network", daemon.url, hold="100ms", name=one.name)
    for leave, code in ((False, 3), (True, 0)):
        file = hurting.write(
            tmp_path / "shared.json", step, **{"blast-radius": {"allow-shared": leave}}
        )
        done = hurting.chaoskit("run", file, state=tmp_path / "state")
        assert done.returncode == code, done.stdout + done.stderr


def test_the_other_end_of_a_device_is_told_from_one_of_the_same_number(
    daemon: Daemon, one: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs of devices, whose numbers are alike: only one end of each can be seen from here."""
    monkeypatch.setattr(qdisc, "missing", lambda: None)
    coming = SlowNetwork(0.1, direction="in").what
    mine = cells.target(daemon, one)
    queues, why = _queues(mine.network_key(), coming)
    assert [queue.name for queue in queues] == ["eth0"] and not why
    assert queues[0].outside
    hurt_one, other, behind = (cells.target(daemon, daemon.run()) for _ in range(3))
    inner, outer = 60_000 + os.getpid() % 10_000, 80_000 + os.getpid() % 10_000
    pair(inner, hurt_one, outer, behind)
    pair(inner, other, outer, None)
    queues, why = _queues(hurt_one.network_key(), coming)
    assert not queues and "no queue of this machine's" in why
    queues, why = _queues(other.network_key(), coming)
    assert [(queue.index, queue.outside) for queue in queues] == [(inner, outer)], why


def pair(index: int, inside: ContainerTarget, far: int, where: ContainerTarget | None) -> None:
    """A pair of devices, of those numbers: `ck0` in that network, the other end `ckN` in that one
    or here. It ends with the network."""
    there = ["netns", str(where.root.pid)] if where else []
    name = f"ck{os.getpid() % 10_000}"
    words = ["ip", "link", "add", name, "index", str(far), *there, "type", "veth",
             "peer", "name", "ck0", "index", str(index), "netns", str(inside.root.pid)]  # fmt: skip
    subprocess.run(words, check=True)
    cells.in_network(inside, "ip", "link", "set", "ck0", "up")
