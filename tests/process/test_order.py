"""In which order a run is undone, and that a request which is on its way is waited for."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent import write

import chaoskit
from chaoskit.clock import until
from chaoskit.journal import State
from chaoskit.model.verdict import Verdict
from chaoskit.procfs import with_argument
from chaoskit.recovery import recover
from chaoskit.safety import halt


def begin(file: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).parent / "chaoskit"), "--state", str(file.parent / "state")]
    return subprocess.Popen([*command, "run", str(file)], stdout=subprocess.DEVNULL)


def acted(state: Path) -> int:
    try:
        return sum(one["kind"] == "made" for one in State(state).find().records())
    except Exception:
        return 0


@pytest.mark.parametrize("by", ["the guardian", "recover"])
def test_actions_are_undone_newest_first_whoever_does_it(tmp_path: Path, by: str) -> None:
    """The newer one's undo is the slower one: side by side it would be the last."""
    at = tmp_path / "setting"
    at.write_text("original")
    state = tmp_path / "state"
    steps = [
        {"run": f"echo first >{at}", "undo": f"echo original >{at}"},
        {"run": f"echo second >{at}", "undo": f"sleep 0.5; echo first >{at}"},
        {"wait": "60s"},
    ]
    runner = begin(write(tmp_path, *steps))
    try:
        assert until(lambda: acted(state) == 2, 30)
        if by == "recover":
            (guardian,) = with_argument(f"chaoskit-{State(state).find().id}")
            os.kill(runner.pid, signal.SIGSTOP)
            guardian.signal(signal.SIGKILL)
    finally:
        runner.kill()
        runner.wait()
    folder = State(state).find()
    if by == "recover":
        recover(folder)
    assert until(lambda: not folder.in_use() and not folder.result().left, 30)
    assert at.read_text() == "original\n"


class Switch(http.server.ThreadingHTTPServer):
    """On takes its time, off is done at once; `seconds` until on is answered."""

    daemon_threads = True

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.seconds = seconds
        self.said: list[str] = []
        self.asked = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answering(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Switch)
        if self.path == "/on":
            self.server.asked.set()
            time.sleep(self.server.seconds)
        self.server.said.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch(4.0)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def turned_on(switch: Switch) -> dict[str, Any]:
    asked = {"url": f"{switch.url}/on", "method": "POST", "timeout": "12s"}
    return {"http": asked, "undo": {"http": {"url": f"{switch.url}/off", "method": "POST"}}}


def test_a_request_is_not_undone_before_it_is_done(tmp_path: Path, switch: Switch) -> None:
    state = tmp_path / "state"

    def stop() -> None:
        switch.asked.wait(60)
        halt.pull(State(state), "it is on its way")

    thread = threading.Thread(target=stop)
    thread.start()
    result = chaoskit.run(chaoskit.load(write(tmp_path, turned_on(switch))), state=state)
    thread.join()
    assert result.verdict is Verdict.ABORTED and not result.left, result.reason
    assert switch.said == ["/on", "/off"]


def test_nor_when_its_sender_was_killed(tmp_path: Path, switch: Switch) -> None:
    runner = begin(write(tmp_path, turned_on(switch)))
    state = tmp_path / "state"
    try:
        assert switch.asked.wait(30)
    finally:
        runner.kill()
        runner.wait()
    folder = State(state).find()
    assert until(lambda: not folder.in_use() and "/off" in switch.said, 30)
    assert switch.said == ["/on", "/off"]
