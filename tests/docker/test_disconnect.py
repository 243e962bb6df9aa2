"""Disconnect: out of a network and back, with all that others know the container by."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon
from ranges import Network
from trials import ContainerSpecimen, about, dying

from chaoskit.docker.endpoints import next_address
from chaoskit.errors import Gone, Refused
from chaoskit.faults.disconnect import Disconnect
from chaoskit.journal import State
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Found
from chaoskit.recovery import recover
from chaoskit.targets.container import ContainerTarget
from chaoskit.targets.docker import DockerSelector
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Trial
from chaoskit.undo import side_by_side


def target(daemon: Daemon, name: str, folder: Path) -> ContainerTarget:
    binding = Binding(run="20260101-000000-abcdef", step="1", folder=folder)
    (found,) = DockerSelector(name=name, host=daemon.url).find(binding)
    assert isinstance(found, ContainerTarget)
    return found


def inject(fault: Disconnect, made: ContainerTarget) -> Change:
    (change,) = fault.changes(made)
    fault.make(made, change)
    return change


def connect(daemon: Daemon, network: Network, name: str, **how: Any) -> None:
    daemon.client.api.connect_container_to_network(name, network.id, **how)


def reaches(daemon: Daemon, who: str, whom: str) -> bool:
    asked = daemon.client.containers.get(who).exec_run(["ping", "-c", "1", "-W", "2", whom])
    return bool(asked.exit_code == 0)


def address(daemon: Daemon, name: str, network: Network) -> str:
    told = daemon.client.api.inspect_container(name)
    return str(told["NetworkSettings"]["Networks"][network.name]["IPAddress"])


def trial(daemon: Daemon, name: str, network: Network, folder: Path) -> Trial:
    specimen = ContainerSpecimen(folder, daemon, name, NETWORK=network.name)
    return Trial("disconnect", {"network": "${NETWORK}"}, specimen)


def rich(daemon: Daemon, network: Network) -> str:
    """A container with all that an endpoint can have, in a second network."""
    home = daemon.network(fixed=True)
    db = daemon.run(network=network.name)
    web = daemon.run(network=home.name, mac_address="02:42:00:00:aa:bb")
    four, six = network.subnets
    connect(
        daemon, network, web.name, aliases=["shop", "www"], links=[(db.name, "database")],
        ipv4_address=four.replace(".0/24", ".77"), ipv6_address=six.replace("::/64", "::77"),
        driver_opt={"some.option": "x"},
    )  # fmt: skip
    return str(web.name)


def test_it_is_away_for_the_others_and_comes_back_as_it_was(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(ipv6=True)
    name = rich(daemon, network)
    other = daemon.run(network=network.name).name
    assert reaches(daemon, other, "shop") and reaches(daemon, name, "database")
    before = about(daemon.client.api, name)
    fault, made = Disconnect(network.name), target(daemon, name, tmp_path)
    assert fault.refuse(made) is None
    change = inject(fault, made)
    assert fault.took(made, [change]) and fault.look(made, change) == "disconnected"
    assert not reaches(daemon, other, "shop")
    fault.unmake(made, change)
    assert fault.look(made, change) == change.was
    assert about(daemon.client.api, name) == before
    assert reaches(daemon, other, "shop") and reaches(daemon, name, "database")


def test_an_address_that_comes_by_itself_is_not_wished_for(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    daemon.run(network=network.name)
    name = daemon.run(network=network.name).name
    before = about(daemon.client.api, name)
    fault, made = Disconnect(network.name), target(daemon, name, tmp_path)
    assert fault.refuse(made) is None
    assert "unless somebody takes it" in fault.remarks(made)[0]
    change = inject(fault, made)
    assert "10." in change.was["told"]  # type: ignore[index, operator, call-overload]
    fault.unmake(made, change)
    assert about(daemon.client.api, name) == before


def test_one_that_would_not_come_back_is_refused_with_the_way_out(
    daemon: Daemon, tmp_path: Path
) -> None:
    network = daemon.network()
    first, name = daemon.run(network=network.name), daemon.run(network=network.name).name
    first.remove(force=True)
    told = Disconnect(network.name).refuse(target(daemon, name, tmp_path))
    assert told and address(daemon, name, network) in told and "configured subnet" in told


def test_one_that_only_comes_when_wished_for_is_wished_for(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(fixed=True)
    first, name = daemon.run(network=network.name), daemon.run(network=network.name).name
    first.remove(force=True)
    had = address(daemon, name, network)
    fault, made = Disconnect(network.name), target(daemon, name, tmp_path)
    assert fault.refuse(made) is None
    assert "one of its own afterwards" in fault.remarks(made)[0]
    change = inject(fault, made)
    fault.unmake(made, change)
    assert address(daemon, name, network) == had
    assert fault.look(made, change) == change.was


@pytest.mark.parametrize("fixed", [True, False])
def test_who_has_its_address_meanwhile_keeps_it_and_that_is_told(
    daemon: Daemon, tmp_path: Path, fixed: bool
) -> None:
    network = daemon.network(fixed=fixed)
    name = daemon.run(network=network.name).name
    had = address(daemon, name, network)
    fault, made = Disconnect(network.name), target(daemon, name, tmp_path)
    change = inject(fault, made)
    thief = daemon.run(network=network.name)
    assert address(daemon, thief.name, network) == had
    fault.unmake(made, change)
    now = fault.look(made, change)
    assert fault.found(now, change) is Found.FOREIGN
    assert isinstance(now, dict) and now["told"] == address(daemon, name, network) != had
    thief.remove(force=True)
    fault.overwrite(made, change)
    assert fault.look(made, change) == change.was and address(daemon, name, network) == had


def test_in_no_such_network(daemon: Daemon, tmp_path: Path) -> None:
    network, other = daemon.network(), daemon.network()
    web = daemon.run(network=network.name)
    daemon.run(name="alone", network_mode="none")
    daemon.run(name="open", network_mode="host")
    daemon.run(name="side", network_mode=f"container:{web.id}")
    for name, asked, told in (
        (web.name, other.name, f"it is in no network {other.name}; it is in {network.name}"),
        (web.name, "nonsense", f"it is in no network nonsense; it is in {network.name}"),
        ("alone", "none", "none is no network to leave"),
        ("alone", other.name, f"it is in no network {other.name}; it is in none at all"),
        ("open", "host", "host is no network to leave"),
        ("open", network.name, "host is no network to leave"),
        ("side", network.name, "it uses the network of another container: take that one"),
    ):
        made = target(daemon, name, tmp_path)
        assert Disconnect(asked).refuse(made) == told
        with pytest.raises(Refused):
            next(Disconnect(asked).changes(made))
    remarks = Disconnect(network.name).remarks(target(daemon, web.name, tmp_path))
    assert "side use its network and lose it too" in remarks


def test_an_attempt_that_failed_is_no_connection(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(fixed=True)
    name = daemon.run(network=network.name).name
    fault, made = Disconnect(network.name), target(daemon, name, tmp_path)
    change = inject(fault, made)
    taken = address(daemon, daemon.run(network=network.name).name, network)
    with pytest.raises(Exception, match="already in use"):
        connect(daemon, network, name, ipv4_address=taken)
    entry = daemon.client.api.inspect_container(name)["NetworkSettings"]["Networks"]
    assert network.name in entry  # It looks as if it were connected.
    assert fault.look(made, change) == "disconnected"


def test_a_container_that_is_removed_meanwhile_is_gone(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    box = daemon.run(network=network.name)
    fault, made = Disconnect(network.name), target(daemon, box.name, tmp_path)
    change = inject(fault, made)
    box.remove(force=True)
    with pytest.raises(Gone):
        fault.look(made, change)
    with pytest.raises(Gone):
        fault.unmake(made, change)


def test_several_come_back_each_with_its_own_address(daemon: Daemon, tmp_path: Path) -> None:
    """Where the lowest address that is free is given out, the order decides."""
    network = daemon.network()
    names = [str(daemon.run(network=network.name).name) for _ in range(3)]
    before = [address(daemon, name, network) for name in names]
    fault = Disconnect(network.name)
    made = [target(daemon, name, tmp_path) for name in names]
    assert [fault.refuse(one) for one in made] == [None] * 3
    changes = [inject(fault, one) for one in made]
    pairs = list(zip(made, changes, strict=True))[::-1]
    side_by_side(pairs, lambda pair: fault.unmake(*pair))
    assert [address(daemon, name, network) for name in names] == before
    assert all(fault.found(fault.look(*pair), pair[1]) is Found.WAS for pair in pairs)


def test_host_ports_that_the_daemon_has_chosen_would_be_others(
    daemon: Daemon, tmp_path: Path
) -> None:
    network = daemon.network()
    name = str(daemon.run(network=network.name, ports={"80/tcp": None}).name)
    told = Disconnect(network.name).refuse(target(daemon, name, tmp_path))
    assert told is not None and "publish fixed ones" in told and "80/tcp" in told


def test_who_uses_its_network_and_is_protected_keeps_it(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    name = str(daemon.run(network=network.name).name)
    daemon.run(network_mode=f"container:{name}", labels={"chaoskit.protect": "true"})
    told = Disconnect(network.name).refuse(target(daemon, name, tmp_path))
    assert told is not None and "uses its network and is protected" in told


def test_what_is_given_out_next(daemon: Daemon) -> None:
    """As this daemon does it, and in networks that are none of its simple ones."""
    network = daemon.network(fixed=True)
    about = daemon.client.api.inspect_network
    for _ in range(3):
        expected = next_address(about(network.id), "")
        name = daemon.run(network=network.name).name
        assert address(daemon, name, network) == expected
    daemon.client.containers.list()[1].remove(force=True)
    expected = next_address(about(network.id), "")
    assert address(daemon, daemon.run(network=network.name).name, network) == expected
    assert next_address(about(network.id) | {"Driver": "overlay"}, "") is None
    small = {"Driver": "bridge", "Containers": {}, "IPAM": {"Config": [
        {"Subnet": "fd00::/64"},
        {"Subnet": "10.9.0.0/30", "Gateway": "10.9.0.1"},
        {"Subnet": "10.8.0.0/24", "IPRange": "10.8.0.4/30",
         "AuxiliaryAddresses": {"a": "10.8.0.4"}},
    ]}}  # fmt: skip
    assert next_address(small, "") == "10.9.0.2"
    small["Containers"] = {"x": {"IPv4Address": "10.9.0.2/30"}}
    assert next_address(small, "") == "10.8.0.5" and next_address(small, "x") == "10.9.0.2"


# Whole runs.


def test_the_network_is_removed_meanwhile(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network()
    name = daemon.run(network=network.name).name
    runner = (one := trial(daemon, name, network, tmp_path)).start(hold="60s")
    try:
        one.wait_injected(runner)
        daemon.client.networks.get(network.id).remove()
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(60) == 5
    finally:
        runner.kill()
        runner.wait()
    (left,) = one.latest().result().left
    assert left.why == f"the network {network.name} was removed meanwhile"
    assert "10." in str(left.was) and "aliases" not in str(left.was)


@pytest.mark.parametrize("how", ["end", "reapply"])
def test_a_restart_does_not_bring_it_back(daemon: Daemon, tmp_path: Path, how: str) -> None:
    network = daemon.network(fixed=True)
    box = daemon.run(network=network.name)
    one = trial(daemon, box.name, network, tmp_path)
    one._params["on-restart"] = how
    before = one.snapshot()
    runner = one.start(hold="12s")
    try:
        one.wait_injected(runner)
        box.restart(timeout=1)
        assert runner.wait(60) == 0, one.latest().result().reason
    finally:
        runner.kill()
        runner.wait()
    told = [text for _, text in one.latest().result().timeline if "restarted" in text]
    assert len(told) == 1 and told[0].endswith("was restarted: disconnect is still in")
    one.must_be(before, "after a restart")


def test_somebody_connects_it_again(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(fixed=True)
    name = daemon.run(network=network.name).name
    one = trial(daemon, name, network, tmp_path)
    runner = one.start(hold="6s")
    try:
        one.wait_injected(runner)
        connect(daemon, network, name, aliases=["other"])
        assert runner.wait(60) == 5
    finally:
        runner.kill()
        runner.wait()
    (left,) = one.latest().result().left
    assert "called other" in left.why and "somebody else changed it" in left.why
    assert recover(one.latest(), accept=[left.cell]).state == "done"


def test_the_daemon_is_away_when_it_is_undone(own_daemon: Daemon, tmp_path: Path) -> None:
    """It runs on without its daemon (live-restore), and comes back with it."""
    network = own_daemon.network(fixed=True)
    name = own_daemon.run(network=network.name).name
    one = trial(own_daemon, name, network, tmp_path)
    before = one.snapshot()
    runner = one.start(hold="60s")
    try:
        one.wait_injected(runner)
        own_daemon.kill()
        runner.send_signal(signal.SIGTERM)
        runner.wait(100)
    finally:
        runner.kill()
        runner.wait()
    assert State(one.state.path).left()
    own_daemon.start()
    assert not recover(one.latest()).left
    one.must_be(before, "after the daemon came back")


@pytest.mark.timeout(600)
def test_undone_after_death_at_exact_points(daemon: Daemon, tmp_path: Path) -> None:
    network = daemon.network(ipv6=True)
    name = rich(daemon, network)
    done = list(dying(lambda folder: trial(daemon, name, network, folder), tmp_path, few=16))
    assert len(done) >= 16


@pytest.mark.timeout(300)
def test_the_properties(daemon: Daemon, tmp_path: Path) -> None:
    for number, holds in enumerate([
        conformance.effect_is_real,
        conformance.undoing_twice_is_harmless,
        conformance.a_foreign_value_is_stuck_for_its_cell_alone,
        conformance.an_effect_that_never_came_is_inconclusive,
        conformance.an_effect_that_ends_early_is_inconclusive,
        conformance.a_vanished_target_is_no_error,
    ]):  # fmt: skip
        network = daemon.network(ipv6=True)
        name = rich(daemon, network)
        (tmp_path / f"{number}").mkdir()
        holds(trial(daemon, name, network, tmp_path / f"{number}"))
