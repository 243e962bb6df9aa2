"""`chaoskit demo`: both scenes come to what they should, and the shop is always closed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaoskit.cli.demo import _free_ports
from chaoskit.clock import until
from chaoskit.journal import State

REST = 90


@pytest.fixture(autouse=True)
def temporary(state_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its things; nothing may be left there."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@contextmanager
def demo(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "chaoskit", "demo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def shop_of(demo: subprocess.Popen[str]) -> list[int]:
    """The processes of its shop."""
    mark = f"\0--shop\0demo-{demo.pid}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_both_scenes_play_and_the_shop_is_closed(state_folder: Path, temporary: Path) -> None:
    with demo() as running:
        out, err = running.communicate(timeout=REST)
        assert (running.returncode, err) == (0, ""), out
        assert shop_of(running) == []
    assert out.index("HELD  ") < out.index("ABORTED  ")
    assert "customers can buy" in out
    reports = [folder.path / "report.md" for folder in State.open(state_folder).runs()]
    assert len(reports) == 2
    for report in reports:
        assert report.exists()
        assert f"  {report}\n" in out
    assert list(temporary.iterdir()) == []


def test_as_json_it_is_one_document() -> None:
    with demo("--json") as running:
        out, err = running.communicate(timeout=REST)
    assert err == ""
    document = json.loads(out)
    assert (document["schema"], document["kind"], document["exit"]) == (1, "demo", 0)
    assert [run["verdict"] for run in document["runs"]] == ["held", "aborted"]
    assert "gate" in " ".join(document["runs"][1]["learnt"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["opening", "running"])
def test_whatever_ends_it_closes_the_shop(
    number: signal.Signals, moment: str, temporary: Path
) -> None:
    with demo() as running:
        assert running.stdout
        if moment == "running":
            assert any("is in and proven" in line for line in running.stdout)
        else:
            assert until(lambda: bool(shop_of(running)), REST)
        running.send_signal(number)
        assert running.wait(REST) == 4
        assert until(lambda: not shop_of(running), 10), "the shop outlived its demo"
    assert list(temporary.iterdir()) == []


def test_a_halt_refuses_it_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-m", "chaoskit", "halt", "not", "now"])
    assert done.returncode == 0
    with demo() as running:
        out, _ = running.communicate(timeout=REST)
        assert running.returncode == 3
        assert shop_of(running) == []
    assert "not now" in out


def test_the_ports_that_are_found_can_be_had() -> None:
    import socket

    first = _free_ports()
    assert 0 < first < 65536 - 3
    for port in range(first, first + 4):
        with socket.socket() as held:
            held.bind(("127.0.0.1", port))


def test_a_shop_that_does_not_open_is_refused(tmp_path: Path, temporary: Path) -> None:
    code = (
        "import sys, pathlib, chaoskit.cli.demo as d; d.find_shop = lambda: pathlib.Path("
        "sys.argv[1]); from chaoskit.cli.main import main; sys.exit(main(['demo']))"
    )
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('no till')")
    done = subprocess.run(
        [sys.executable, "-c", code, str(broken)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=REST,
    )
    assert done.returncode == 3
    assert "did not open: no till" in done.stderr
    assert list(temporary.iterdir()) == []
