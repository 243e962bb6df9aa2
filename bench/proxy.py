"""The fault proxy beside haproxy, nginx and Toxiproxy: throughput, round trips, connections, and
how true its faults are. All in the same run, round by round, as medians and ratios.

    python bench/proxy.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

from common import CHAOSKIT, ENVIRONMENT, median, percentile, table

LOAD = Path(__file__).parent / "load"
TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
MANY = 10_000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on {port}")


def ask(port: int, method: str, path: str, document: object = None) -> bytes:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def toxiproxy() -> str | None:
    """The binary: named, found, or built."""
    if found := os.environ.get("CHAOSKIT_TOXIPROXY") or shutil.which("toxiproxy-server"):
        return found
    folder = Path.home() / ".cache" / "chaoskit-bench"
    if not (folder / "server").exists() and shutil.which("go"):
        subprocess.run(["go", "install", TOXIPROXY], env={**os.environ, "GOBIN": str(folder)},
                       check=False, timeout=300)  # fmt: skip
    return str(folder / "server") if (folder / "server").exists() else None


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.service = free_port()
        self.start([sys.executable, str(LOAD / "service.py"), str(self.service)])
        wait_for(self.service)
        self.at: dict[str, int] = {"direct": self.service}
        self.control: dict[str, int] = {}
        self.pids: dict[str, int] = {}

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=ENVIRONMENT)  # fmt: skip
        self.running.append(process)
        return process

    def end(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def open_all(self) -> None:
        """Every peer that is here; one that is not is said to be missing."""
        for name, found, begin in (
            ("haproxy", shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy"), self.haproxy),
            ("nginx", shutil.which("nginx") or shutil.which("/usr/sbin/nginx"), self.nginx),
            ("toxiproxy", toxiproxy(), self.toxi),
            ("chaoskit", CHAOSKIT, self.ours),
        ):
            if found is None:
                print(f"{name} is missing and is not measured")
                continue
            port = free_port()
            begin(found, port)
            wait_for(port)
            self.at[name] = port

    def haproxy(self, program: str, port: int) -> None:
        most = min(40_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100)
        (self.folder / "haproxy.cfg").write_text(
            f"global\n maxconn {most}\ndefaults\n mode tcp\n timeout connect 5s\n"
            f" timeout client 600s\n timeout server 600s\nlisten all\n bind 127.0.0.1:{port}\n"
            f" server one 127.0.0.1:{self.service}\n"
        )
        self.start([program, "-f", str(self.folder / "haproxy.cfg")])

    def nginx(self, program: str, port: int) -> None:
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {module};" if os.path.exists(module) else ""
        (self.folder / "nginx.conf").write_text(
            f"{load} daemon off; pid {self.folder}/nginx.pid; error_log /dev/null;"
            "worker_processes 1; events { worker_connections 30000; }\n"
            f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_timeout 600s;"
            f" tcp_nodelay on; proxy_pass 127.0.0.1:{self.service}; }} }}\n"
        )
        self.start([program, "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)])

    def toxi(self, program: str, port: int) -> None:
        self._faulty("toxiproxy", port, lambda at: [program, "-port", str(at)])

    def ours(self, program: str, port: int) -> None:
        self._faulty("chaoskit", port, lambda at: [program, "proxy", "--listen", f"127.0.0.1:{at}"])

    def _faulty(self, name: str, port: int, command: Callable[[int], list[str]]) -> None:
        at = free_port()
        self.pids[name] = self.start(command(at)).pid
        wait_for(at)
        self.control[name] = at
        ask(at, "POST", "/proxies", {"name": "one", "listen": f"127.0.0.1:{port}",
                                     "upstream": f"127.0.0.1:{self.service}"})  # fmt: skip

    def load(self, name: str, what: str, *numbers: float) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, str(LOAD / "client.py"), what, "127.0.0.1", str(self.at[name]),
             *map(str, numbers)],
            stdout=subprocess.PIPE, check=True, timeout=120,
        )  # fmt: skip
        return {key: float(value) for key, value in json.loads(done.stdout).items()}

    def rounds(
        self, names: list[str], count: int, what: str, *numbers: float
    ) -> dict[str, dict[str, float]]:
        """Medians of each figure, the peers taking turns so that noise hits all alike."""
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(count):
            for name in names:
                found[name].append(self.load(name, what, *numbers))
        return {
            name: {key: median([one[key] for one in many]) for key in many[0]}
            for name, many in found.items()
        }

    @contextlib.contextmanager
    def toxic(self, name: str, kind: str, **attributes: float) -> Iterator[None]:
        at = self.control[name]
        ask(at, "POST", "/proxies/one/toxics",
            {"name": "t", "type": kind, "stream": "upstream", "attributes": attributes},
        )  # fmt: skip
        try:
            yield
        finally:
            ask(at, "DELETE", "/proxies/one/toxics/t")


def judged(value: float, limit: float, *, least: bool) -> str:
    good = value >= limit if least else value <= limit
    return f"{value:.2f} (limit {'>=' if least else '<='} {limit:g}) {'PASS' if good else 'MISS'}"


def pass_through(bench: Bench, rounds: int, seconds: float) -> None:
    names = list(bench.at)
    bulk = {n: bench.rounds(names, rounds, "bulk", n, seconds) for n in (1, 8)}
    trips = bench.rounds(names, rounds, "pingpong", 3000)
    rates = bench.rounds(names, rounds, "connects", 1500, 1)
    table(
        "Nothing in: medians of so many rounds",
        ["", "GB/s, 1", "GB/s, 8", "64 B p50 us", "p99 us", "connections/s"],
        [[name, *(f"{bulk[n][name]['bytes'] / 1e9:.2f}" for n in (1, 8)),
          f"{trips[name]['p50']:.0f}", f"{trips[name]['p99']:.0f}", f"{rates[name]['rate']:.0f}"]
         for name in names],
    )  # fmt: skip
    rows = []
    ours = "chaoskit"
    for peer, limit in (("haproxy", 1.5), ("toxiproxy", 2.5)):
        if peer in bench.at:
            for n in (1, 8):
                ratio = bulk[n][ours]["bytes"] / bulk[n][peer]["bytes"]
                rows.append([f"throughput over {peer}'s, {n} connections",
                             judged(ratio, limit, least=True)])  # fmt: skip
    if "haproxy" in bench.at:
        for key in ("p50", "p99"):
            ratio = trips[ours][key] / trips["haproxy"][key]
            rows.append([f"round trip over haproxy's, {key}", judged(ratio, 1.0, least=False)])
        ratio = rates[ours]["rate"] / rates["haproxy"]["rate"]
        rows.append(["connections a second over haproxy's", judged(ratio, 0.9, least=True)])
    added = trips[ours]["mean"] - trips["direct"]["mean"]
    rows.append(["an empty proxy adds, us on average", judged(added, 300, least=False)])
    table("Ratios", ["", ""], rows)


def delayed(bench: Bench, rounds: int, seconds: float) -> None:
    names = list(bench.control)
    found: dict[str, list[float]] = {name: [] for name in names}
    errors: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name in names:
            with bench.toxic(name, "latency", latency=100):
                found[name].append(bench.load(name, "bulk", 1, seconds * 1.5)["bytes"])
        for connections in (1, 100):
            plain = bench.load("direct", "delays", connections, 1, 0.05)["p50"]
            for name in names:
                with bench.toxic(name, "latency", latency=100):
                    one = bench.load(name, "delays", connections, 2, 0.05)
                errors.setdefault((name, connections), []).append(
                    (one["p50"] - 100 - plain, one["p99"] - 100 - plain)
                )
    rows = [
        [name, f"{median(found[name]) / 1e9:.2f}",
         *(f"{median([e[at] for e in errors[name, n]]):.2f}" for n in (1, 100) for at in (0, 1))]
        for name in names
    ]  # fmt: skip
    table(
        "With 100 ms of latency",
        ["", "GB/s, 1", "error ms, 1: p50", "p99", "error ms, 100: p50", "p99"],
        rows,
    )
    ours = [median([e[at] for e in errors["chaoskit", n]]) for n in (1, 100) for at in (0, 1)]
    judgements = [
        [f"error with {n} connections, {key}, ms", judged(value, limit, least=False)]
        for (n, key, limit), value in zip(
            ((1, "p50", 0.6), (1, "p99", 2), (100, "p50", 0.6), (100, "p99", 2)), ours, strict=True
        )
    ]
    if "toxiproxy" in found:
        ratio = median(found["chaoskit"]) / median(found["toxiproxy"])
        judgements.insert(0, ["throughput over toxiproxy's", judged(ratio, 3, least=True)])
    table("Ratios and errors", ["", ""], judgements)


def toxiproxys_own(bench: Bench, rounds: int) -> None:
    rows = []
    for name in bench.control:
        took = []
        for _ in range(rounds):
            with bench.toxic(name, "bandwidth", rate=1000):
                took.append(bench.load(name, "timed", 480_000)["ms"])
        rows.append([name, f"{median(took):.1f}", f"{max(abs(one - 480) for one in took):.1f}"])
    table("480 KB at 1 MB/s: 480 ms, within 10", ["", "ms", "worst error"], rows)


def interface(bench: Bench, seconds: float) -> None:
    """How long the interface takes to answer while data flows as fast as it can."""
    rows = []
    for name, at in bench.control.items():
        load = subprocess.Popen(
            [sys.executable, str(LOAD / "client.py"), "bulk", "127.0.0.1", str(bench.at[name]),
             "8", str(seconds + 1.0)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        times = []
        time.sleep(0.5)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for method, path, document in (
                ("POST", "/proxies/one/toxics", {"name": "n", "type": "noop"}),
                ("GET", "/proxies", None),
                ("DELETE", "/proxies/one/toxics/n", None),
            ):
                began = time.perf_counter()
                ask(at, method, path, document)
                times.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.005)
        load.wait(30)
        p99 = percentile(times, 0.99)
        rows.append([name, f"{median(times):.1f}", f"{p99:.1f}",
                     judged(p99, 100, least=False) if name == "chaoskit" else ""])  # fmt: skip
    table("The interface under full load, 8 connections", ["", "p50 ms", "p99 ms", ""], rows)


def resident(pid: int) -> float:
    """Kilobytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    return 0.0


