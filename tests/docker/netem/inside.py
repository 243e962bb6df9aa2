"""Runs in the kernel with netem: each scenario on a box of its own, by the engine itself.

python inside.py FOLDER [SCENARIO]
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from chaoskit_boxes import Box, Duplicated, Latency, Reordered, Spoiled

import chaoskit
from chaoskit import qdisc
from chaoskit.clock import now, until
from chaoskit.engine import run
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault
from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict
from chaoskit.namespaces import in_network_of, in_new_network
from chaoskit.netem import Netem
from chaoskit.procfs import Process
from chaoskit.recovery import recover
from chaoskit.testing import conformance
from chaoskit.testing.conformance import Specimen, Trial

SLOW = 10.0
"""Seconds in which what takes a moment has happened, in a kernel on a busy machine."""
THERE, HERE = "10.77.0.2", "10.77.0.1"


class BoxSpecimen(Specimen):
    """A box with an echo in it for TCP and UDP; what is to be seen of it are its qdiscs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        own = Process.at(self.process.pid)
        assert until(lambda: own.namespace("net") != Process.at(1).namespace("net"), SLOW)
        self.root = own
        _say("ip link add box0 type veth peer name eth0 netns", str(own.pid))
        _say(f"ip address add {HERE}/24 dev box0")
        _say("ip link set box0 up")
        self.inside(f"ip address add {THERE}/24 dev eth0")
        self.inside("ip link set lo up")
        self.inside("ip link set eth0 up")
        assert until(lambda: "state UP" in self.inside("ip link show eth0"), SLOW)
        # To ask for it takes packets, too, and what was asked in vain is lost.
        mac = Path("/sys/class/net/box0/address").read_text().strip()
        self.inside(f"ip neigh replace {HERE} lladdr {mac} dev eth0 nud permanent")
        self.sockets = [in_network_of(own, lambda kind=kind: socket.socket(type=kind))
                        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]  # fmt: skip
        tcp, udp = self.sockets
        tcp.bind((THERE, 80))
        tcp.listen()
        udp.bind((THERE, 80))
        udp.settimeout(SLOW)

    def inside(self, command: str) -> str:
        return _say(f"nsenter -t {self.root.pid} -n {command}")

    def target(self) -> Mapping[str, Any]:
        return {"box": {"pid": self.root.pid}}

    def snapshot(self, runs: Sequence[str]) -> Json:
        if not self.root.alive():
            return "gone"
        shown = [self.inside("tc qdisc show"), _say("tc qdisc show"), self.inside("ip link")]
        return "".join(shown)

    def vanish(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        for made in self.sockets:
            made.close()
        self.vanish()
        assert until(lambda: "box0" not in _say("ip link"), SLOW)

    def round_trip(self) -> tuple[float, float]:
        """Seconds until a TCP connection is open, and for a byte there and back."""
        began = time.monotonic()
        with socket.create_connection((THERE, 80), SLOW) as here:
            opened = time.monotonic()
            there, _ = self.sockets[0].accept()
            with there:
                asked = time.monotonic()
                here.sendall(b"?")
                there.sendall(there.recv(1))
                here.recv(1)
                return opened - began, time.monotonic() - asked

    def datagrams(self, count: int, *, unchecked: bool = False) -> list[bytes]:
        """What comes here of so many that leave the box, in the order in which it comes."""
        with socket.socket(type=socket.SOCK_DGRAM) as here:
            here.bind((HERE, 0))
            here.settimeout(1.0)
            if unchecked:
                self.sockets[1].setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
            for number in range(count):
                self.sockets[1].sendto(f"{number:04}".encode() * 250, here.getsockname())
            found = []
            with contextlib.suppress(TimeoutError):
                while True:
                    found.append(here.recv(2000))
            return found


def _changes(fault: Fault[Any], target: Box) -> Iterator[Change]:
    with contextlib.suppress(ChaoskitError):
        yield from fault.changes(target)


def _say(*words: str) -> str:
    done = subprocess.run(" ".join(words), shell=True, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@contextlib.contextmanager
def hurt(box: BoxSpecimen, fault: Fault[Any]) -> Iterator[list[Change]]:
    """While the block runs, the fault is in; afterwards all is as it was. Without processes of
    chaoskit's own: to start one takes seconds here."""
    before = box.snapshot([])
    target = Box(box.root, Binding("20261123-053812-3f9a1c", "1", box.folder, ends_at=now() + 100))
    assert fault.refuse(target) is None
    changes = []
    for change in fault.changes(target):
        assert fault.look(target, change) == change.was
        fault.make(target, change)
        changes.append(change)
    try:
        assert fault.took(target, changes)
        yield changes
    finally:
        again = Box.restore(target.ref(), target.binding)
        for change in reversed(changes):
            fault.unmake(again, change)
            assert fault.look(again, change) == change.was
    assert box.snapshot([]) == before


# --- the scenarios


def what_is_put_in_is_read_back_as_the_kernel_rounds_it(box: BoxSpecimen) -> None:
    for given in (
        Netem(delay=0.1234567891, jitter=0.02, correlation=0.25),
        Netem(delay=0.1, jitter=0.02, distribution="normal"),
        Netem(delay=0.1, jitter=0.02, distribution="pareto"),
        Netem(delay=80000.0),
        Netem(duplicate=0.1, correlation=0.5),
        Netem(corrupt=0.01, correlation=0.3),
        Netem(delay=0.01, reorder=0.25, correlation=0.5),
    ):
        shown = qdisc.rounded(given, "1234:")
        assert isinstance(shown, dict) and shown["handle"] == "1234:"
        assert shown.get("delay", 0) == int(given.delay * 1e9)

        def put(given: Netem = given) -> tuple[Json, str]:
            qdisc.put(1, given, "1234:")
            return qdisc.root_of(1), _say("tc qdisc show dev lo")

        again, told = in_new_network(put)
        assert again == shown
        for word, share in (("duplicate", given.duplicate), ("corrupt", given.corrupt)):
            assert (f"{word} {share * 100:g}%" in told) == bool(share), told


def a_table_has_its_distribution(box: BoxSpecimen) -> None:
    """40 ms of deviation around 200: with pareto the median is below the mean, and few are far."""
    index = next(device.index for device in in_network_of(box.root, qdisc.devices))
    for distribution, low, high in (("normal", 180, 220), ("pareto", 150, 195)):
        what = Netem(delay=0.2, jitter=0.04, distribution=distribution)
        in_network_of(box.root, lambda what=what: qdisc.put(index, what, "1234:"))
        with socket.socket(type=socket.SOCK_DGRAM) as here:
            here.bind((HERE, 0))
            here.settimeout(SLOW)
            late = []
            for _ in range(300):
                began = time.time_ns()
                box.sockets[1].sendto(str(began).encode(), here.getsockname())
            for _ in range(300):
                late.append((time.time_ns() - int(here.recv(99))) / 1e6)
        in_network_of(box.root, lambda: qdisc.delete(index, "1234:"))
        middle = sorted(late)[150]
        assert low < middle < high + 60, (distribution, sorted(late))
        assert len({round(one) for one in late}) > 20


def what_leaves_is_late(box: BoxSpecimen) -> None:
    with hurt(box, Latency(0.3)) as changes:
        assert "netem" in box.inside("tc qdisc show dev eth0")
        assert "netem" not in _say("tc qdisc show dev box0")
        opened, asked = box.round_trip()
        assert 0.3 <= opened < 3 and 0.3 <= asked < 3
        assert [(one.was, one.put["delay"]) for one in changes] == [("default", 300_000_000)]
    assert min(max(box.round_trip()) for _ in range(5)) < 0.25


def what_comes_is_late(box: BoxSpecimen) -> None:
    with hurt(box, Latency(0.3, direction="in")):
        assert "netem" in _say("tc qdisc show dev box0")
        assert "netem" not in box.inside("tc qdisc show dev eth0")
        opened, asked = box.round_trip()
        assert 0.3 <= opened < 3 and 0.3 <= asked < 3


def both_ways_are_late(box: BoxSpecimen) -> None:
    with hurt(box, Latency(0.3, 0.01, direction="both")):
        opened, asked = box.round_trip()
        assert 0.58 <= opened < 5 and 0.58 <= asked < 5


def packets_come_twice(box: BoxSpecimen) -> None:
    with hurt(box, Duplicated(1.0)):
        assert len(box.datagrams(20)) == 40
    assert len(box.datagrams(20)) == 20


def packets_are_spoilt(box: BoxSpecimen) -> None:
    whole = {f"{number:04}".encode() * 250 for number in range(50)}
    with hurt(box, Spoiled(1.0)):
        found = box.datagrams(50, unchecked=True)
        spoilt = [one for one in found if one not in whole and len(one) == 1000]
        assert len(spoilt) > 25, found  # The others had it in their headers.
    assert set(box.datagrams(50)) == whole


def packets_overtake_each_other(box: BoxSpecimen) -> None:
    with hurt(box, Reordered(0.3, 0.05)):
        found = box.datagrams(60)
        assert sorted(found) != found and len(found) == 60
    assert sorted(found := box.datagrams(60)) == found


def a_root_qdisc_of_somebody_is_never_replaced(box: BoxSpecimen) -> None:
    box.inside("tc qdisc add dev eth0 root handle 1: htb default 10")
    box.inside("tc class add dev eth0 parent 1: classid 1:10 htb rate 10mbit")
    box.inside("tc qdisc add dev eth0 parent 1:10 handle 10: pfifo limit 77")
    before = box.inside("tc qdisc show"), box.inside("tc class show dev eth0")
    target = Box(box.root, Binding("20261123-053812-3f9a1c", "1", box.folder))
    for fault in (Latency(0.1), Reordered(0.1, 0.1), Duplicated(0.1, direction="both")):
        assert "root qdisc (htb 1:)" in str(fault.refuse(target))
        assert not list(_changes(fault, target))
    result = Trial("box-reorder", {"delay": "100ms", "share": "10%"}, box).run()
    assert result.verdict is Verdict.REFUSED and "root qdisc (htb 1:)" in result.reason, result
    assert (box.inside("tc qdisc show"), box.inside("tc class show dev eth0")) == before
    # What comes to it is in another queue, which nobody has touched.
    with hurt(box, Duplicated(1.0, direction="in")):
        pass
    index = next(device.index for device in in_network_of(box.root, qdisc.devices))
    for attempt in (
        lambda: qdisc.put(index, Netem(delay=0.1), "1234:"),
        lambda: qdisc.delete(index, "1234:"),
    ):
        with contextlib.suppress(ChaoskitError):
            in_network_of(box.root, attempt)
            raise AssertionError("the kernel let it through")
        assert (box.inside("tc qdisc show"), box.inside("tc class show dev eth0")) == before


def one_that_somebody_put_there_meanwhile_is_stuck_and_left_alone(box: BoxSpecimen) -> None:
    def observer(event: Any) -> None:
        if event.kind == "injected":
            box.inside("tc qdisc replace dev eth0 root handle 5: pfifo limit 77")

    trial = Trial("box-latency", {"delay": "50ms", "direction": "both"}, box)
    trial.kind.patience = 1.0
    result = run(chaoskit.load(trial.file()), trial.state, observer=observer)
    assert result.verdict is Verdict.STUCK, result.verdict
    (left,) = result.left
    assert "pfifo" in str(left.found), left
    assert "limit 77p" in box.inside("tc qdisc show dev eth0")
    assert "netem" not in _say("tc qdisc show dev box0")
    again = recover(trial.latest(), force=[left.cell])
    assert not again.left, again.left
    assert "noqueue" in box.inside("tc qdisc show dev eth0")


def the_proof_is_read_back(box: BoxSpecimen) -> None:
    for check in (
        conformance.an_effect_that_never_came_is_inconclusive,
        conformance.an_effect_that_ends_early_is_inconclusive,
    ):
        check(Trial("box-latency", {"delay": "50ms"}, box))


def undone_by_the_guardian_of_a_runner_that_is_killed(box: BoxSpecimen) -> None:
    trial = Trial("box-latency", {"delay": "50ms", "direction": "both"}, box)
    conformance.undone_after_death_at(trial, "after:made:2", "guardian")


def undone_from_the_journal_when_both_are_killed(box: BoxSpecimen) -> None:
    trial = Trial("box-latency", {"delay": "50ms", "direction": "both"}, box)
    conformance.undone_after_death_at(trial, "after:make:1", "recover")


def a_box_that_ends_has_nothing_left(box: BoxSpecimen) -> None:
    fault = Latency(0.1, direction="both")
    target = Box(box.root, Binding("20261123-053812-3f9a1c", "1", box.folder))
    changes = list(fault.changes(target))
    assert len(changes) == 2
    for change in changes:
        fault.make(target, change)
    box.close()  # A socket in it would keep its network.
    for change in changes:
        assert until(lambda change=change: _gone(fault, target, change), SLOW)


def _gone(fault: Fault[Any], target: Box, change: Change) -> bool:
    try:
        fault.look(target, change)
    except Gone:
        return True
    return False


GROUPS = {
    "packets": [
        what_is_put_in_is_read_back_as_the_kernel_rounds_it,
        a_table_has_its_distribution,
        what_leaves_is_late,
        what_comes_is_late,
        both_ways_are_late,
        packets_come_twice,
        packets_are_spoilt,
        packets_overtake_each_other,
        a_box_that_ends_has_nothing_left,
    ],
    "engine": [
        a_root_qdisc_of_somebody_is_never_replaced,
        one_that_somebody_put_there_meanwhile_is_stuck_and_left_alone,
        the_proof_is_read_back,
        undone_by_the_guardian_of_a_runner_that_is_killed,
        undone_from_the_journal_when_both_are_killed,
    ],
}
"""Each is booted for once, so that they can be at the same time."""


def main() -> int:
    folder, group = sys.argv[1:]
    failed = 0
    for scenario in GROUPS[group]:
        began = time.monotonic()
        box = BoxSpecimen(Path(folder) / scenario.__name__)
        try:
            scenario(box)
            told = "passed"
        except BaseException:
            told = traceback.format_exc()
            failed += 1
        finally:
            box.close()
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"scenario": scenario.__name__, "told": told, "seconds": seconds}))
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
