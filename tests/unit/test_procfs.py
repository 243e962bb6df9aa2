"""The reader of /proc, on real processes: never another incarnation, never a zombie."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoskit import procfs
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.procfs import Process

IDLE = "import time; print('ready', flush=True); time.sleep(120)"


@contextlib.contextmanager
def child(*words: str, **more: Any) -> Iterator[Process]:
    """A process that has said it is ready; it and its group are gone afterwards."""
    made = subprocess.Popen(
        words or [sys.executable, "-I", "-S", "-c", IDLE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        **more,
    )
    assert made.stdout is not None
    try:
        assert made.stdout.readline() == b"ready\n"
        yield Process.at(made.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(made.pid, signal.SIGKILL)
        made.stdout.close()
        made.wait()


@contextlib.contextmanager
def zombie() -> Iterator[Process]:
    made = subprocess.Popen([sys.executable, "-I", "-S", "-c", IDLE], stdout=subprocess.PIPE)
    assert made.stdout is not None
    try:
        made.stdout.readline()
        process = Process.at(made.pid)
        made.kill()
        stat = Path(f"/proc/{made.pid}/stat")
        assert until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", 10)
        yield process
    finally:
        made.kill()
        made.stdout.close()
        made.wait()


ASKED: list[Callable[[Process], Any]] = [
    Process.stat, Process.state, Process.cmdline, Process.name, Process.exe, Process.cwd,
    Process.uid, Process.user, Process.parent, Process.cpu_seconds, Process.rss, Process.age,
    Process.threads, Process.environ, Process.cgroups, Process.open_files, Process.file_limit,
    lambda process: process.set_file_limit(64), lambda process: process.signal(signal.SIGKILL),
]  # fmt: skip


def others(process: Process) -> dict[str, Process]:
    """Keys that name somebody who had this pid before."""
    pid, start, boot = process.key.split(":")
    return {
        "started earlier": Process.from_key(f"{pid}:{int(start) - 1}:{boot}"),
        "of another boot": Process.from_key(f"{pid}:{start}:{'0' * len(boot)}"),
    }


@pytest.mark.parametrize("who", ["started earlier", "of another boot"])
def test_whoever_had_the_pid_before_is_gone_and_its_successor_untouched(who: str) -> None:
    with child() as process:
        limit = process.file_limit()
        former = others(process)[who]
        for ask in ASKED:
            with pytest.raises(Gone):
                ask(former)
        assert not former.alive()
        assert procfs.tree(former) == []
        assert process.alive() and process.file_limit() == limit
        time.sleep(0.05)
        assert process.state() == "running"


def test_what_has_ended_is_gone() -> None:
    with child() as process:
        pass
    assert not process.alive()
    for ask in ASKED:
        with pytest.raises(Gone):
            ask(process)
    with pytest.raises(Gone):
        Process.at(process.pid)


def test_a_zombie_has_ended() -> None:
    # Only root may ask some of it of a zombie: it has no memory left whose owner could be told.
    gone = Gone if os.geteuid() == 0 else (Gone, PermissionError)
    with zombie() as process:
        assert not process.alive()
        for ask in ASKED:
            with pytest.raises(gone):
                ask(process)
        assert process not in procfs.processes()
        assert procfs.tree(process) == []


def test_a_key_names_the_incarnation() -> None:
    with child() as first, child() as second:
        assert Process.from_key(first.key) == first != second
        pid, start, boot = first.key.split(":")
        assert (int(pid), int(start)) == (first.pid, first.start)
        whole = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")
        assert len(boot) == 8 and whole.startswith(boot)
        assert Process.at(first.pid) == first
    with pytest.raises(ValueError):
        Process.from_key("no key")


def test_what_it_tells_is_so(tmp_path: Path) -> None:
    # Not the Python of a virtual environment: what it runs is another file than its name.
    words = ["/bin/sh", "-c", "echo ready; read -r line", "two words"]
    reading, writing = os.pipe()
    try:
        made = subprocess.Popen(
            words, stdin=reading, stdout=subprocess.PIPE, cwd=tmp_path, env={"A": "b=c", "D": ""}
        )
        assert made.stdout is not None and made.stdout.readline() == b"ready\n"
        process = Process.at(made.pid)
        assert process.cmdline() == words
        assert process.name() == "sh"
        assert process.exe() == os.path.realpath("/bin/sh")
        assert process.cwd() == str(tmp_path.resolve())
        assert process.uid() == os.geteuid()
        parent = process.parent()
        assert parent is not None and parent.pid == os.getpid()
        assert parent in process.ancestors()
        assert {b"A=b=c", b"D="} <= set(process.environ())
        assert process.threads() == 1 and process.rss() > 0
        assert 0.0 <= process.age() < 60.0
        groups = Path(f"/proc/{made.pid}/cgroup").read_text().splitlines()
        told = dict(line.split(":", 2)[1:] for line in groups)
        assert process.cgroups() == told and told
    finally:
        os.close(writing)
        os.close(reading)
        made.wait(20)
        assert made.stdout is not None
        made.stdout.close()


def test_its_user_has_a_name() -> None:
    import pwd

    own = Process.at(os.getpid())
    try:
        assert own.user() == pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        assert own.user() == str(os.geteuid())


def test_processor_time_is_in_seconds() -> None:
    own = Process.at(os.getpid())
    before, spent = own.cpu_seconds(), time.process_time()
    while time.process_time() - spent < 0.3:
        pass
    assert 0.2 <= own.cpu_seconds() - before <= 5.0


def test_descriptors_and_their_limit() -> None:
    with child() as process:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert process.file_limit()[1] == hard
        process.set_file_limit(77)
        assert process.file_limit() == (77, hard)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (77, hard)
    own = Process.at(os.getpid())
    before = own.open_files()
    with Path("/dev/null").open(), Path("/dev/null").open():
        assert own.open_files() == before + 2


def test_states_and_signals() -> None:
    with child() as process:
        assert process.state() == "running"
        process.signal(signal.SIGSTOP)
        assert until(lambda: process.state() == "stopped", 10)
        process.signal(signal.SIGCONT)
        assert until(lambda: process.state() == "running", 10)
        process.signal(signal.SIGKILL)
        assert until(lambda: not process.alive(), 10)


def test_a_name_with_everything_in_it_breaks_nothing(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 (x\ty"
    shutil.copy("/bin/sh", program)
    with child(str(program), "-c", "echo ready; read -r l < /dev/zero") as process:
        assert process.name() == program.name
        assert process.state() == "running"
        parent = process.parent()
        assert parent is not None and parent.pid == os.getpid()
        assert process in procfs.tree(Process.at(os.getpid()))


def test_a_tree_has_parents_first() -> None:
    code = "import time; print('ready', flush=True); time.sleep(120)"
    middle = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-I', '-S', '-c', {code!r}])"
    )  # fmt: skip
    root = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {middle!r}])"
    with child(sys.executable, "-I", "-S", "-c", root) as process:
        found = procfs.tree(process)
        assert len(found) == 3 and found[0] == process
        assert found[1].parent() == process and found[2].parent() == found[1]
        assert procfs.tree(found[2]) == [found[2]]
        assert process in found[2].ancestors()


def test_every_process_is_listed_once() -> None:
    with child() as process:
        found = procfs.processes()
        assert process in found and Process.at(os.getpid()) in found
        pids = [one.pid for one in found]
        assert pids == sorted(set(pids))


def test_found_by_an_argument_or_an_assignment() -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    words = [sys.executable, "-I", "-S", "-c", IDLE, mark + "0", "other"]
    with child(*words, env={"MARK": mark + "0"}) as process:
        assert procfs.with_argument(mark + "0") == [process]
        assert procfs.with_argument(mark) == []
        assert procfs.with_environment(f"MARK={mark}0".encode()) == [process]
        assert procfs.with_environment(f"MARK={mark}".encode()) == []


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_INET6, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
    ],
    ids=["tcp", "tcp6", "udp", "udp6"],
)
def test_found_by_the_port_it_listens_on(family: int, kind: int) -> None:
    own = Process.at(os.getpid())
    with socket.socket(family, kind) as server:
        try:
            server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError as error:
            pytest.skip(f"no such address here: {error}")
        port = server.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            assert own not in procfs.listening(port)[0], "bound, and not listening"
            server.listen()
        found, whole = procfs.listening(port)
        assert own in found and whole


def test_whoever_is_only_connected_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); {IDLE}"
        )  # fmt: skip
        with child(sys.executable, "-I", "-S", "-c", code) as client:
            found, whole = procfs.listening(port)
            assert Process.at(os.getpid()) in found and client not in found and whole


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_hidden_owner_is_told_from_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import os, sys; from chaoskit.procfs import listening; os.setgroups([]); "
            f"os.setgid(65534); os.setuid(65534); print(listening({port}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "([], False)\n", done.stderr
        other = f"from chaoskit.procfs import listening; print(listening({port})[1])"
        done = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "True\n", done.stderr


def test_kernel_threads_are_told_from_processes() -> None:
    assert not Process.at(os.getpid()).kernel_thread()
    with child() as process:
        assert not process.kernel_thread()
    with contextlib.suppress(Gone):
        second = Process.at(2)
        assert second.kernel_thread() or second.name() != "kthreadd"


def test_a_program_that_is_being_begun_has_its_arguments() -> None:
    """posix_spawn comes back when the old program is gone, not when the new one can be seen. On one
    processor that is always so."""
    code = """if True:
        import os, sys
        from chaoskit.procfs import Process
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        for _ in range(20):
            pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {"A": "b"})
            try:
                began = Process.at(pid)
                print(began.cmdline() == ["sleep", "60"], b"A=b" in began.environ())
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["True True"] * 20
