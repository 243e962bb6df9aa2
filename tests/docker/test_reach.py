"""A daemon that is missing, refuses, hangs, talks nonsense or is too old: one message, exit 3."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon
from fakes import VERSION, Answer, fake, http
from hurting import CHAOSKIT, chaoskit, records, step, write

from chaoskit.docker import client
from chaoskit.docker.client import Where, where
from chaoskit.docker.trouble import NoDaemon
from chaoskit.journal import State

# The SDK leaves the socket open that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SOON = 15.0
"""Seconds for what takes less than five on a machine that has time."""


@pytest.fixture(autouse=True)
def nothing_open() -> Iterator[None]:
    """What has not been collected yet is not for the next test to be blamed for."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def asked(place: Where) -> str:
    """What is told when that daemon is asked for its containers, and cannot be."""
    began = time.monotonic()
    with closing(client.Daemon(place)) as one, pytest.raises(NoDaemon) as told:
        one.containers()
    assert time.monotonic() - began < SOON
    assert client.FIRST < 4.0, "a start and an end are to be had in five seconds, too"
    text = str(told.value)
    assert place.url in text and "\n" not in text and len(text) < 400, text
    return text


def endless(_: str) -> Answer:
    return b"HTTP/1.1 200 OK\r\n" + b"X-Nonsense: 1\r\n" * 100_000


def hangs_at_the_list(path: str) -> Answer:
    return VERSION if path == "/version" else None


