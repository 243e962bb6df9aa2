"""What each fault does to real traffic, on our own server and, where it can, on Toxiproxy."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers
import pytest
from echoes import Echo, free_port
from runs import THEIRS, chaoskit, echoed, experiment, make_link, running, step, toxics

import chaoskit as library
from chaoskit.clock import Cancel, until
from chaoskit.errors import InputError, Interrupted, Refused
from chaoskit.faults.latency import Latency
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Ends
from chaoskit.model.impairment import Impairment
from chaoskit.targets.link_probe import delayed
from chaoskit.targets.proxy import ProxySelector
from chaoskit.targets.proxy_client import Client, normal_url

Address = tuple[str, int]


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture(params=["ours", "toxiproxy"])
def server(request: pytest.FixtureRequest) -> peers.Running:
    made: peers.Running = request.getfixturevalue(request.param)
    return made


@contextlib.contextmanager
def hurting(
    server: str, folder: Path, upstream: str, fault: str, **params: Any
) -> Iterator[Address]:
    """The link's address while the fault is in."""
    address = make_link(server, upstream)
    with running(experiment(folder, step(fault, server, **params)), folder / "state"):
        yield address


def test_latency_delays_each_direction(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    params = {"delay": "150ms", "direction": "both"}
    with hurting(server, tmp_path, echo.address, "latency", **params) as address:
        assert echoed(address) >= 0.3


def test_bandwidth_narrows(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with hurting(server, tmp_path, echo.address, "bandwidth", rate="200KB/s") as address:
        assert echoed(address, b"x" * 100_000) >= 0.3


def test_a_black_hole_swallows(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with (
        hurting(server, tmp_path, echo.address, "drop-network") as address,
        pytest.raises(TimeoutError),
    ):
        echoed(address, timeout=0.5)


def test_a_refusal_refuses_and_resets_what_is_there(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    address = make_link(server, echo.address)
    file = experiment(tmp_path, step("drop-network", server, how="refuse"))
    with socket.create_connection(address, 10) as live:
        live.sendall(b"x")
        assert live.recv(1) == b"x"
        with running(file, tmp_path / "state"):
            with pytest.raises(ConnectionRefusedError):
                echoed(address)
            with contextlib.suppress(ConnectionResetError):
                assert live.recv(1) == b""


def test_a_reset_resets(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with (
        hurting(server, tmp_path, echo.address, "reset") as address,
        pytest.raises(ConnectionError),
    ):
        echoed(address)


def test_a_slow_close_is_slow(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with hurting(server, tmp_path, echo.address, "slow-close", delay="400ms") as address:
        assert echoed(address) < 10
        with socket.create_connection(address, 10) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            began = time.monotonic()
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
            assert time.monotonic() - began >= 0.39


def test_slices_take_their_time(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    params = {"size": "10B", "delay": "20ms"}
    with hurting(server, tmp_path, echo.address, "slice", **params) as address:
        assert echoed(address, b"x" * 200) >= 0.3


def test_data_is_limited(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with hurting(server, tmp_path, echo.address, "limit-data", size="100B") as address:
        with pytest.raises(ConnectionError):
            echoed(address, b"x" * 200)
        assert echoed(address, b"x" * 50) < 10


def test_loss_stalls(ours: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with hurting(ours, tmp_path, echo.address, "loss", share="100%") as address:
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            echoed(address, timeout=1)
        assert time.monotonic() - began >= 0.19


def test_corruption_changes_the_payload(ours: peers.Running, echo: Echo, tmp_path: Path) -> None:
    with hurting(ours, tmp_path, echo.address, "corrupt", share="100%") as address:
        with socket.create_connection(address, 10) as connection:
            connection.sendall(b"x" * 100)
            got = connection.recv(65536)
        assert len(got) == 100 and got != b"x" * 100


class _Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    made.daemon_threads = True
    made.block_on_close = False
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    thread.join(5)
    made.server_close()


def asked(address: Address, path: str, method: str = "GET") -> tuple[int, str | None, bytes, float]:
    """Status, Retry-After, body, and the seconds that it took."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(*address, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        got = connection.getresponse()
        return got.status, got.getheader("Retry-After"), got.read(), time.monotonic() - began


def test_some_requests_get_an_error(ours: peers.Running, service: str, tmp_path: Path) -> None:
    params = {"status": 503, "body": "busy", "headers": {"Retry-After": "7"}, "path": "/cart/.*"}
    with hurting(ours, tmp_path, service, "http-error", **params) as address:
        assert asked(address, "/cart/1")[:3] == (503, "7", b"busy")
        assert asked(address, "/")[:3] == (200, None, b"ok")


def test_a_pattern_that_takes_for_ever_is_given_up_and_nothing_is_proven(
    ours: peers.Running, service: str, tmp_path: Path
) -> None:
    """The server goes on, and so does everybody else's traffic."""
    address = make_link(ours, service)
    params = {"status": 503, "body": "busy", "path": r"(/?\w+)+\.json"}
    file = experiment(tmp_path, step("http-error", ours, "3s", **params))
    with running(file, tmp_path / "state") as run:
        assert asked(address, "/" + "a" * 40)[:3] == (200, None, b"ok")
        assert asked(address, "/a.json")[:3] == (200, None, b"ok")
        code, said = run.end()
    assert code == 6 and "ended before its time" in said, said
    assert toxics(ours) == ["theirs"]


def test_some_requests_wait(ours: peers.Running, service: str, tmp_path: Path) -> None:
    params = {"delay": "300ms", "method": "POST"}
    with hurting(ours, tmp_path, service, "http-delay", **params) as address:
        assert asked(address, "/", "POST")[3] >= 0.3
        assert asked(address, "/")[3] < 0.3


def test_toxicity_is_a_share_of_the_connections_and_the_seed_decides_which(
    ours: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    def slow(folder: Path) -> list[bool]:
        folder.mkdir()
        params = {"delay": "200ms", "toxicity": "50%"}
        make_link(ours, echo.address)
        file = experiment(folder, step("latency", ours, **params))
        with running(file, folder / "state", *SEEDED):
            listen = Client(ours).link("hurt")["listen"].rpartition(":")
            found = [echoed((listen[0], int(listen[2]))) >= 0.2 for _ in range(12)]
        Client(ours).ask("DELETE", "/proxies/hurt")
        return found

    first = slow(tmp_path / "first")
    assert 0 < sum(first) < 12
    assert slow(tmp_path / "second") == first


SEEDED = (sys.executable, "-c", "import sys; from chaoskit.cli.main import main; "
          "sys.argv += ['--seed', '7']; main()")  # fmt: skip


@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
def test_a_real_redis_through_an_own_proxy(tmp_path: Path) -> None:
    port, listen = free_port(), free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
         "--appendonly", "no", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert until(lambda: _pong(port) is not None, 20)
        target = {"proxy": {"listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{port}"}}
        hurt = {"fault": "latency", "target": target, "delay": "200ms", "for": "30s"}
        probe = {"address": f"127.0.0.1:{listen}", "send": "PING\r\n", "read-banner": True}
        checks = [{"name": "redis", "tcp": probe, "expect": {"banner": {"contains": "PONG"}}}]
        file = experiment(tmp_path, hurt, **{"steady-state": checks})
        with running(file, tmp_path / "state"):
            assert (_pong(listen) or 0) >= 0.2 > (_pong(port) or 1)
    finally:
        redis.terminate()
        redis.wait(20)


def _pong(port: int) -> float | None:
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"PING\r\n")
            return time.monotonic() - began if connection.recv(7) == b"+PONG\r\n" else None
    except OSError:
        return None


def test_a_probe_sees_a_delay_and_sees_when_there_is_none(ours: peers.Running, echo: Echo) -> None:
    host, port = make_link(ours, echo.address)
    listen = f"{host}:{port}"
    assert delayed(listen, 0.2, Cancel()) is False
    attributes = {"latency": 200}
    Client(ours).add("hurt", {"name": "late", "type": "latency", "attributes": attributes})
    assert delayed(listen, 0.2, Cancel()) is True
    assert delayed(f"127.0.0.1:{free_port()}", 0.2, Cancel()) is None
    with socket.create_server(("127.0.0.1", 0)) as silent:  # It never closes.
        assert delayed(f"127.0.0.1:{silent.getsockname()[1]}", 0.1, Cancel()) is None
        aborting = Cancel()
        aborting.set()
        with pytest.raises(Interrupted):
            delayed(f"127.0.0.1:{silent.getsockname()[1]}", 30.0, aborting)


def test_a_delay_that_is_on_paper_only_is_not_proven(
    ours: peers.Running, echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server shows what was asked for, and delays nothing."""
    make_link(ours, echo.address)
    kept = Client.add

    def idle(client: Client, link: str, toxic: dict[str, Any]) -> None:
        kept(client, link, toxic | {"toxicity": 0})

    def boasts(client: Client, link: str) -> dict[str, Any]:
        found = dict(client.ask("GET", f"/proxies/{link}"))
        return found | {"toxics": [t | {"toxicity": 1} for t in found["toxics"]]}

    monkeypatch.setattr(Client, "add", idle)
    monkeypatch.setattr(Client, "link", boasts)
    monkeypatch.setattr(Latency, "patience", 0.5)
    file = experiment(tmp_path, step("latency", ours, "100ms", delay="100ms"))
    result = library.run(library.load(file), state=tmp_path / "state")
    assert result.verdict and result.verdict.value == "inconclusive", result.reason
    assert "did not take" in result.reason and toxics(ours) == ["theirs"]


@pytest.mark.parametrize(("params", "why"), [
    ({"fault": "loss", "share": "10%"}, "Toxiproxy has no loss"),
    ({"fault": "corrupt", "share": "10%"}, "Toxiproxy has no corrupt"),
    ({"fault": "http-error"}, "Toxiproxy has no http-error"),
    ({"fault": "http-delay", "delay": "1s"}, "Toxiproxy has no http-delay"),
    ({"fault": "latency", "delay": "500us"}, "whole milliseconds"),
    ({"fault": "latency", "delay": "9ms", "jitter": "1ms", "distribution": "normal"}, "uniform"),
    ({"fault": "latency", "delay": "9ms", "jitter": "1ms", "correlation": "5%"}, "correlate"),
    ({"fault": "bandwidth", "rate": "1500B/s"}, "whole KB/s"),
    ({"fault": "reset", "toxicity": "30%"}, "whatever the toxicity"),
    ({"fault": "reset", "after": "10s"}, "cannot take back"),
], ids=lambda value: value.get("fault") if isinstance(value, dict) else None)  # fmt: skip
def test_what_toxiproxy_cannot_is_refused_with_the_reason(
    toxiproxy: peers.Running, echo: Echo, tmp_path: Path, params: dict[str, Any], why: str
) -> None:
    make_link(toxiproxy, echo.address)
    file = experiment(tmp_path, step(params.pop("fault"), toxiproxy, **params))
    done = chaoskit("run", file, state=tmp_path / "state")
    assert done.returncode == 3 and why in done.stdout, done.stdout + done.stderr
    assert toxics(toxiproxy) == ["theirs"]


def test_a_server_that_is_none_is_refused_in_one_clear_line(
    echo: Echo, service: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port, why in (
            (free_port(), "connection refused"),
            (silent.getsockname()[1], "no whole answer within 2s"),
            (int(echo.address.rpartition(":")[2]), "no HTTP answer"),
            (int(service.rpartition(":")[2]), "no Toxiproxy"),
        ):
            selector = ProxySelector(url=f"http://127.0.0.1:{port}")
            began = time.monotonic()
            with pytest.raises(Refused) as refused:
                selector.find(Binding("run", "1", tmp_path))
            assert why in str(refused.value) and str(port) in str(refused.value)
            assert "\n" not in str(refused.value) and time.monotonic() - began < 5


def test_a_link_that_is_not_there_is_refused_and_those_that_are_are_named(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    binding = Binding("run", "1", tmp_path)
    with pytest.raises(Refused, match=r"there is no link hart .* there are: hurt"):
        ProxySelector(name="hart", url=server).find(binding)
    make_link(server, echo.address, "an öther?")
    found = ProxySelector(url=server).find(binding)
    assert [target.name for target in found] == ["an öther?", "hurt"]  # type: ignore[attr-defined]
    what = Impairment("limit-data", "upstream", 1.0, {"size": 5})
    target = found[0]
    assert target.there()  # A name is quoted where it stands in a path.
    change = target.impairing(what)  # type: ignore[attr-defined]
    target.impair(what, change)  # type: ignore[attr-defined]
    assert target.holds(change.key) == change.put  # type: ignore[attr-defined]
    target.relieve(change)  # type: ignore[attr-defined]
    assert target.holds(change.key) is None  # type: ignore[attr-defined]
    assert THEIRS["name"] in toxics(server)


def test_a_server_that_hangs_costs_a_plan_of_many_steps_no_more_than_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hurt = [step("latency", url, delay="1s") for _ in range(8)]
        began = time.monotonic()
        done = chaoskit("run", experiment(tmp_path, *hurt), state=tmp_path / "state")
        assert time.monotonic() - began < 12
    assert done.returncode == 3 and "no whole answer within 2s" in done.stdout, done.stdout


def test_what_is_disabled_is_not_hurt(server: peers.Running, echo: Echo, tmp_path: Path) -> None:
    make_link(server, echo.address)
    Client(server).enable("hurt", False)
    file = experiment(tmp_path, step("bandwidth", server, "4s", rate="1KB/s"))
    done = chaoskit("run", file, state=tmp_path / "state")
    assert done.returncode == 3 and "it is disabled" in done.stdout, done.stdout
    refuse = experiment(tmp_path, step("drop-network", server, "4s", how="refuse"))
    done = chaoskit("run", refuse, state=tmp_path / "state")
    assert done.returncode == 3 and ("disabled" in done.stdout or "already" in done.stdout), done
    file = experiment(tmp_path, step("bandwidth", server, "4s", rate="1KB/s"))
    Client(server).enable("hurt", True)
    with running(file, tmp_path / "state") as run:
        Client(server).enable("hurt", False)
        code, said = run.end()
        assert code == 6 and "ended before its time" in said, said
    assert toxics(server) == ["theirs"]


def test_a_link_of_datagrams_loses_some(tmp_path: Path) -> None:
    listen = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(0.5)
        upstream = f"127.0.0.1:{service.getsockname()[1]}"
        target = {"proxy": {"listen": f"127.0.0.1:{listen}", "upstream": upstream,
                            "protocol": "udp"}}  # fmt: skip

        def arrives() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", ("127.0.0.1", listen))
            try:
                return service.recv(10) == b"x"
            except TimeoutError:
                return False

        hurt = {"fault": "loss", "target": target, "share": "100%", "for": "30s"}
        hurt["direction"] = "upstream"
        before = [{"wait": "1s"}, hurt]
        file = experiment(tmp_path, *before)
        seen: list[bool] = []
        watcher = threading.Thread(target=lambda: seen.append(until(arrives, 20)))
        watcher.start()
        with running(file, tmp_path / "state"):
            watcher.join()
            assert seen == [True] and not arrives()
        useless = {"fault": "reset", "target": target}
        done = chaoskit("plan", experiment(tmp_path, useless), state=tmp_path / "state")
        assert done.returncode == 3 and "no meaning for UDP" in done.stdout, done.stdout


def test_what_differs_on_toxiproxy_is_told(
    ours: peers.Running, toxiproxy: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    for server, told in ((ours, False), (toxiproxy, True)):
        make_link(server, echo.address)
        file = experiment(tmp_path, step("latency", server, delay="10ms", toxicity="30%"))
        done = chaoskit("plan", file, state=tmp_path / "state")
        assert done.returncode == 0
        assert ("not by the run's seed" in done.stdout) is told, done.stdout
        assert ("read back only" in done.stdout) is told, done.stdout


def test_what_ends_it_depends_on_the_server(
    ours: peers.Running, toxiproxy: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    fault = Latency(0.1)
    for server, ends in ((ours, Ends.BY_ITSELF), (toxiproxy, Ends.BY_RECOVER)):
        make_link(server, echo.address)
        (target,) = ProxySelector(url=server).find(Binding("run", "1", tmp_path))
        assert fault.ends_on(target) is ends  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "wrong"), [
    ({"listen": "127.0.0.1:1"}, "'upstream' is missing"),
    ({"upstream": "127.0.0.1:1"}, "'listen' is missing"),
    ({"listen": "127.0.0.1:1", "upstream": "nowhere"}, "expected host:port"),
    ({"listen": "127.0.0.1:0", "upstream": "a:1"}, "expected host:port"),
    ({"listen": "127.0.0.1:1", "upstream": "a:1", "name": "x"}, "no name and no url"),
    ({"url": "ftp://x"}, "begins with http"),
    ({"nmae": "x"}, "unknown key"),
], ids=str)  # fmt: skip
def test_a_target_that_makes_no_sense_is_told(
    tmp_path: Path, target: dict[str, str], wrong: str
) -> None:
    hurt = {"fault": "reset", "target": {"proxy": target}}
    with pytest.raises(InputError) as told:
        library.load(experiment(tmp_path, hurt))
    assert wrong in str(told.value)


@pytest.mark.parametrize(("params", "wrong"), [
    ({"fault": "drop-network", "how": "refuse", "direction": "upstream"}, "leave this out"),
    ({"fault": "drop-network", "how": "refuse", "toxicity": "3%"}, "leave this out"),
    ({"fault": "latency", "delay": "1s", "correlation": "3%"}, "without a jitter"),
    ({"fault": "latency"}, "'delay' is missing"),
    ({"fault": "slice", "size": "5B", "variation": "5B"}, "below size"),
    ({"fault": "http-error", "path": "("}, "no regular expression"),
    ({"fault": "loss", "share": "0%"}, "above 0%"),
    ({"fault": "reset", "toxicity": "101%"}, "100% or less"),
], ids=lambda value: value.get("fault") if isinstance(value, dict) else None)  # fmt: skip
def test_a_fault_that_makes_no_sense_is_told(
    tmp_path: Path, params: dict[str, Any], wrong: str
) -> None:
    hurt = step(params.pop("fault"), "http://127.0.0.1:1", **params)
    with pytest.raises(InputError) as told:
        library.load(experiment(tmp_path, hurt))
    assert wrong in str(told.value)


def test_a_server_has_one_name() -> None:
    for url in ("http://localhost:8474", "http://LOCALHOST:8474/", "http://127.0.0.1:8474/x"):
        assert normal_url(url) == "http://127.0.0.1:8474"
    assert normal_url("http://[::1]:8474") == "http://[::1]:8474"
    assert normal_url("https://proxy.example") == "https://proxy.example:443"
