"""Processes as targets: every key of the selector, what is protected, what a run claims."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spawned import FAMILY, IDLE, Spawned, spawning

from chaoskit.capabilities import HasProcesses, HasRole
from chaoskit.clock import until
from chaoskit.errors import Gone, Refused
from chaoskit.procfs import Process, tree
from chaoskit.targets.process import ProcessSelector, ProcessTarget

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def found(spawned: Spawned, **keys: Any) -> list[Process]:
    targets = ProcessSelector(**keys).find(spawned.binding())
    assert all(isinstance(target, ProcessTarget) for target in targets)
    return [target.root for target in targets if isinstance(target, ProcessTarget)]


def target(spawned: Spawned, **keys: Any) -> ProcessTarget:
    (only,) = ProcessSelector(**keys).find(spawned.binding())
    assert isinstance(only, ProcessTarget)
    return only


def test_by_command_line(spawned: Spawned) -> None:
    first, second = spawned.python(IDLE, "worker one"), spawned.python(IDLE, "worker two")
    assert found(spawned, cmdline=f"{spawned.name} worker") == sorted(
        [first, second], key=lambda process: process.pid
    )
    assert found(spawned, cmdline=f"{spawned.name} two$") == []
    assert found(spawned, cmdline=f"{spawned.name} w.*two$") == [second]


def test_by_name(spawned: Spawned, tmp_path: Path) -> None:
    # Longer than the 15 characters that the kernel keeps: known by its file name all the same.
    program = tmp_path / spawned.name
    shutil.copy("/bin/sh", program)
    process = spawned.run([str(program), "-c", "echo ready; read -r line </dev/zero"])
    assert found(spawned, name=spawned.name) == [process]
    assert found(spawned, name=process.name()) == [process]
    assert found(spawned, name=spawned.name[:-1]) == []


def test_by_the_name_it_was_called_by(spawned: Spawned) -> None:
    called = f"/nowhere/called-{spawned.name}"
    code = "print('ready', flush=True); os.execv('/bin/sleep', [sys.argv[2], '300'])"
    process = spawned.python(code, called)
    assert until(lambda: process.name() == "sleep", 20)
    assert found(spawned, name=called.rpartition("/")[2]) == [process]
    assert process in found(spawned, name="sleep")


def test_by_pid_and_pidfile(spawned: Spawned, tmp_path: Path) -> None:
    process, file = spawned.python(), tmp_path / "worker.pid"
    assert found(spawned, pid=process.pid) == [process]
    assert found(spawned, pidfile=str(file)) == []
    file.write_text(f"{process.pid}\n")
    assert found(spawned, pidfile=str(file)) == [process]
    for wrong in ("", "worker", "-1"):
        file.write_text(wrong)
        with pytest.raises(Refused, match="no number"):
            found(spawned, pidfile=str(file))
    file.write_text("7" * 5000)
    assert found(spawned, pidfile=str(file)) == []
    os.mkfifo(pipe := tmp_path / "pipe")  # Nobody writes to it, and nobody waits for that.
    with pytest.raises(Refused, match="no number"):
        found(spawned, pidfile=str(pipe))


def test_by_port(spawned: Spawned) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', int(sys.argv[2]))); " + IDLE
    )  # fmt: skip
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = spawned.python(code, str(port))
    assert found(spawned, port=port) == [process]
    assert found(spawned, port=port, pid=process.pid) == [process]
    other = spawned.python()
    assert found(spawned, port=port, pid=other.pid) == []


@ROOT
def test_by_user(spawned: Spawned) -> None:
    mine, theirs = spawned.python(), spawned.nobody()
    both = f"{spawned.name}"
    assert set(found(spawned, cmdline=both)) == {mine, theirs}
    assert found(spawned, cmdline=both, user="nobody") == [theirs]
    assert found(spawned, cmdline=both, user="65534") == [theirs]
    assert found(spawned, cmdline=both, user="root") == [mine]


def test_by_its_own_user(spawned: Spawned) -> None:
    process = spawned.python()
    assert found(spawned, cmdline=spawned.name, user=str(os.geteuid())) == [process]
    assert found(spawned, cmdline=spawned.name, user=process.user()) == [process]
    assert found(spawned, cmdline=spawned.name, user="no-such-user") == []


def test_by_cgroup(spawned: Spawned) -> None:
    process = spawned.python()
    paths = [path for path in process.cgroups().values() if path != "/"]
    if not paths:
        pytest.skip("everything is in the root cgroup here")
    for group in (paths[0], paths[0].strip("/"), paths[0].rpartition("/")[2]):
        assert found(spawned, cmdline=spawned.name, cgroup=group) == [process]
    assert found(spawned, cmdline=spawned.name, cgroup=paths[0][:-1] + "~") == []
    assert found(spawned, cmdline=spawned.name, cgroup=paths[0][:-1]) == []


def test_by_parent(spawned: Spawned) -> None:
    parent = spawned.python(f"os.fork(); {IDLE}")
    assert until(lambda: len(tree(parent)) == 2, 10)
    (child,) = tree(parent)[1:]
    assert found(spawned, children_of=parent.pid) == [child]
    assert found(spawned, children_of=f"{spawned.name}$") == [child]
    assert found(spawned, children_of=child.pid) == []


def test_several_keys_mean_and(spawned: Spawned) -> None:
    first, second = spawned.python(), spawned.python(IDLE, "two")
    assert found(spawned, cmdline=spawned.name, pid=first.pid) == [first]
    assert found(spawned, cmdline="two", pid=first.pid) == []
    assert found(spawned, cmdline="two", children_of=os.getpid(), pid=second.pid) == [second]


def test_what_matches_is_a_target_wherever_it_is_in_a_tree(spawned: Spawned) -> None:
    parent = spawned.python(FAMILY)
    assert until(lambda: len(tree(parent)) == 2, 10)
    assert set(found(spawned, cmdline=spawned.name)) == set(tree(parent))


def test_a_selector_says_what_is_wrong_with_it() -> None:
    assert ProcessSelector().problems()[0][0] == ""
    assert [key for key, _ in ProcessSelector(pid=0).problems()] == ["pid"]
    assert [key for key, _ in ProcessSelector(port=70000).problems()] == ["port"]
    assert ProcessSelector(user="root").problems() == []
    assert ProcessSelector(cmdline="a.b", pid=3).describe() == "process cmdline=a.b pid=3"


def test_chaoskit_itself_never_matches(spawned: Spawned) -> None:
    own = Process.at(os.getpid())
    assert found(spawned, pid=own.pid) == []
    assert own not in found(spawned, user=str(os.geteuid()))
    for above in own.ancestors():
        if above.pid != 1:
            assert found(spawned, pid=above.pid) == []
    helper = spawned.python(IDLE, "chaoskit-20260101-000000-abcdef-1-812")
    guardian = spawned.python(IDLE, "chaoskit-20260101-000000-abcdef")
    other = spawned.python(IDLE, "chaoskit-is-a-word")
    assert helper.alive() and guardian.alive()
    assert found(spawned, cmdline=spawned.name) == [other]


def test_a_target_is_what_a_fault_may_ask_of_it(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(spawned, cmdline=spawned.name)
    assert isinstance(made, HasProcesses) and isinstance(made, HasRole)
    assert made.key == process.key and made.has_role and made.complement == 1
    assert [p.key for p in made.tree()] == [process.key]
    assert made.process(made.key) == process
    assert not target(spawned, pid=process.pid).has_role


def test_its_label_is_one_short_line(spawned: Spawned) -> None:
    made = target(spawned, pid=spawned.python(IDLE, "a\nb", "x" * 200).pid)
    assert re.match(rf"process {made.root.pid} \(\S*python", made.label)
    assert "\n" not in made.label and len(made.label) < 90


def test_it_survives_the_journal(spawned: Spawned) -> None:
    spawned.python()
    for keys in ({"cmdline": spawned.name}, {"children_of": os.getpid(), "cmdline": spawned.name}):
        made = target(spawned, **keys)
        again = ProcessTarget.restore(json.loads(json.dumps(made.ref())), spawned.binding())
        assert (again.key, again.label, again.role) == (made.key, made.label, made.role)
        assert again.peers_then == made.peers_then
        assert again.ref() == made.ref()
        assert again.peers() == [made.root] and again.successors() == []


def test_it_can_be_made_again_when_it_is_gone(spawned: Spawned) -> None:
    process = spawned.python()
    made = target(spawned, cmdline=spawned.name)
    reference = made.ref()
    process.signal(signal.SIGKILL)
    spawned.reap(process)
    again = ProcessTarget.restore(reference, spawned.binding())
    assert again.tree() == [] and again.key == process.key
    assert again.claim().keys == {process.key} and again.protected(()) is None
    with pytest.raises(Gone):
        again.process(again.key).state()


def test_successors_are_those_that_were_not_there(spawned: Spawned) -> None:
    first, second = spawned.python(), spawned.python()
    made, _ = ProcessSelector(cmdline=spawned.name).find(spawned.binding())
    assert isinstance(made, ProcessTarget) and made.complement == 2
    third, fourth = spawned.python(), spawned.python()
    assert until(lambda: not made.newcomers(), 20)
    assert [p.key for p in made.successors()] == [third.key, fourth.key]
    assert {p.key for p in made.peers()} == {p.key for p in (first, second, third, fourth)}


def test_claims_meet_where_trees_do(spawned: Spawned) -> None:
    parent = spawned.python(f"os.fork(); {IDLE}")
    other = spawned.python()
    assert until(lambda: len(tree(parent)) == 2, 10)
    (child,) = tree(parent)[1:]
    above, below, beside = (
        target(spawned, pid=process.pid).claim() for process in (parent, child, other)
    )
    assert above.meets(below) and below.meets(above) and above.meets(above)
    assert not beside.meets(above) and not below.meets(beside)
    assert child.key in above.keys and parent.key in below.within
    assert Process.at(1).key not in below.within