BAD: dict[str, tuple[Any, str]] = {
    "hangs": (lambda _: None, "did not answer within 3.5s"),
    "hangs when asked for its containers": (hangs_at_the_list, "did not answer within 3.5s"),
    "closes": (lambda _: b"", "closed connection"),
    "is something else": (lambda _: b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
    "sends headers without end": (endless, "100 headers"),
    "is a web server": (lambda _: http(b"<h1>Hello</h1>"), "no Docker daemon"),
    "does not know us": (lambda _: http(b"no such page", "404 Not Found"), "no such page"),
    "has a list for an answer": (lambda _: http([1, 2]), "does not tell the version"),
    "has a version of words": (lambda _: http({"ApiVersion": "the newest"}), "the newest"),
    "is old": (lambda _: http({"ApiVersion": "1.18"}), "speaks version 1.18 of the API, and 1.24"),
    "is broken": (lambda _: http({"message": "panic"}, "500 Internal Server Error"), "panic"),
    "lists nonsense": (
        lambda path: VERSION if path == "/version" else http(3),
        "its list of containers is none",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_whatever_listens_there_is_told_in_one_sentence(what: str, tmp_path: Path) -> None:
    answer, told = BAD[what]
    with fake(tmp_path / "s", answer) as bad:
        assert told in asked(Where(bad.url))


def test_one_that_answers_a_byte_at_a_time_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def drip() -> None:
            talking, _ = listening.accept()
            with talking:
                for _ in range(100):
                    talking.send(b"H")
                    time.sleep(0.2)

        threading.Thread(target=drip, daemon=True).start()
        assert "did not answer" in asked(Where(f"unix://{path}"))


def test_one_that_does_not_answer_is_not_asked_by_everybody(tmp_path: Path) -> None:
    """A hundred containers of a daemon that hangs cost as long as one."""
    told: list[str] = []

    def ask(one: client.Daemon) -> None:
        try:
            one.inspect("x")
        except NoDaemon as error:
            told.append(str(error))

    with fake(tmp_path / "s", lambda _: None) as bad:
        one = client.Daemon(Where(bad.url))
        threads = [threading.Thread(target=ask, args=[one]) for _ in range(20)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 20 and time.monotonic() - began < SOON
        assert len(bad.asked) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    assert "no such file" in asked(Where(f"unix://{tmp_path}/none"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{tmp_path}/deaf")
        assert "connection refused (is it running?)" in asked(Where(f"unix://{tmp_path}/deaf"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert "connection refused" in asked(Where(f"tcp://127.0.0.1:{port}"))
    assert "no machine of that name" in asked(Where("tcp://nowhere.invalid:2375"))


@pytest.mark.parametrize(
    "url",
    ["tcp://", "tcp://127.0.0.1", "npipe://x", "fd://3", "carrier-pigeon://home", "ssh://",
     "ssh://host/path", "ssh://user:word@host", "ssh://-oProxyCommand=true", "tcp://h:99999"],
)  # fmt: skip
def test_a_bad_url_is_told(url: str) -> None:
    asked(Where(url))


def test_which_daemon_is_meant() -> None:
    assert where(None, {"DOCKER_HOST": "tcp://h:1"}) == Where("tcp://h:1", "", False)
    assert where("unix:///s", {"DOCKER_HOST": "tcp://h:1"}).url == "unix:///s"
    tls = {"DOCKER_TLS_VERIFY": "1", "HOME": "/home/me"}
    assert where("tcp://h:1", tls) == Where("tcp://h:1", "/home/me/.docker", True)
    # As the docker command and the SDK: the certificates alone mean TLS that is not checked.
    assert where("tcp://h:1", {"DOCKER_CERT_PATH": "/c"}) == Where("tcp://h:1", "/c", False)
    assert where("tcp://h:1", tls | {"DOCKER_CERT_PATH": "/c"}) == Where("tcp://h:1", "/c", True)
    assert where("unix:///s", tls) == Where("unix:///s", "", True)


def test_the_usual_socket_is_the_first_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman/podman.sock").touch()
    mine = {"XDG_RUNTIME_DIR": str(tmp_path)}
    if not Path("/var/run/docker.sock").exists():
        assert where(None, mine).url == f"unix://{tmp_path}/podman/podman.sock"
        (tmp_path / "docker.sock").touch()
        assert where(None, mine).url == f"unix://{tmp_path}/docker.sock"


WAYS = ("missing", "hangs", "closes", "old")


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("way", WAYS)
def test_the_command_says_it_and_changes_nothing(
    command: str, way: str, tmp_path: Path, state_folder: Path
) -> None:
    answers = {"hangs": lambda _: None, "closes": lambda _: b"", "old": BAD["is old"][0]}
    with fake(tmp_path / "s", answers.get(way, lambda _: b"")) as bad:
        if way == "missing":
            bad.close()
            (tmp_path / "s").unlink()
        refused(command, bad.url, tmp_path, state_folder)


def refused(command: str, url: str, folder: Path, state: Path, **more: Any) -> str:
    """That command on a container of a daemon that cannot be asked; what it said."""
    file = write(folder / "e.json", step("pause", url, name="web"))
    began = time.monotonic()
    done = chaoskit(command, file, state=state, **more)
    assert time.monotonic() - began < SOON
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert url in said and "Traceback" not in said
    assert records(state, "change") == [] and not State(state).unsettled()
    return said


def test_a_daemon_that_refuses_us(tmp_path: Path, state_folder: Path) -> None:
    """Whoever is neither root nor in its group: here root without the right to all files."""
    caps = "-dac_override,-dac_read_search"
    file = write(tmp_path / "e.json", step("pause", f"unix://{tmp_path}/s", name="web"))
    with fake(tmp_path / "s", lambda _: VERSION):
        os.chown(tmp_path / "s", 65534, 65534)
        os.chmod(tmp_path / "s", 0o600)
        done = subprocess.run(
            ["setpriv", f"--inh-caps={caps}", f"--bounding-set={caps}", CHAOSKIT,
             "--state", str(state_folder), "plan", str(file)],
            capture_output=True, text=True,
        )  # fmt: skip
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 3, said
    assert "permission denied (be root, or a member of the group docker)" in said


def test_a_daemon_that_is_stopped_in_its_tracks(
    daemon: Daemon, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    daemon.freeze()
    for command in ("plan", "run"):
        assert "did not answer" in refused(command, daemon.url, tmp_path, state_folder)
    daemon.thaw()
    assert daemon.answers(within=20)
    box.reload()
    assert box.status == "running"
