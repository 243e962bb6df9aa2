"""The proxies that are measured, each begun with its own settings and in front of one service."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import CHAOSKIT, ENVIRONMENT

HERE = Path(__file__).parent
TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
CACHE = Path.home() / ".cache" / "chaoskit-tests" / "toxiproxy-2.12.0"
DESCRIPTORS = 65_536
"""What every process may open, where the system lets us: 10,000 connections take 20,000."""

_LIBC = ctypes.CDLL(None)


def _end_with_us() -> None:
    _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: even if the bench is killed.


class Peer:
    """Something to connect to. control: the port of its HTTP interface, of those that have one."""

    def __init__(self, name: str, port: int, pid: int = 0, control: int = 0) -> None:
        self.name = name
        self.port = port
        self.pid = pid
        self.control = control

    def ask(self, method: str, path: str, document: object = None) -> bytes:
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.control}{path}", data, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    @contextlib.contextmanager
    def toxic(self, kind: str, **attributes: int) -> Iterator[None]:
        self.ask("POST", "/proxies/bench/toxics", {"name": "bench", "type": kind,
                 "stream": "upstream", "attributes": attributes})  # fmt: skip
        try:
            yield
        finally:
            self.ask("DELETE", "/proxies/bench/toxics/bench")

    def family(self) -> list[int]:
        """Its process and the children of that: nginx works in those."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def processor(self) -> float:
        """Seconds of processor time that it has used."""
        ticks = 0
        for pid in self.family():
            after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(after[11]) + int(after[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes."""
        size = 0
        for pid in self.family():
            size += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return size * resource.getpagesize()

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.family())


class Field:
    """All peers that are here, and what loads them. Everything it begins ends with it."""

    def __init__(self, folder: Path, also: str = "") -> None:
        self.folder = folder
        self.also = also  # The command line of another build of ours.
        self.peers: dict[str, Peer] = {}
        self.missing: dict[str, str] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        self.service = free_port()

    def __enter__(self) -> Field:
        _open_many()
        self.begin([sys.executable, "-S", "-E", str(HERE / "service.py"), str(self.service)])
        listening(self.service)
        self.peers["direct"] = Peer("direct", self.service)
        try:
            self._haproxy("haproxy", "")
            self._haproxy("haproxy splice", "option splice-auto")
            self._nginx()
            self._toxiproxy()
            self._ours("chaoskit", CHAOSKIT)
            if self.also:
                self._ours("also", self.also)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def begin(self, command: Sequence[str], **more: str) -> int:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**ENVIRONMENT, **more}, preexec_fn=_end_with_us,
        )  # fmt: skip
        self._running.append(process)
        return process.pid

    def load(self, peer: Peer, what: str, *numbers: float) -> subprocess.Popen[bytes]:
        """Begin to load a peer; `answer` has the result."""
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(HERE / "client.py"), what, str(peer.port),
             str(self.service), *map(str, numbers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_end_with_us,
        )  # fmt: skip
        self._running.append(process)
        return process

    def answer(self, process: subprocess.Popen[bytes], said: bytes = b"") -> dict[str, float]:
        out, _ = process.communicate(said, timeout=60)
        self._running.remove(process)
        if process.returncode:
            raise SystemExit("a load did not succeed; what it said stands above")
        return dict(json.loads(out))

    def measure(self, peer: Peer, what: str, *numbers: float) -> dict[str, float]:
        return self.answer(self.load(peer, what, *numbers))

    def faulty(self) -> list[Peer]:
        """Those that know toxics."""
        return [peer for peer in self.peers.values() if peer.control]

    def _haproxy(self, name: str, option: str) -> None:
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            self.missing[name] = "not installed"
            return
        port = free_port()
        # Splice's pipes take descriptors too.
        most = 1000 if option else carried()
        config = self.folder / f"{name}.cfg"
        config.write_text(
            f"global\n  maxconn {most}\ndefaults\n  mode tcp\n  {option}\n"
            "  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
            f"listen bench\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{self.service}\n"
        )
        self._add(Peer(name, port, self.begin([program, "-q", "-f", str(config)])))

    def _nginx(self) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            self.missing["nginx"] = "not installed"
            return
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        port = free_port()
        config = self.folder / "nginx.conf"
        config.write_text(
            (f"load_module {module};\n" if module.exists() else "")
            + f"daemon off; worker_processes auto; pid {self.folder}/nginx.pid;\n"
            f"error_log {self.folder}/nginx.log; events {{ worker_connections 30000; }}\n"
            f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_timeout 600s;"
            f" proxy_pass 127.0.0.1:{self.service}; }} }}\n"
        )
        tried = subprocess.run([program, "-t", "-c", str(config), "-p", str(self.folder)],
                               capture_output=True, text=True, timeout=20)  # fmt: skip
        if tried.returncode:
            self.missing["nginx"] = "no stream module (Debian: libnginx-mod-stream)"
            return
        pid = self.begin([program, "-c", str(config), "-p", str(self.folder)])
        self._add(Peer("nginx", port, pid))

    def _toxiproxy(self) -> None:
        program = _toxiproxy()
        if program is None:
            self.missing["toxiproxy"] = "neither CHAOSKIT_TOXIPROXY, toxiproxy-server nor Go"
            return
        control = free_port()
        command = [program, "-host", "127.0.0.1", "-port", str(control)]
        # A line for each connection would cost it time that the others do not spend.
        self._faulty("toxiproxy", control, self.begin(command, LOG_LEVEL="error"))

    def _ours(self, name: str, program: str) -> None:
        control = free_port()
        command = [*program.split(), "proxy", "--listen", f"127.0.0.1:{control}"]
        self._faulty(name, control, self.begin(command))

    def _faulty(self, name: str, control: int, pid: int) -> None:
        listening(control)
        port = free_port()
        peer = Peer(name, port, pid, control)
        peer.ask("POST", "/proxies", {"name": "bench", "listen": f"127.0.0.1:{port}",
                                      "upstream": f"127.0.0.1:{self.service}"})  # fmt: skip
        self._add(peer)

    def _add(self, peer: Peer) -> None:
        listening(peer.port)
        self.peers[peer.name] = peer


def carried() -> int:
    """Connections that a proxy may carry here: each takes two descriptors."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2


_ports = itertools.count(20_000 + os.getpid() % 8000)


def free_port() -> int:
    """Below the ports that clients are given: a connection must not take it meanwhile."""
    for port in _ports:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def _open_many() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for most in (max(DESCRIPTORS, hard), hard):  # To raise it takes a privilege.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return


def listening(port: int) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def _toxiproxy() -> str | None:
    """The real one: named, found, or built once."""
    if found := os.environ.get("CHAOSKIT_TOXIPROXY") or shutil.which("toxiproxy-server"):
        return found
    binary = CACHE / "server"
    go = shutil.which("go")
    if not binary.exists() and go is not None:
        print("building Toxiproxy, once", file=sys.stderr)
        subprocess.run([go, "install", TOXIPROXY], env={**os.environ, "GOBIN": str(CACHE)},
                       capture_output=True, timeout=600)  # fmt: skip
    return str(binary) if binary.exists() else None
