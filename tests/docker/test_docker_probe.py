"""The docker probe on real containers: what it reads, and that nothing unread is good news."""

from __future__ import annotations

import gc
import re
import threading
import time
from typing import Any

import pytest
from daemons import Daemon

from chaoskit import spec
from chaoskit.clock import until
from chaoskit.docker import logs
from chaoskit.errors import InputError, ProbeError
from chaoskit.model.probe import Context
from chaoskit.probes.docker import DockerProbe

STATES = ("state", "health", "restarts", "exit")
USED = ("cpu", "memory", "memory-share", "received", "sent")
LOGGED = ("lines", "lines-total", "line")


def probe(daemon: Daemon, *wants: str, timeout: float = 20.0, **keys: Any) -> DockerProbe:
    return DockerProbe(host=daemon.url, timeout=timeout, wants=wants, **keys)


def test_how_many_run_of_those_that_match(daemon: Daemon) -> None:
    one, other = (daemon.run(labels={"app": "cart"}) for _ in range(2))
    daemon.run(labels={"app": "else"})
    carts = probe(daemon, label="app=cart")
    assert carts.read(Context()) == {"count": 2}
    other.pause()
    assert carts.read(Context()) == {"count": 1}
    other.unpause()
    one.kill()
    assert carts.read(Context()) == {"count": 1}
    assert probe(daemon, label="app=nothing").read(Context()) == {"count": 0}


def test_the_state_of_those_that_do_not_run_too(daemon: Daemon) -> None:
    daemon.run(labels=["app"])
    gone = daemon.run("sh", "-c", "exit 3", labels=["app"])
    gone.wait()
    read = probe(daemon, *STATES, label="app").read(Context())
    assert read == {"count": 1, "state": "exited,running", "health": "none", "restarts": 0,
                    "exit": 3}  # fmt: skip


def test_restarts_by_its_policy(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "exit 1", restart_policy={"Name": "always"})
    looks = probe(daemon, "restarts", name=container.name)
    assert until(lambda: looks.read(Context()).get("restarts", 0) >= 2, 20)  # type: ignore[operator]


def test_health_is_the_worst(daemon: Daemon) -> None:
    check = {"interval": 10**9, "timeout": 10**9, "retries": 1}
    daemon.run(
        labels=["app"], healthcheck={**check, "interval": 6 * 10**9, "test": ["CMD", "true"]}
    )
    looks = probe(daemon, "health", label="app")
    assert looks.read(Context())["health"] == "starting"
    assert until(lambda: looks.read(Context())["health"] == "healthy", 20)
    daemon.run(labels=["app"], healthcheck={**check, "test": ["CMD", "false"]})
    assert until(lambda: looks.read(Context())["health"] == "unhealthy", 20)


def test_what_is_used(daemon: Daemon) -> None:
    net = daemon.network()
    busy = daemon.run("sh", "-c", "while :; do :; done", network=net.name, mem_limit="64m")
    looks, context = probe(daemon, *USED, name=busy.name), Context()
    first = looks.read(context)
    time.sleep(1)
    read = looks.read(context)
    assert 0.02 < float(str(read["cpu"])) < 1.6 and 0 < float(str(first["cpu"])) < 1.6
    assert 0 < int(str(read["memory"])) < 64 * 2**20
    assert read["memory-share"] == pytest.approx(int(str(read["memory"])) / (64 * 2**20))
    assert float(str(read["received"])) >= 0 and float(str(read["sent"])) >= 0
    idle = daemon.run()
    looks = probe(daemon, *USED, name=idle.name)
    assert until(lambda: float(str(looks.read(Context())["cpu"])) < 0.1, 20)


def test_lines_that_are_new_and_match(daemon: Daemon) -> None:
    talk = "echo old error; while :; do if [ -e /tmp/go ]; then rm /tmp/go; echo an error; "
    container = daemon.run("sh", "-c", talk + "echo fine; fi; sleep 0.02; done")
    assert until(lambda: b"old" in container.logs(), 10)
    time.sleep(0.01)
    looks, context = probe(daemon, *LOGGED, name=container.name, log="error"), Context()
    assert looks.read(context) == {"count": 1, "lines": 0, "lines-total": 0}
    for number in (1, 2):
        container.exec_run("touch /tmp/go")
        seen: list[Any] = []

        def new(seen: list[Any] = seen) -> bool:
            seen.append(looks.read(context))
            return bool(seen[-1]["lines"])

        assert until(new, 10)
        assert seen[-1]["lines"] == 1 and seen[-1]["lines-total"] == number
        assert seen[-1]["line"] == "an error"
    assert looks.read(context)["lines"] == 0, "none is counted twice"


def test_a_busy_log_is_read_piece_by_piece(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    container = daemon.run("sh", "-c", "yes error | head -c 60000; sleep 1d", mem_limit="64m")
    monkeypatch.setattr(logs, "BURST", 100_000)
    looks = probe(daemon, *LOGGED, name=container.name, log="^error$", timeout=30.0)
    context = Context()
    context.memory["lines"] = logs.Lines(re.compile("^error$"), 1.0)
    reads: list[Any] = []

    def all_read() -> bool:
        reads.append(looks.read(context))
        return bool(reads[-1]["lines-total"] == 10_000)

    assert until(all_read, 60)
    # A line with its time and the daemon's eight bytes has 45, and a piece comes whole.
    assert max(read["lines"] for read in reads) <= (logs.BURST + 64 * 1024) / 45
    assert looks.read(context)["lines"] == 0


def test_a_log_that_cannot_be_read(daemon: Daemon) -> None:
    container = daemon.run(log_config={"type": "none"})
    with pytest.raises(ProbeError, match="log"):
        probe(daemon, "lines", name=container.name, log="x").read(Context())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_daemon_is_no_reading(daemon: Daemon) -> None:
    daemon.run(labels=["app"])
    looks = probe(daemon, label="app", timeout=1.0)
    daemon.freeze()
    began = time.monotonic()
    with pytest.raises(ProbeError, match="did not answer"):
        looks.read(Context())
    assert time.monotonic() - began < 4
    daemon.thaw()
    # Whoever still waits for an answer has one now.
    assert until(lambda: not [t for t in threading.enumerate() if t.name == "daemon"], 10)
    looks.daemon().close()
    gc.collect()  # The socket of whoever was abandoned goes here, and not in another test.
    daemon.stop()
    with pytest.raises(ProbeError, match="Docker daemon"):
        looks.read(Context())
    gc.collect()


def test_what_is_wrong_in_a_file() -> None:
    text = """
chaoskit: 1
title: t
steady-state:
  - {name: a, docker: {name: w}, expect: {lines: {below: 1}}}
  - {name: b, docker: {}, expect: {count: 1}}
method: [{wait: 1s}]
"""
    with pytest.raises(InputError) as caught:
        spec.load_text(text, "f.yaml", environ={})
    told = str(caught.value)
    assert "say which lines: a regular expression" in told and "say which containers" in told
