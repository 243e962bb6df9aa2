"""`chaoskit proxy` as people start it: what it says, what it is given, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import peers
import pytest
from prometheus_client.parser import text_string_to_metric_families

PROXY = [sys.executable, "-P", "-m", "chaoskit", "proxy"]


def failed(*options: str | Path) -> tuple[int, str]:
    """The exit code, and what was told on standard error."""
    done = subprocess.run([*PROXY, *map(str, options)], capture_output=True, text=True, timeout=30)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_what_it_carries_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    config = tmp_path / "proxies.yaml"
    config.write_text("""\
- {name: a, listen: "127.0.0.1:0", upstream: "127.0.0.1:9"}
- name: b
  upstream: 127.0.0.1:9
  enabled: false
  toxics:
    - {type: latency, stream: upstream, attributes: {latency: 7}}
    - {type: bandwidth, name: thin, toxicity: 0.5, attributes: {rate: 10}}
""")
    process = subprocess.Popen(
        [*PROXY, "--listen", "127.0.0.1:0", "--config", str(config), "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("chaoskit proxy listens on http://127.0.0.1:")
        assert lines[1].startswith("  a  127.0.0.1:")
        assert lines[1].endswith(" -> 127.0.0.1:9\n")
        assert lines[2].endswith(" -> 127.0.0.1:9 (disabled; toxics: latency_upstream, thin)\n")
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(10)
    assert (process.returncode, out, errors) == (0, "", "")


def test_it_ends_with_connections_open() -> None:
    with peers.ours() as running, socket.create_server(("127.0.0.1", 0)) as upstream:
        body = {"name": "r", "upstream": f"127.0.0.1:{upstream.getsockname()[1]}"}
        made = json.loads(peers.ask(running, "POST", "/proxies", json.dumps(body)).body)
        port = int(made["listen"].rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), 20) as client,
            socket.create_connection(("127.0.0.1", running.port), 20) as listener,
        ):
            listener.sendall(b"GET /events HTTP/1.0\r\n\r\n")
            assert listener.recv(1)
            upstream.settimeout(20)
            upstream.accept()[0].close()
            os.kill(running.pid, signal.SIGTERM)
            assert client.recv(1) == b""


def test_json(tmp_path: Path) -> None:
    config = tmp_path / "proxies.json"
    # As it was saved from a Toxiproxy: keys in any case, and its logger in it.
    config.write_text('[{"Name": "a", "upstream": "127.0.0.1:9", "enabled": false, "Logger": {}}]')
    process = subprocess.Popen(
        [*PROXY, "--listen", "127.0.0.1:0", "--config", str(config), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        lines = ""
        while not lines.endswith("\n}\n"):
            lines += process.stdout.readline()
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()
    told = json.loads(lines)
    assert (told["schema"], told["kind"]) == (1, "proxy")
    assert [proxy["name"] for proxy in told["proxies"]] == ["a"]
    assert told["listen"].startswith("127.0.0.1:")


BAD = {
    "- {name: a, name: b}": (1, 13, "the key 'name' is there already"),
    "a: 1": (1, 1, "expected a list of proxies"),
    "- 7": (1, 3, "expected a proxy, which is a mapping"),
    "- {name: a}": (1, 3, "missing required field: upstream"),
    "- {upstream: 'h:1'}": (1, 3, "missing required field: name"),
    "- {name: a, upstrem: 'h:1'}": (1, 13, "a proxy has no 'upstrem' (did you mean 'upstream'?)"),
    "- {name: 1, upstream: 'h:1'}": (1, 4, "name must be a text"),
    "- {name: a, upstream: 'h:1', enabled: 1}": (1, 30, "enabled must be true or false"),
    "- {name: a, upstream: h}": (1, 13, "upstream: address h: missing port in address"),
    "- {name: a, upstream: 'h:1', listen: x}": (1, 30, "listen tcp: address x: missing port"),
    "- {name: a, upstream: 'h:1', protocol: x}": (1, 30, "protocol must be tcp or udp"),
    "- {name: a, upstream: 'h:1', enabled: false}\n- {name: a, upstream: 'h:1'}": (
        2,
        4,
        "proxy already exists",
    ),
    "- {name: a, upstream: 'h:1', enabled: false, toxics: 1}": (1, 46, "toxics must be a list"),
    "- {name: a, upstream: 'h:1', enabled: false, toxics: [1]}": (1, 55, "expected a toxic"),
    "- {name: a, upstream: 'h:1', enabled: false, toxics: [{type: x}]}": (
        1,
        56,
        "invalid toxic type",
    ),
    "- {name: a, upstream: 'h:1', enabled: false, toxics: [{type: noop, stream: x}]}": (
        1,
        68,
        "stream was invalid",
    ),
    "- {name: a, upstream: 'h:1', enabled: false, toxics: [{type: latency, toxicity: x}]}": (
        1,
        71,
        "toxicity must be a number",
    ),
    "- name: a\n  upstream: 'h:1'\n  enabled: false\n  Toxics:\n"
    "  - {type: latency, attributes: {latenci: 1}}": (
        5,
        34,
        "latency has no attribute 'latenci' (did you mean 'latency'?)",
    ),
    "- name: a\n  upstream: 'h:1'\n  enabled: false\n  toxics:\n"
    "  - {type: bandwidth, Attributes: {Rate: x}}": (5, 36, "attributes.rate must be a whole"),
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_told_with_its_place(text: str, tmp_path: Path) -> None:
    config = tmp_path / "proxies.yaml"
    config.write_text(text)
    line, column, message = BAD[text]
    code, told = failed("--listen", "127.0.0.1:0", "--config", config)
    assert code == 2
    assert told.startswith(f"{config}:{line}:{column}: ")
    assert message in told
    assert "\n" not in told


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    code, told = failed("--listen", "127.0.0.1:0", "--config", tmp_path / "none.json")
    assert (code, "there is no such file" in told) == (2, True)


def test_addresses_that_are_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, told = failed("--listen", f"127.0.0.1:{port}")
        assert code == 3
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in told
        config = tmp_path / "proxies.yaml"
        config.write_text(f"- name: a\n  upstream: 'h:1'\n  listen: 127.0.0.1:{port}\n")
        code, told = failed("--listen", "127.0.0.1:0", "--config", config)
        assert code == 3
        assert f"{config}:3:3: listen tcp 127.0.0.1:{port}: bind: address already in use" in told


@pytest.mark.parametrize(
    "options",
    [
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1:x"),
        ("--listen", "127.0.0.1:70000"),
        ("--listen", "no.such.host.invalid:1"),
        ("--max-memory", "12"),
        ("--max-memory", "1KiB"),
        ("--seed", "x"),
    ],
)
def test_bad_options(options: tuple[str, ...]) -> None:
    code, told = failed(*options)
    assert code == 2
    assert len(told.splitlines()) == 1
    assert "Traceback" not in told


def test_metrics_are_prometheus_own(ours: peers.Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        name = 'a "quoted" \\ name\nof two lines'
        there = f"127.0.0.1:{upstream.getsockname()[1]}"
        body = json.dumps({"name": name, "upstream": there, "listen": "127.0.0.1:0"})
        made = json.loads(peers.ask(ours, "POST", "/proxies", body).body)
        port = int(made["listen"].rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), 20) as client,
            upstream.accept()[0] as served,
        ):
            client.sendall(b"12345")
            assert served.recv(5, socket.MSG_WAITALL) == b"12345"
            served.sendall(b"123")
            assert client.recv(3, socket.MSG_WAITALL) == b"123"
            answer = peers.ask(ours, "GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(answer.body.decode())
        for one in family.samples
    }
    assert len(samples) == answer.body.count(b"\n") - answer.body.count(b"#")

    def value(sample: str, **labels: str) -> float:
        return float(samples[(sample, *sorted(labels.items()))])

    where = {"proxy": name, "listener": made["listen"], "upstream": there}
    for moved in ("received", "sent"):
        sample = f"toxiproxy_proxy_{moved}_bytes_total"
        assert value(sample, direction="upstream", **where) == 5
        assert value(sample, direction="downstream", **where) == 3
    per_proxy = {
        "connections": 1,
        "connections_total": 1,
        "refused_total": 0,
        "toxics": 0,
        "enabled": 1,
    }
    for short, wanted in per_proxy.items():
        assert value(f"chaoskit_proxy_{short}", proxy=name) == wanted
    assert value("chaoskit_proxy_memory_bytes") == 0
    version = json.loads(peers.ask(ours, "GET", "/version").body)
    known = {"version": version["chaoskit"], "toxiproxy": version["version"]}
    assert value("chaoskit_proxy_build_info", **known) == 1


def test_metrics_have_toxiproxys_names(ours: peers.Running, toxiproxy: peers.Running) -> None:
    """The same bytes through both give the same samples of Toxiproxy's metrics."""
    seen = []
    for server in (toxiproxy, ours):
        with socket.create_server(("127.0.0.1", 0)) as upstream:
            there = f"127.0.0.1:{upstream.getsockname()[1]}"
            body = json.dumps({"name": "r", "upstream": there, "listen": "127.0.0.1:0"})
            made = json.loads(peers.ask(server, "POST", "/proxies", body).body)
            port = int(made["listen"].rpartition(":")[2])
            with (
                socket.create_connection(("127.0.0.1", port), 20) as client,
                upstream.accept()[0] as served,
            ):
                client.sendall(b"12345")
                served.recv(5, socket.MSG_WAITALL)
                served.sendall(b"123")
                client.recv(3, socket.MSG_WAITALL)
            seen.append(_samples(server, made["listen"], there))
    assert len(seen[0]) == 4
    assert seen[1] == seen[0]


def _samples(server: peers.Running, listen: str, upstream: str) -> set[tuple[object, ...]]:
    """Toxiproxy's samples once they have come to all that was sent, without what is by chance."""
    import time

    end = time.monotonic() + 15
    while True:
        text = peers.ask(server, "GET", "/metrics").body.decode()
        found = {
            (one.name, one.labels["direction"], one.labels["proxy"], one.value)
            for family in text_string_to_metric_families(text)
            if family.name.startswith("toxiproxy_proxy_")
            for one in family.samples
            if (one.labels["listener"], one.labels["upstream"]) == (listen, upstream)
        }
        if sum(float(str(one[-1])) for one in found) == 16 or time.monotonic() > end:
            return found
        time.sleep(0.05)