def many(bench: Bench, count: int) -> None:
    rows = []
    for name, pid in bench.pids.items():
        states = []

        def look(pid: int = pid, states: list[tuple[float, int]] = states) -> None:
            states.append((resident(pid), len(os.listdir(f"/proc/{pid}/fd"))))

        look()
        client = subprocess.Popen(
            [sys.executable, str(LOAD / "client.py"), "idle", "127.0.0.1", str(bench.at[name]),
             str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert client.stdout is not None and client.stdout.readline() == b"open\n"
        time.sleep(1)
        look()
        time.sleep(3)
        look()
        client.communicate(b"\n")
        time.sleep(2)
        look()
        (before, files, *_), (at, open_), (later, _), (after, left) = states
        rows.append([name, f"{(at - before) / count:.1f}", f"{later - at:+.0f}", open_ - files,
                     f"{(after - before) / 1024:.1f}", left - files])  # fmt: skip
    table(
        f"{count} open idle connections",
        ["", "KB each", "KB more 3 s later", "descriptors", "MB kept after", "descriptors left"],
        rows,
    )


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    args = parser.parse_args()
    rounds, seconds = (2, 1.0) if args.quick else (args.rounds, 2.0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        hard = max(hard, 65_536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        try:
            bench.open_all()
            pass_through(bench, rounds, seconds)
            delayed(bench, max(2, rounds - 2), seconds)
            toxiproxys_own(bench, max(2, rounds - 2))
            interface(bench, seconds * 2)
            many(bench, MANY // 10 if args.quick else MANY)
        finally:
            bench.end()


if __name__ == "__main__":
    main()
