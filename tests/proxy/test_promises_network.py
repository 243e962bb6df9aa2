"""The three promises on links under violence, on our own server and on the real Toxiproxy."""

from __future__ import annotations

import http.server
import os
import select
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import pytest
from echoes import Echo, free_port
from runs import chaoskit, echoed, experiment, make_link, running, step, toxics

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.journal import Cell, Journal, State
from chaoskit.model.binding import Binding
from chaoskit.model.fault import Change, Fault
from chaoskit.model.target import Claim
from chaoskit.model.units import Json
from chaoskit.recovery import scan
from chaoskit.targets.proxy import ProxyTarget, Server, _seed
from chaoskit.targets.proxy_client import Client
from chaoskit.targets.proxy_process import leftover_proxies
from chaoskit.undo import Live, undo


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture(params=["ours", "toxiproxy"])
def server(request: pytest.FixtureRequest) -> peers.Running:
    made: peers.Running = request.getfixturevalue(request.param)
    return made


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_the_guardian_takes_the_toxic_away_and_no_other(
    server: peers.Running, echo: Echo, tmp_path: Path, how: signal.Signals
) -> None:
    address = make_link(server, echo.address)
    file = experiment(tmp_path, step("latency", server, delay="300ms", direction="both"))
    with running(file, tmp_path / "state") as run:
        assert len(toxics(server)) == 3 and echoed(address) >= 0.6
        run.popen.send_signal(how)
        assert until(lambda: toxics(server) == ["theirs"], 15), toxics(server)
        assert until(run.settled, 15)
        assert echoed(address) < 0.6
    assert not State(tmp_path / "state").find().result().left


