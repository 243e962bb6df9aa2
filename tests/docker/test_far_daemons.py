"""Daemons that are reached by TLS or ssh: what runs on this machine's socket runs there too."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from daemons import Daemon
from fakes import VERSION, fake
from hurting import chaoskit, kill_both, running, settled, step, write

from chaoskit.clock import until
from chaoskit.docker import client
from chaoskit.docker.client import Where
from chaoskit.docker.trouble import NoDaemon
from chaoskit.journal import State

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Certificates:
    """Of one authority, in a folder as docker wants it."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir()
        self.folder = str(folder)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        for name, issued in (
            ("", authority.issue_cert("client@example.org")),
            ("server-", authority.issue_cert(*names)),
        ):
            issued.private_key_pem.write_to_path(folder / f"{name}key.pem")
            issued.cert_chain_pems[0].write_to_path(folder / f"{name}cert.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "good", "127.0.0.1")


@pytest.fixture
def secured(daemon: Daemon, certificates: Certificates) -> Iterator[str]:
    """The daemon's TCP address, where it takes only those with a certificate."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = certificates.folder
    daemon.stop()
    try:
        daemon.start("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", f"--tlscacert={folder}/ca.pem",
                     f"--tlscert={folder}/server-cert.pem",
                     f"--tlskey={folder}/server-key.pem")  # fmt: skip
        yield f"tcp://127.0.0.1:{port}"
    finally:
        daemon.stop()
        daemon.start()


def refused(place: Where) -> str:
    with closing(client.Daemon(place)) as one, pytest.raises(NoDaemon) as told:
        one.containers()
    return str(told.value)


def test_a_daemon_that_wants_certificates(
    secured: str, daemon: Daemon, certificates: Certificates, tmp_path: Path, state_folder: Path
) -> None:
    box = daemon.run(name="web")
    file = write(tmp_path / "e.json", step("pause", secured, hold="200ms", name="web"))
    tls = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": certificates.folder}
    # Neither is for a daemon: a proxy, and the authorities that the web is checked by.
    nobody = "http://127.0.0.1:1"
    of_web = f"{Certificates(tmp_path / 'web', 'x').folder}/ca.pem"
    web = {"HTTP_PROXY": nobody, "HTTPS_PROXY": nobody, "REQUESTS_CA_BUNDLE": of_web}
    done = chaoskit("run", file, state=state_folder, env=os.environ | tls | web)
    assert done.returncode == 0, done.stdout + done.stderr
    # Who recovers needs no environment: the journal says how the daemon is reached.
    long = write(tmp_path / "long.json", step("pause", secured, name="web"))
    with running(long, state_folder, env=os.environ | tls):
        kill_both(state_folder)
    assert until(lambda: box.reload() or box.status == "paused", 5)
    done = chaoskit("recover", state=state_folder)
    box.reload()
    assert box.status == "running" and not State(state_folder).unsettled(), done.stdout

    bare = chaoskit("plan", file, state=state_folder, env=os.environ | {"DOCKER_TLS_VERIFY": ""})
    assert bare.returncode == 3
    said = " ".join((bare.stdout + bare.stderr).split())
    assert "HTTPS server" in said and "DOCKER_TLS_VERIFY" in said


def test_certificates_that_are_wrong(
    secured: str, certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path / "other", "127.0.0.1")
    assert "certificate is not to be trusted" in refused(Where(secured, other.folder))
    # Checked or not, theirs is what counts: it does not take one of another authority.
    assert "may not take our certificate" in refused(Where(secured, other.folder, verify=False))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"TLS needs {empty}/ca.pem" in refused(Where(secured, str(empty)))
    unchecked = client.Daemon(Where(secured, certificates.folder, verify=False))
    with closing(unchecked):
        assert unchecked.containers() == []


def test_a_certificate_of_another_machine(tmp_path: Path, daemon: Daemon) -> None:
    """It is checked whose it is."""
    elsewhere = Certificates(tmp_path / "elsewhere", "elsewhere.example.org")
    with closing(_tls_server(elsewhere)) as port:
        told = refused(Where(f"tcp://127.0.0.1:{port.number}", elsewhere.folder))
    assert "certificate is not to be trusted" in told and "127.0.0.1" in told


def test_a_daemon_without_tls(tmp_path: Path, certificates: Certificates) -> None:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()

        def answer() -> None:
            with suppress(OSError):
                talking, _ = plain.accept()
                with talking:
                    talking.recv(4096)
                    talking.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"tcp://127.0.0.1:{plain.getsockname()[1]}"
        assert "it does not speak TLS" in refused(Where(url, certificates.folder))


class _tls_server:
    """Shakes hands with one client."""

    def __init__(self, certificates: Certificates) -> None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = certificates.folder
        context.load_cert_chain(f"{folder}/server-cert.pem", f"{folder}/server-key.pem")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.number = self._listening.getsockname()[1]

        def serve() -> None:
            with suppress(OSError):
                talking, _ = self._listening.accept()
                with talking, context.wrap_socket(talking, server_side=True) as secure:
                    secure.recv(1)

        threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()


SSH = """#!{python} -IS
import json, os, selectors, socket, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
{first}
daemon = socket.socket(socket.AF_UNIX)
daemon.connect({socket!r})
wait = selectors.DefaultSelector()
wait.register(0, selectors.EVENT_READ, lambda: (os.read(0, 65536), daemon.sendall))
wait.register(daemon, selectors.EVENT_READ, lambda: (daemon.recv(65536), lambda d: os.write(1, d)))
while True:
    for key, _ in wait.select():
        data, send = key.data()
        if not data:
            sys.exit()
        send(data)
"""
"""An ssh that goes nowhere: what `docker system dial-stdio` does on the other side, done here."""


def ssh(folder: Path, daemon: str, first: str = "") -> dict[str, str]:
    """An environment in which that is the machine's ssh."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/ssh"
    program.write_text(
        SSH.format(
            python=sys.executable,
            log=str(folder / "ssh.log"),
            first=first,
            socket=daemon.removeprefix("unix://"),
        )
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


def test_a_daemon_by_ssh(daemon: Daemon, tmp_path: Path, state_folder: Path) -> None:
    path = ssh(tmp_path, daemon.url)
    boxes = [daemon.run(name=f"web{number}") for number in range(3)]
    here = step("pause", "ssh://me@shop:2222", hold="200ms", pick="all", name="web*")
    file = write(tmp_path / "e.json", here)
    done = chaoskit("run", file, state=state_folder, env=os.environ | path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert settled(state_folder)
    called = (tmp_path / "ssh.log").read_text().splitlines()
    assert '"-l", "me", "-p", "2222", "--", "shop", "docker system dial-stdio"' in called[0]
    assert "BatchMode=yes" in called[0]
    # The guardian dials for itself.
    file = write(tmp_path / "e.json", here | {"for": "30s"})
    with running(file, state_folder, env=os.environ | path) as runner:
        runner.kill()
        assert settled(state_folder)
    for box in boxes:
        box.reload()
        assert box.status == "running"
    assert until(lambda: not _dialling(tmp_path), 10), "an ssh was left"


def _dialling(folder: Path) -> list[Any]:
    from chaoskit.procfs import with_argument

    return with_argument(f"{folder}/bin/ssh")


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("sys.exit('me@shop: Permission denied (publickey).')", "Permission denied (publickey)."),
        ("sys.exit('sh: 1: docker: not found')", "sh: 1: docker: not found"),
        ("sys.exit()", "no Docker daemon answers at ssh://shop: "),
        ("import time; time.sleep(100)", "did not answer within"),
    ],
)
def test_an_ssh_that_does_not_get_there(
    first: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", ssh(tmp_path, "unix:///none", first)["PATH"])
    assert told in refused(Where("ssh://shop"))
    assert until(lambda: not _dialling(tmp_path), 10), "an ssh was left"


def test_no_ssh_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ssh is not installed" in refused(Where("ssh://shop"))


def test_ctrl_c_does_not_reach_the_ssh_that_undoes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake(tmp_path / "s", lambda _: VERSION) as there:
        path = ssh(
            tmp_path, there.url, f"open({str(tmp_path / 'sid')!r}, 'w').write(str(os.getsid(0)))"
        )
        monkeypatch.setenv("PATH", path["PATH"])
        with suppress(Exception), closing(client.Daemon(Where("ssh://shop"))) as one:
            one.containers()
    assert int((tmp_path / "sid").read_text()) != os.getsid(0)
