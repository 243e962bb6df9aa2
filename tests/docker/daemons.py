"""A real dockerd of the tests' own: its own folders, socket, cgroup and range of networks.

    with daemons.running() as daemon:
        web = daemon.run(name="web")            # a container as the docker SDK has it
        daemon.kill(); daemon.start()

Nothing of it outlives the block, nor a pytest that is killed: see keeper.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
import images
import keeper
import pytest
from docker.models.containers import Container
from ranges import Network, Range, free_range

from chaoskit.clock import until
from chaoskit.engine.guardian import thread_states
from chaoskit.errors import Gone
from chaoskit.procfs import Process, tree

START = 60.0
"""Seconds a daemon may take to answer: it takes one, on an idle machine."""

KEEPER = Path(__file__).with_name("keeper.py")


class Daemon:
    """A dockerd and a client of it."""

    def __init__(self, folder: Path, ranges: Range, live_restore: bool = False) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.log = folder / "dockerd.log"
        self.cgroup = f"/{folder.name}"
        self.ranges = ranges
        self._live_restore = live_restore
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "daemon.json").write_text("{}")

    # --- the daemon

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        self.start_only(*options)
        self.wait()

    def start_only(self, *options: str) -> None:
        # Not the machine's own settings; not a rule or a setting of the host's network is touched.
        command = ["dockerd", "--config-file", f"{self.folder}/daemon.json", "-H", self.url,
                   "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
                   "--pidfile", f"{self.folder}/docker.pid", "--cgroup-parent", self.cgroup,
                   "--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge", "none",
                   "--iptables=false", "--ip6tables=false", "--ip-forward=false",
                   "--default-address-pool", f"base={self.ranges.auto},size=24"]  # fmt: skip
        if self._live_restore:
            command.append("--live-restore")
        command += options
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                # One that hangs is asked by dockerd where it does, and writes that there.
                env={**os.environ, "TMPDIR": str(self.folder)},
            )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + START
        while not self.answers():
            told = self.log.read_text()[-2000:]
            assert self._process and self._process.poll() is None, f"dockerd ended:\n{told}"
            assert time.monotonic() < end, f"dockerd does not answer:\n{told}"
            time.sleep(0.05)
        self.client = docker.DockerClient(self.url, version="auto", timeout=60)

    def answers(self, within: float = 2.0) -> bool:
        with socket.socket(socket.AF_UNIX) as asked, contextlib.suppress(OSError):
            asked.settimeout(within)
            asked.connect(str(self.socket))
            asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in asked.recv(4096)
        return False

    def stop(self) -> None:
        """It ends by itself; its containers too, but with `live_restore`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: its containers run until it starts again, which ends them without
        `live_restore`."""
        self._end(signal.SIGKILL)
        # Its containerd dies with it, a little later. Where nobody reaps that, the next dockerd
        # thinks it lives.
        where = (str(self.folder), self.cgroup)
        assert until(lambda: "containerd --" not in str(keeper.processes(*where)), 10)
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def _end(self, number: signal.Signals) -> None:
        assert self._process
        self.client.close()
        self._process.send_signal(number)
        self._process.wait(60)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It holds its socket open and answers nobody."""
        os.kill(self.pid, signal.SIGSTOP)
        # A thread that has no processor now stops when it gets one.
        assert until(lambda: thread_states(self.pid) == {"T"}, START)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def revive(self) -> None:
        """Whatever a test has done to it: it runs, and answers."""
        assert self._process
        if self._process.poll() is None:
            self.thaw()
        if not self.answers(within=20):
            with contextlib.suppress(ProcessLookupError):
                self.kill()
            self.start()

    # --- what is in it

    def name(self, word: str = "box") -> str:
        """A name that nothing else has in this daemon, nor in another of the tests."""
        return f"{word}-{self.ranges.number}-{next(self._numbers)}"

    def run(
        self,
        *command: str,
        name: str | None = None,
        image: str = images.BUSYBOX,
        **options: Any,
    ) -> Container:
        """Start a container; it sleeps unless told otherwise. options: as the SDK's `run`.

        Without `network` it has only a loopback.
        """
        options.setdefault("network_mode", None if "network" in options else "none")
        made = self.client.containers.run(
            image, command or None, name=name or self.name(), detach=True, **options
        )
        _begun(made, "sleep" if image == images.BUSYBOX and not command else "")
        return made

    def faketime(self, *command: str, **options: Any) -> Container:
        """Start a container whose clock libfaketime tells. Skips where there is no libfaketime."""
        if images.faketime() is None:
            pytest.skip("no libfaketime; Debian's package faketime has it")
        if not self.client.images.list(images.FAKETIME):
            self.import_tar(images.FAKETIME, images.faketime_tar())
        options = {"environment": images.FAKED} | options
        made = self.run(*command or images.FAKED_LIVE, image=images.FAKETIME, **options)
        if (options["environment"] or {}).get("LD_PRELOAD"):
            pid = _pid(made)
            assert until(lambda: not pid or "libfaketime" in _maps(pid), START)
        return made

    def network(
        self, name: str | None = None, fixed: bool = False, ipv6: bool = False, **options: Any
    ) -> Network:
        """fixed: its subnet is configured, so an address can be asked for in it."""
        pools, count = [], next(self._numbers) % 128
        if fixed or ipv6:
            pools.append(docker.types.IPAMPool(str(self.ranges.subnet(count))))
        if ipv6:
            pools.append(docker.types.IPAMPool(str(self.ranges.subnet6(count))))
        ipam = docker.types.IPAMConfig(pool_configs=pools) if pools else None
        made = self.client.networks.create(
            name or self.name("net"), ipam=ipam, enable_ipv6=ipv6, **options
        )
        made.reload()
        subnets = [pool["Subnet"] for pool in made.attrs["IPAM"]["Config"]]
        return Network(made.name, made.id, subnets)

    def import_tree(self, tag: str, folder: Path, changes: Sequence[str] = ()) -> str:
        """An image of what is in a folder. changes: lines of a Dockerfile, as CMD and ENV."""
        return self.import_tar(tag, images.tree_tar(folder), changes)

    def import_tar(self, tag: str, data: bytes, changes: Sequence[str] = ()) -> str:
        name, _, version = tag.partition(":")
        answer = self.client.api.import_image_from_data(
            data, repository=name, tag=version or "latest", changes=list(changes)
        )
        told = json.loads(answer.splitlines()[-1])
        assert "status" in told, told
        return tag

    def empty(self) -> None:
        """Remove all containers, networks and volumes; the images stay."""
        for container in self.client.containers.list(all=True):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for network in self.client.networks.list():
            if network.name not in ("none", "host", "bridge"):
                network.remove()
        for volume in self.client.volumes.list():
            volume.remove(force=True)