def test_recover_takes_the_toxic_off_a_toxiproxy(
    toxiproxy: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(toxiproxy, echo.address)
    file = experiment(tmp_path, step("latency", toxiproxy, delay="300ms"))
    state = tmp_path / "state"
    assert "by `chaoskit recover` only" in chaoskit("plan", file, state=state).stdout
    with running(file, state) as run:
        run.kill_both()
        time.sleep(0.5)
        assert len(toxics(toxiproxy)) == 2
        assert chaoskit("recover", state=state).returncode in (0, 4)
        assert toxics(toxiproxy) == ["theirs"]


def test_a_refusal_of_a_toxiproxy_is_recovered_too(
    toxiproxy: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    address = make_link(toxiproxy, echo.address)
    file = experiment(tmp_path, step("drop-network", toxiproxy, how="refuse"))
    with running(file, tmp_path / "state") as run:
        with pytest.raises(ConnectionRefusedError):
            echoed(address)
        run.kill_both()
        assert chaoskit("recover", state=tmp_path / "state").returncode in (0, 4)
        assert echoed(address) < 5 and toxics(toxiproxy) == ["theirs"]


# The toxic outlives the run's own last moment by a grace; here both are over in three seconds.
HASTY = (
    "from chaoskit.targets import proxy; proxy.GRACE = -60.0\n"
    "from chaoskit.cli.main import main; main()"
)


def test_a_toxic_of_ours_goes_when_everybody_is_dead(
    ours: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    address = make_link(ours, echo.address)
    limit = {"blast-radius": {"max-duration": "5s"}}
    file = experiment(tmp_path, step("latency", ours, "4s", delay="300ms"), **limit)
    state = tmp_path / "state"
    assert "ends without chaoskit: by itself" in chaoskit("plan", file, state=state).stdout
    with running(file, state, sys.executable, "-c", HASTY) as run:
        run.kill_both()
        assert len(toxics(ours)) == 2
        assert until(lambda: toxics(ours) == ["theirs"], 15)
        assert echoed(address) < 0.3
        assert chaoskit("recover", state=state).returncode in (0, 4)


def test_the_time_to_live_is_what_the_run_may_need_and_the_seed_is_the_runs(
    ours: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(ours, echo.address)
    file = experiment(
        tmp_path, step("latency", ours, delay="100ms"), **{"blast-radius": {"max-duration": "1m"}}
    )
    with running(file, tmp_path / "state"):
        toxic = next(t for t in Client(ours).link("hurt")["toxics"] if t["name"] != "theirs")
        assert 60 < toxic["ttl"] <= 60 + 60 + 30
        folder = State(tmp_path / "state").find()
        (seed,) = [record["seed"] for record in folder.records() if record["kind"] == "run"]
        assert toxic["seed"] == _seed(Binding(folder.id, "1", tmp_path, seed=seed))
        assert toxic["seed"] != _seed(Binding(folder.id, "1", tmp_path, seed=seed + 1))
        assert toxic["name"].startswith(f"chaoskit-{folder.id}-1-latency")


def test_a_server_that_is_killed_and_comes_again_leaves_nothing_stuck(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    file = experiment(tmp_path, step("latency", server, "2s", delay="100ms"))
    with running(file, tmp_path / "state") as run:
        os.kill(server.pid, signal.SIGKILL)
        code, said = run.end()
    assert code == 6 and "ended before its time" in said, said
    assert not State(tmp_path / "state").find().result().left


class Tunnel(socketserver.ThreadingTCPServer):
    """A port that only leads to the server, as `ssh -L` and Docker's published ports do."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, to: int, port: int = 0) -> None:
        self.to = to
        super().__init__(("127.0.0.1", port), Lead)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Lead(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Tunnel)
        with socket.create_connection(("127.0.0.1", self.server.to)) as there:
            ends = {self.request: there, there: self.request}
            while True:
                for one in select.select(list(ends), [], [], 30.0)[0]:
                    if not (data := one.recv(65536)):
                        return
                    ends[one].sendall(data)


def test_a_tunnel_that_ends_is_not_the_end_of_the_server(
    toxiproxy: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    address = make_link(toxiproxy, echo.address)
    state = tmp_path / "state"
    tunnel = Tunnel(toxiproxy.port)
    try:
        far = f"http://127.0.0.1:{tunnel.port}"
        file = experiment(tmp_path, step("latency", far, "3s", delay="300ms"))
        with running(file, state) as run:
            tunnel.end()
            code, said = run.end()
        assert code == 5 and "may be in still" in " ".join(said.split()), said
        assert echoed(address) >= 0.3, "the toxic is in still, and that was said"
    finally:
        tunnel = Tunnel(toxiproxy.port, tunnel.port)
        done = chaoskit("recover", state=state)
        tunnel.end()
    assert done.returncode in (0, 4), done.stdout + done.stderr
    assert toxics(toxiproxy) == ["theirs"]


def test_a_link_that_is_deleted_takes_its_toxics_along(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    file = experiment(tmp_path, step("latency", server, "2s", delay="100ms"))
    with running(file, tmp_path / "state") as run:
        Client(server).ask("DELETE", "/proxies/hurt")
        make_link(server, echo.address)
        code, said = run.end()
    assert code == 6, said
    assert toxics(server) == ["theirs"]


class Front(http.server.BaseHTTPRequestHandler):
    """What stands in front of a server, and has lost it: it answers by itself."""

    status, body = 404, b"default backend - 404"

    def answer(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_DELETE = do_POST = answer

    def log_message(self, *words: Any) -> None:
        pass


@pytest.mark.parametrize(("status", "body"), [(404, b"default backend - 404"), (404, b"{}"),
                                              (200, b"{}"), (200, b"hello")])  # fmt: skip
def test_what_answers_in_the_servers_place_is_not_believed(status: int, body: bytes) -> None:
    """A toxic is gone when the server says so, and not when anything says 404."""
    more = {"status": status, "body": body}
    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Lost", (Front,), more))
    thread = threading.Thread(target=front.serve_forever, args=(0.05,))
    thread.start()
    try:
        client = Client(f"http://127.0.0.1:{front.server_port}")
        asks: list[Callable[[], Any]] = [
            lambda: client.link("hurt"), lambda: client.toxic("hurt", "x"), client.server,
        ]  # fmt: skip
        if status == 404:
            asks += [lambda: client.remove("hurt", "x"), lambda: client.enable("hurt", True)]
        for ask in asks:
            with pytest.raises(ChaoskitError) as caught:
                ask()
            assert not isinstance(caught.value, Gone)
    finally:
        front.shutdown()
        front.server_close()
        thread.join()


def test_a_server_that_hangs_and_goes_on_is_undone(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    file = experiment(tmp_path, step("bandwidth", server, rate="100KB/s"))
    with running(file, tmp_path / "state") as run:
        with peers.frozen(server):
            run.popen.send_signal(signal.SIGINT)
            time.sleep(4)
            assert run.popen.poll() is None, run.end()  # It goes on trying.
        code, said = run.end()
    assert code == 4, said
    assert toxics(server) == ["theirs"]


def test_a_server_that_hangs_too_long_is_stuck_and_recovered_later(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    state = tmp_path / "state"
    file = experiment(tmp_path, step("bandwidth", server, rate="100KB/s"))
    with running(file, state) as run:
        with peers.frozen(server):
            run.popen.send_signal(signal.SIGINT)
            code, said = run.end()
        assert code == 5 and "no whole answer within 2s" in said, said
        assert chaoskit("recover", state=state).returncode in (0, 4)
        assert toxics(server) == ["theirs"]


@pytest.mark.parametrize("change", [{"attributes": {"latency": 7}}, {"toxicity": 0.25}])
@pytest.mark.parametrize("option", ["--accept", "--force"])
def test_what_somebody_else_changed_is_stuck_and_said(
    server: peers.Running, echo: Echo, tmp_path: Path, change: dict[str, Any], option: str
) -> None:
    make_link(server, echo.address)
    state = tmp_path / "state"
    file = experiment(tmp_path, step("latency", server, "3s", delay="100ms", direction="both"))
    with running(file, state) as run:
        name = next(name for name in toxics(server) if name.endswith("latency-upstream"))
        Client(server).ask("POST", f"/proxies/hurt/toxics/{name}", change)
        code, said = run.end()
    # The other direction's is gone; this one is left as they have made it.
    assert code == 5 and str(next(iter(change))) in said, said
    assert sorted(toxics(server)) == sorted([name, "theirs"])
    (left,) = State(state).find().result().left
    assert left.key.endswith(name) and left.found != left.put
    done = chaoskit("recover", option, str(left.cell), state=state)
    assert done.returncode in (0, 4), done.stdout + done.stderr
    kept = [name] if option == "--accept" else []
    assert sorted(toxics(server)) == sorted([*kept, "theirs"])


def test_a_toxic_that_somebody_removed_makes_the_run_inconclusive(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    file = experiment(tmp_path, step("latency", server, "4s", delay="100ms"))
    with running(file, tmp_path / "state") as run:
        (name,) = set(toxics(server)) - {"theirs"}
        Client(server).remove("hurt", name)
        code, said = run.end()
    assert code == 6 and "ended before its time" in said, said


def test_two_runs_cannot_hurt_one_link_whatever_they_call_it(
    server: peers.Running, echo: Echo, tmp_path: Path
) -> None:
    make_link(server, echo.address)
    state = tmp_path / "state"
    file = experiment(tmp_path, step("latency", server, delay="100ms"))
    with running(file, state):
        (tmp_path / "second").mkdir()
        elsewhere = f"http://localhost:{server.port}/"
        other = experiment(tmp_path / "second", step("bandwidth", elsewhere, rate="1KB/s"))
        second = chaoskit("run", other, state=state)
        assert second.returncode == 3 and "held by run" in second.stdout, second.stdout
        assert len(toxics(server)) == 2


def test_a_link_is_claimed_by_where_it_listens(tmp_path: Path) -> None:
    """One server may have several URLs; on another machine the same port is another link."""
    binding = Binding("run", "1", tmp_path)

    def claim(url: str, listen: str = "127.0.0.1:6379") -> Claim:
        return ProxyTarget(Server(url), "redis", listen, "tcp", binding).claim()

    first = claim("http://127.0.0.1:8474")
    assert first.meets(claim("http://[::1]:8474"))
    assert first.meets(claim("http://127.0.0.2:1", "localhost:6379"))
    assert not first.meets(claim("http://192.0.2.1:8474"))
    assert not first.meets(claim("http://127.0.0.1:1", "127.0.0.1:6380"))


class _Slow(Fault[Any]):
    """Its server does not answer for a while, and then finds a request that waited before it."""

    name = "slow"
    needs = object
    settle = 1.0
    patience = 5.0

    def __init__(self) -> None:
        self.answers_at = time.monotonic() + 1.5
        self.lands_at = self.answers_at + 0.3
        self.undone = False

    def changes(self, target: Any) -> Iterator[Change]:
        yield Change("cell", None, "ours")

    def look(self, target: Any, change: Change) -> Json:
        if time.monotonic() < self.answers_at:
            raise ChaoskitError("no answer")
        return "ours" if time.monotonic() >= self.lands_at and not self.undone else None

    def make(self, target: Any, change: Change) -> None: ...

    def unmake(self, target: Any, change: Change) -> None:
        self.undone = True


def test_a_request_that_waited_before_a_hanging_server_is_undone(tmp_path: Path) -> None:
    """The runner died before it heard an answer; the time for late requests begins with the
    server's first one."""
    fault = _Slow()
    target = ProxyTarget(Server("http://127.0.0.1:1"), "x", "", "tcp", Binding("r", "1", tmp_path))
    cell = Cell(1, "1", "slow", {}, {}, Change("cell", None, "ours"))
    journal = Journal(tmp_path)
    try:
        assert not undo([Live(cell, fault, target)], journal)
    finally:
        journal.close()
    assert fault.undone and cell.over == "undone"


class Own:
    """A link that stands for the run, seen from outside."""

    def __init__(self, echo: Echo, folder: Path) -> None:
        self.address = ("127.0.0.1", free_port())
        self.listen = f"127.0.0.1:{self.address[1]}"
        self.target = {"proxy": {"listen": self.listen, "upstream": echo.address}}
        self.state = folder / "state"
        # A probe through the link: it must stand before the steady state is looked at.
        self.through = {
            "steady-state": [{"name": "echo", "tcp": {"address": self.listen, "timeout": "2s"},
                              "expect": {"connected": True}}],
            "gates": [],
        }  # fmt: skip

    def left(self) -> list[str]:
        """Its processes, its port and its socket."""
        runs = [folder.id for folder in State(self.state).runs()]
        found = [mark for mark, _ in leftover_proxies() if any(run in mark for run in runs)]
        with socket.socket() as probe:
            found += ["port"] if probe.connect_ex(self.address) == 0 else []
        return found + [path.name for path in self.state.glob("runs/*/*.sock")]


@pytest.fixture
def own(echo: Echo, tmp_path: Path) -> Own:
    return Own(echo, tmp_path)


def test_an_own_proxy_stands_before_the_steady_state_and_is_gone_afterwards(
    own: Own, tmp_path: Path
) -> None:
    file = experiment(
        tmp_path,
        {"fault": "latency", "target": own.target, "delay": "100ms", "for": "300ms"},
        {"fault": "bandwidth", "target": own.target, "rate": "100KB/s", "for": "300ms"},
        **own.through,
    )
    planned = chaoskit("plan", file, state=own.state)
    assert planned.returncode == 0 and not own.left()
    told = " ".join(planned.stdout.split())
    assert "starts a proxy" in told and own.listen in told and "by itself" in told
    done = chaoskit("run", file, state=own.state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not own.left()
    folder = State(own.state).find()
    started = [r for r in folder.records() if r["kind"] == "change" and r["fault"] == "own-proxy"]
    assert len(started) == 1  # One for both steps.


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL", "SIGSTOP", "both"])
def test_an_own_proxy_goes_however_the_run_ends(own: Own, tmp_path: Path, how: str) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "30s"}
    with running(experiment(tmp_path, step, **own.through), own.state) as run:
        assert len(own.left()) == 3
        if how == "both":
            run.kill_both()
            # Its lifeline is closed; the socket is only a name, which `recover` takes away.
            assert until(lambda: not [x for x in own.left() if not x.endswith(".sock")], 10)
            assert chaoskit("recover", state=own.state).returncode in (0, 4)
        else:
            run.popen.send_signal(getattr(signal, how))
        assert until(run.settled, 15)
        assert until(lambda: not own.left(), 10), own.left()
    assert not State(own.state).find().result().left


def test_an_own_proxy_goes_when_the_steady_state_does_not_hold(own: Own, tmp_path: Path) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "300ms"}
    ill = [{"name": "no", "file": {"path": "/proc/self/stat"}, "expect": {"exists": False}}]
    done = chaoskit("run", experiment(tmp_path, step, **{"steady-state": ill}), state=own.state)
    assert done.returncode == 3 and "not healthy" in done.stdout, done.stdout
    assert not own.left()


def test_an_own_proxy_that_dies_is_no_error_and_nothing_is_proven(own: Own, tmp_path: Path) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "1s"}
    with running(experiment(tmp_path, step), own.state) as run:
        (process,) = [p for mark, p in leftover_proxies() if run.state.find().id in mark]
        process.signal(signal.SIGKILL)
        code, said = run.end()
    assert code == 6 and not own.left(), said


def test_an_own_proxy_whose_port_is_taken_is_refused(own: Own, tmp_path: Path) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "1s"}
    file = experiment(tmp_path, step)
    with socket.create_server(own.address):
        for command in ("plan", "run"):
            done = chaoskit(command, file, state=own.state)
            assert done.returncode == 3 and "address already in use" in done.stdout, done.stdout
    echoless = Own.__new__(Own)
    echoless.target = {"proxy": {"listen": own.listen, "upstream": f"127.0.0.1:{free_port()}"}}
    step = step | {"target": echoless.target}
    planned = chaoskit("plan", experiment(tmp_path, step), state=own.state)
    assert planned.returncode == 0
    assert "nobody answers at" in " ".join(planned.stdout.split())


def test_two_runs_cannot_have_one_own_proxy(own: Own, tmp_path: Path) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "30s"}
    file = experiment(tmp_path, step)
    with running(file, own.state):
        second = chaoskit("run", file, state=own.state)
        assert second.returncode == 3 and "held by run" in second.stdout, second.stdout
        assert len(own.left()) == 3


def test_a_scan_finds_an_own_proxy_that_was_left(own: Own, tmp_path: Path) -> None:
    step = {"fault": "latency", "target": own.target, "delay": "100ms", "for": "30s"}
    with running(experiment(tmp_path, step), own.state) as run:
        (process,) = [p for mark, p in leftover_proxies() if run.state.find().id in mark]
        # Held still, it does not see its lifeline close.
        process.signal(signal.SIGSTOP)
        run.kill_both()
        here = State(tmp_path / "elsewhere")
        found = [left for left in scan(here, [], print) if str(process.pid) in left.text]
        assert [left.run for left in found] == [run.state.find().id]
        found[0].end()
        assert until(lambda: not process.alive(), 10)
