"""What is never touched, whatever a file says, and the reason that a person is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spawned import BEGIN, IDLE, Spawned, spawning

from chaoskit.procfs import Process, tree
from chaoskit.targets.protect import why_protected

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def reason(process: Process, *allowed: str) -> str:
    return why_protected(tree(process), allowed) or ""


def test_what_is_protected_says_why(spawned: Spawned) -> None:
    assert "pid 1 " in reason(Process.at(1))
    own = Process.at(os.getpid())
    assert "chaoskit itself" in reason(own)
    for above in own.ancestors():
        assert reason(above)
    assert not reason(spawned.python())


def test_kernel_threads_are_protected() -> None:
    threads = [process for process in map(Process.at, (2,)) if process.name() == "kthreadd"]
    if not threads:
        pytest.skip("no kernel threads to be seen here")
    assert "kernel thread" in reason(threads[0])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("systemd", "system itself"),
        ("systemd-logind", "system itself"),
        ("dbus-daemon", "system itself"),
        ("sshd", "sessions"),
        ("gdm-session-worker", "sessions"),
        ("tmux: server", "sessions"),
        ("dockerd", "containers"),
        ("containerd-shim-runc-v2", "containers"),
        ("kubelet", "containers"),
    ],
)
def test_managers_are_protected_by_name(
    spawned: Spawned, tmp_path: Path, name: str, why: str
) -> None:
    shutil.copy("/bin/sh", tmp_path / name)
    process = spawned.run([str(tmp_path / name), "-c", "echo ready; read -r line </dev/zero"])
    assert why in reason(process)


def test_a_manager_below_protects_what_is_above_it(spawned: Spawned, tmp_path: Path) -> None:
    shutil.copy("/bin/sh", tmp_path / "sshd")
    script = f"'{tmp_path / 'sshd'}' -c 'echo ready; read -r line </dev/zero'; :"
    process = spawned.run(["/bin/sh", "-c", script])
    (below,) = tree(process)[1:]
    assert reason(process).startswith(f"process {below.pid} below it: sshd")


def test_chaoskit_at_work_elsewhere_is_protected(spawned: Spawned, tmp_path: Path) -> None:
    script = tmp_path / "chaoskit"
    script.write_text(f"{BEGIN}{IDLE}\n")
    words = spawned.words()[:-3]
    assert "chaoskit, at work" in reason(spawned.run([words[0], str(script), "run", "e.yaml"]))
    other = tmp_path / "work.py"
    other.write_text(script.read_text())
    assert not reason(spawned.run([words[0], str(other), "chaoskit"]))


@ROOT
def test_other_peoples_processes_are_protected_unless_allowed(spawned: Spawned) -> None:
    process = spawned.nobody()
    assert "nobody's" in reason(process) and "allow-users: [nobody]" in reason(process)
    assert "nobody's" in reason(process, "daemon")
    assert reason(process, "nobody") == "" == reason(process, "65534")


@ROOT
def test_who_is_allowed_and_cannot_be_signalled_is_protected(spawned: Spawned) -> None:
    process = spawned.python()
    code = (
        "import os, pwd, sys; from chaoskit.targets.protect import why_protected; "
        "from chaoskit.procfs import Process; pwd.getpwuid(0); os.setgroups([]); "
        "os.setgid(65534); os.setuid(65534); "
        f"print(why_protected([Process.at({process.pid})], ['root']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "only root or root may touch it" in done.stdout, done.stdout + done.stderr
    assert process.state() == "running"
