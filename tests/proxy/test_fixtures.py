"""What tests of other programs use: a link before a service, and faults for the time of a block."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoskit.clock import until
from chaoskit.errors import ChaoskitError
from chaoskit.procfs import processes
from chaoskit.targets.proxy_client import Client
from chaoskit.testing.proxy import ProxiedLink, link


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a service that says what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(side: socket.socket) -> None:
        with side, contextlib.suppress(OSError):
            while data := side.recv(65536):
                side.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                side, _ = listener.accept()
                threading.Thread(target=serve, args=(side,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("how", [KeyboardInterrupt, ChaoskitError])
def test_a_fault_whose_making_is_interrupted_is_gone(
    echo: str, monkeypatch: pytest.MonkeyPatch, how: type[BaseException]
) -> None:
    add = Client.add

    def cut(client: Client, name: str, toxic: dict[str, Any]) -> None:
        add(client, name, toxic)
        raise how

    with link(echo) as made:
        monkeypatch.setattr(Client, "add", cut)
        with pytest.raises(how), made.fault("latency", delay="5s", direction="both"):
            pytest.fail("it goes on")
        assert made._client.link(made._name)["toxics"] == []


def test_one_fault_that_cannot_be_had_out_keeps_no_other_in(
    echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, refused = Client.remove, []

    def once(client: Client, link: str, name: str) -> None:
        if not refused:
            refused.append(name)
            raise ChaoskitError("it does not answer")
        remove(client, link, name)

    with link(echo) as made:
        monkeypatch.setattr(Client, "remove", once)
        told = pytest.raises(ChaoskitError, match="does not answer")
        with told, made.fault("latency", delay="5s", direction="both"):
            pass
        left = [toxic["name"] for toxic in made._client.link(made._name)["toxics"]]
        assert left == refused
        made.clear()
        assert made._client.link(made._name)["toxics"] == []


def ask(side: socket.socket, text: bytes = b"x") -> float:
    """Seconds until it was echoed."""
    began = time.monotonic()
    side.sendall(text)
    left = len(text)
    while left:
        data = side.recv(left)
        assert data, "the connection ended"
        left -= len(data)
    return time.monotonic() - began


def names(one: ProxiedLink) -> list[str]:
    (only,) = one._client.links()
    return [toxic["name"] for toxic in only["toxics"]]


def proxies_of(pid: int) -> list[int]:
    """The proxy processes that the tests of that process have started."""
    found = []
    for process in processes():
        with contextlib.suppress(ChaoskitError, PermissionError):
            words = process.cmdline()
            if "chaoskit.proxy" in words and f"chaoskit-tests-{pid}" in words:
                found.append(process.pid)
    return found


def test_a_fault_is_in_for_the_block_and_no_longer(
    echo: str, chaos_link: Callable[..., ProxiedLink]
) -> None:
    service = chaos_link(echo)
    with socket.create_connection((service.host, service.port), 10) as side:
        with service.fault("latency", delay="200ms", direction="upstream"):
            assert ask(side) >= 0.2
            with service.fault("latency", delay="150ms"):
                assert ask(side) >= 0.35 and len(names(service)) == 2
            assert len(names(service)) == 1
        assert not names(service)
        assert min(ask(side) for _ in range(5)) < 0.15


def test_it_is_gone_when_the_block_raises_and_the_reason_is_the_block_s(
    echo: str, chaos_link: Callable[..., ProxiedLink]
) -> None:
    service = chaos_link(echo)
    with pytest.raises(KeyError, match="mine"), service.fault("loss", share="5%", direction="both"):
        assert len(names(service)) == 2
        raise KeyError("mine")
    assert not names(service)


def test_refused_and_back(echo: str, chaos_link: Callable[..., ProxiedLink]) -> None:
    service = chaos_link(echo)
    with service.fault("drop-network", how="refuse"), pytest.raises(ConnectionRefusedError):
        socket.create_connection((service.host, service.port), 10)
    with socket.create_connection((service.host, service.port), 10) as side:
        ask(side)


def test_several_threads_have_their_own_faults(
    echo: str, chaos_link: Callable[..., ProxiedLink]
) -> None:
    service = chaos_link(echo)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            with service.fault("slice", size="100B"):
                if not names(service):
                    wrong.append("mine is not there")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not names(service)


def test_clear_takes_out_what_is_left(echo: str, chaos_link: Callable[..., ProxiedLink]) -> None:
    service = chaos_link(echo)
    left = service.fault("corrupt", share="1%")
    left.__enter__()
    assert names(service)
    service.clear()
    assert not names(service)
    left.__exit__(None, None, None)


def test_udp(chaos_link: Callable[..., ProxiedLink]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        service = chaos_link(f"127.0.0.1:{server.getsockname()[1]}", protocol="udp", seed=5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for each in (server, client):
                each.settimeout(5)
            client.connect((service.host, service.port))
            client.send(b"hello")
            assert server.recv(100) == b"hello"
            with service.fault("drop-network"):
                client.send(b"lost")
                server.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    server.recv(100)
            with pytest.raises(ValueError, match="no meaning for UDP"), service.fault("reset"):
                pass


@pytest.mark.parametrize(
    ("name", "keys", "why"),
    [
        ("latency", {"delay": 200}, "write 200ms"),
        ("latency", {"dealy": "200ms"}, "did you mean 'delay'"),
        ("latncy", {"delay": "200ms"}, "did you mean 'latency'"),
        ("pause", {}, "not possible on a proxy"),
        ("loss", {"share": "150%"}, "100% or less"),
        ("latency", {"delay": object()}, "latency"),
    ],
)
def test_a_fault_that_makes_no_sense_is_told_and_nothing_is_put_in(
    echo: str, chaos_link: Callable[..., ProxiedLink], name: str, keys: dict[str, object], why: str
) -> None:
    service = chaos_link(echo)
    with pytest.raises(ValueError, match=why), service.fault(name, **keys):
        pytest.fail("the block ran")
    assert not names(service)


@pytest.mark.parametrize(("upstream", "listen", "why"), [
    ("localhost", "127.0.0.1:0", "missing port"),
    ("127.0.0.1:1", "nowhere:0", "no such host"),
])  # fmt: skip
def test_a_proxy_that_does_not_come_up_says_why(upstream: str, listen: str, why: str) -> None:
    with pytest.raises(ChaoskitError, match=why), link(upstream, listen=listen):
        pytest.fail("the block ran")
    assert not proxies_of(os.getpid())


def test_a_proxy_that_dies_is_told_when_the_block_had_no_trouble(echo: str) -> None:
    with (
        link(echo) as service,
        pytest.raises(ChaoskitError, match="no proxy server"),
        service.fault("reset"),
    ):
        for pid in proxies_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: not proxies_of(os.getpid()), 10)


def test_no_process_stays_behind(echo: str) -> None:
    with link(echo), link(echo):
        assert len(proxies_of(os.getpid())) == 2
    assert not proxies_of(os.getpid())


def test_killing_the_tests_takes_the_proxy_along(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import time

            def test_it(chaos_link):
                service = chaos_link("127.0.0.1:1")
                with service.fault("latency", delay="1s"):
                    print("in", flush=True)
                    time.sleep(60)
            """)
    )
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True,
        # Nobody is left to take away the folder of the proxy's socket.
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert tests.stdout is not None
        assert until(lambda: b"in" in tests.stdout.readline(), 30)
        assert proxies_of(tests.pid)
        tests.kill()
        assert until(lambda: not proxies_of(tests.pid), 10)
    finally:
        tests.kill()
        tests.communicate()


def test_the_plugin_imports_nothing_until_it_is_used() -> None:
    code = (
        "import sys, chaoskit.testing.pytest_plugin as p; "
        "print([m for m in sys.modules if m.startswith('chaoskit.') and 'testing' not in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = done.stdout.strip()
    assert "proxy" not in loaded and "targets" not in loaded and "spec" not in loaded, loaded