def _begun(container: Container, child: str) -> None:
    """It is said to run before its program does: until then there is the daemon's helper, with its
    limits and its memory. child: what its first process must have started, or nothing."""
    pid = _pid(container)

    def begun() -> bool:
        try:
            if Path(f"/proc/{pid}/comm").read_text().startswith("runc"):
                return False
            return not child or child in [one.name() for one in tree(Process.at(pid))[1:]]
        except Gone:
            return False  # One of its children has; the next look shows who stays.
        except OSError:
            return not Path(f"/proc/{pid}").exists()

    assert not pid or until(begun, START)


def _pid(container: Container) -> int:
    """Of its first process; 0 when it has ended."""
    container.reload()
    return int(container.attrs["State"]["Pid"])


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return "libfaketime"  # It has ended; it need not.


_shared = contextlib.ExitStack()
_daemons: list[Daemon] = []


def shared() -> Daemon:
    """The one of this process, started when it is first asked for. It runs until `close_shared`."""
    if not _daemons:
        _daemons.append(_shared.enter_context(running()))
    return _daemons[0]


def close_shared() -> None:
    _daemons.clear()
    _shared.close()


@contextlib.contextmanager
def running(live_restore: bool = False) -> Iterator[Daemon]:
    """A daemon with the images of images.py. Skips where a part is missing."""
    if reason := missing():
        pytest.skip(reason)
    # Short, since a socket's path is.
    folder = Path(tempfile.mkdtemp(prefix="chaoskit-dk-", dir="/tmp"))
    ranges = free_range()
    with _kept(folder, ranges):
        daemon = Daemon(folder, ranges, live_restore)
        try:
            daemon.start()
            daemon.import_tar(images.BUSYBOX, images.busybox_tar(), images.changes(images.LIVE))
            live = images.changes(["/sleep", "1d"])
            daemon.import_tar(images.SCRATCH, images.scratch_tar(), live)
            yield daemon
        finally:
            if hasattr(daemon, "client"):
                daemon.client.close()
            if daemon._process:
                daemon._process.kill()
                daemon._process.wait(20)


@contextlib.contextmanager
def _kept(folder: Path, ranges: Range) -> Iterator[None]:
    """A keeper takes all of it away when the block ends, and when this process does."""
    words = [str(folder), f"/{folder.name}", *ranges.all]
    keeping = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=(ranges.hold.fileno(),),
    )
    ranges.hold.close()
    try:
        yield
    finally:
        left, _ = keeping.communicate(timeout=keeper.PATIENCE * 2)
    assert not left, f"dockerd left behind:\n{left}"


def missing() -> str | None:
    """What of this lane is missing on this machine."""
    if os.geteuid() != 0:
        return "a dockerd of the tests' own needs root"
    if shutil.which("dockerd") is None:
        return "no dockerd; Debian's package docker.io has it"
    if images.busybox() is None:
        return "no static busybox; Debian's package busybox-static has it"
    for tool in ("ip", "nsenter", "nft"):
        if shutil.which(tool) is None:
            return f"no {tool}; Debian's packages iproute2, util-linux and nftables have them"
    return None
