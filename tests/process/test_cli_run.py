"""`chaoskit run` and the commands around it, end to end on a real process."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaoskit.clock import until
from chaoskit.journal import State

RUN = [sys.executable, "-m", "chaoskit"]
REST = 60
"""Seconds that anything may take at most; generous, since nothing here is about speed."""


@pytest.fixture(autouse=True)
def _place(state_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state(state_folder: Path) -> State:
    return State.open(state_folder)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[int]:
    """A process that touches `alive` all the time; its pid."""
    code = "import pathlib, time\nwhile True:\n pathlib.Path('alive').touch(); time.sleep(0.02)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        assert until((tmp_path / "alive").exists, 30)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "Tt"


def experiment(
    path: Path, pid: int, hold: str = "300ms", gates: str = "[]", check: str = "test -e alive"
) -> Path:
    path.write_text(
        f"""\
chaoskit: 1
title: A worker stands still
hypothesis: Nobody minds.
steady-state:
  - {{name: fine, command: {{run: "{check}", timeout: 5s}}, expect: {{exit: 0}}}}
method:
  - {{fault: pause, target: {{process: {{pid: {pid}}}}}, for: {hold}}}
gates: {gates}
verify:
  - {{check: steady-state, within: 20s}}
"""
    )
    return path


def run(*words: object, code: int | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*RUN, *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=REST,
    )
    assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@contextmanager
def started(
    *words: object, stdout: int | None = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in the background, killed in the end if it is still there."""
    process = subprocess.Popen(
        [*RUN, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def test_a_run_that_holds_says_so_and_leaves_its_reports(
    worker: int, tmp_path: Path, state: State
) -> None:
    file = experiment(tmp_path / "x.yaml", worker)
    done = run("run", file, "--seed", "7", "--reason", "before the release", code=0)
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("[") for line in lines[: lines.index("")])
    assert any("pause is in and proven" in line for line in lines)
    assert "HELD  A worker stands still" in lines
    folder = state.find()
    assert lines[-1] == f"report {folder.path / 'report.md'}"
    assert "seed 7" in done.stdout
    assert "before the release" in (folder.path / "report.md").read_text()
    document = json.loads((folder.path / "report.json").read_text())
    assert (document["verdict"], document["seed"]) == ("held", 7)
    assert run("report", code=0).stdout.splitlines()[-1] == lines[-1]
    assert not stopped(worker)


def test_json_is_one_document_and_nothing_else(worker: int, tmp_path: Path) -> None:
    done = run("run", experiment(tmp_path / "x.yaml", worker), "--json", code=0)
    document = json.loads(done.stdout)
    assert (document["schema"], document["kind"], document["exit"]) == (1, "run", 0)
    assert document["steps"][0]["proven_again"] is True
    assert not done.stderr


def test_several_files_run_one_by_one_and_the_worst_counts(worker: int, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    experiment(folder / "a.yaml", worker)
    experiment(folder / "b.yaml", 2**22 - 7)
    experiment(folder / "c.yaml", worker)
    document = json.loads(run("run", folder, "--json", code=3).stdout)
    assert (document["kind"], document["verdict"], document["exit"]) == ("runs", "refused", 3)
    assert [one["verdict"] for one in document["runs"]] == ["held", "refused", "held"]
    text = run("run", folder, code=3).stdout
    assert "== 2 of 3:" in text
    assert "REFUSED  over 3 experiments" in text


def test_one_wrong_file_means_that_nothing_is_done(
    worker: int, tmp_path: Path, state: State
) -> None:
    good = experiment(tmp_path / "a.yaml", worker)
    bad = experiment(tmp_path / "b.yaml", worker, hold="soon")
    worse = experiment(tmp_path / "c.yaml", worker)
    worse.write_text(worse.read_text() + "surprise: 1\n")
    done = run("run", good, bad, worse, code=2)
    assert f"{bad}:" in done.stderr
    assert f"{worse}:" in done.stderr
    assert "surprise" in done.stderr
    assert not done.stdout
    assert state.runs() == []
    document = json.loads(run("run", bad, "--json", code=2).stdout)
    assert document["kind"] == "error"
    assert document["problems"][0]["line"] == 7


def test_check_tells_everything_at_once(worker: int, tmp_path: Path) -> None:
    good = experiment(tmp_path / "a.yaml", worker)
    assert run("check", good, code=0).stdout == f"{good}: ok (A worker stands still)\n"
    bad = experiment(tmp_path / "b.yaml", worker, hold="soon")
    bad.write_text(bad.read_text() + "surprise: 1\n")
    done = run("check", tmp_path, code=2)
    assert f"{good}: ok" in done.stdout
    assert f"{bad}:7:" in done.stderr
    assert f"{bad}:11:" in done.stderr
    assert done.stderr.splitlines()[-1] == "2 problems in 1 of 2 files"
    document = json.loads(run("check", tmp_path, "--json", code=2).stdout)
    assert [one["ok"] for one in document["files"]] == [True, False]
    assert [p["line"] for p in document["files"][1]["problems"]] == [7, 11]
    assert "none.yaml" in run("check", tmp_path / "none.yaml", code=2).stderr


def test_plan_shows_who_it_would_be_and_changes_nothing(
    worker: int, tmp_path: Path, state: State
) -> None:
    file = experiment(tmp_path / "x.yaml", worker)
    text = run("plan", file, "--seed", "7", code=0).stdout
    assert f"process {worker} (" in text
    assert "SIGCONT" in text
    document = json.loads(run("plan", file, "--seed", "7", "--json", code=0).stdout)
    assert (document["schema"], document["kind"], document["exit"]) == (1, "plan", 0)
    assert document["hash"] in text
    assert not state.path.exists()
    nobody = experiment(tmp_path / "y.yaml", 2**22 - 7)
    assert "this run would be REFUSED" in run("plan", nobody, code=3).stdout
    assert json.loads(run("plan", nobody, "--json", code=3).stdout)["refusals"]


def test_a_gate_that_fires_is_4_and_all_is_back(worker: int, tmp_path: Path) -> None:
    file = experiment(
        tmp_path / "x.yaml",
        worker,
        hold="50s",
        gates="[{check: fine, every: 100ms, consecutive: 1}]",
        check=f"! grep -q '^State:.T' /proc/{worker}/status",
    )
    done = run("run", file, code=4)
    assert "ABORTED  A worker stands still" in done.stdout
    assert not stopped(worker)


def test_a_halt_from_elsewhere_undoes_and_lets_none_start(worker: int, tmp_path: Path) -> None:
    file = experiment(tmp_path / "x.yaml", worker, hold="50s")
    with started("run", file) as running:
        assert until(lambda: stopped(worker), REST)
        status = json.loads(run("status", "--json", code=0).stdout)
        assert status["running"][0]["left"][0]["fault"] == "pause"
        run("halt", "--reason", "customers see errors", code=0)
        assert running.wait(REST) == 4
    assert not stopped(worker)
    done = run("run", file, code=3)
    assert "customers see errors" in done.stdout
    run("release", code=0)
    run("run", experiment(tmp_path / "x.yaml", worker), code=0)


def test_a_signal_ends_the_run_and_the_rest_is_not_run(worker: int, tmp_path: Path) -> None:
    first = experiment(tmp_path / "a.yaml", worker, hold="50s")
    second = experiment(tmp_path / "b.yaml", worker)
    with started("run", first, second) as running:
        assert until(lambda: stopped(worker), REST)
        running.send_signal(signal.SIGINT)
        assert running.wait(REST) == 4
        assert running.stdout and running.stderr
        text = running.stdout.read().decode()
        assert "undoing; a second Ctrl-C changes nothing" in text
        assert "ABORTED" in text
        assert "1 more experiments were not run" in running.stderr.read().decode()
    assert not stopped(worker)


def test_a_reader_that_goes_away_changes_no_verdict(worker: int, tmp_path: Path) -> None:
    file = experiment(tmp_path / "x.yaml", worker)
    reading, writing = os.pipe()
    os.close(reading)
    with started("run", file, stdout=writing) as running:
        os.close(writing)
        assert running.wait(REST) == 0
        assert running.stderr and running.stderr.read() == b""
    assert not stopped(worker)


def drained(file: int) -> bool:
    try:
        while os.read(file, 65536):
            pass
    except BlockingIOError:
        pass
    return True


def test_output_that_nobody_reads_delays_no_undo(worker: int, tmp_path: Path) -> None:
    file = experiment(tmp_path / "x.yaml", worker, hold="50s")
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with started("run", file, stdout=writing) as running:
        os.close(writing)
        assert until(lambda: stopped(worker), REST)
        running.send_signal(signal.SIGTERM)
        assert until(lambda: not stopped(worker), 10)
        assert running.poll() is None, "it is still waiting for its reader"
        os.set_blocking(reading, False)
        assert until(lambda: drained(reading) and running.poll() is not None, REST)
        assert running.returncode == 4
    os.close(reading)


def test_ctrl_c_on_a_terminal(worker: int, tmp_path: Path) -> None:
    file = experiment(tmp_path / "x.yaml", worker, hold="50s")
    master, inner = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        # Its own session with the terminal in control, so that the key reaches it as a signal.
        ["setsid", "--ctty", *RUN, "run", str(file)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(inner)
    shown = b""

    def read() -> None:
        nonlocal shown
        while select.select([master], [], [], 0)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:
                return

    def see(text: bytes) -> bool:
        read()
        return text in shown

    try:
        assert until(lambda: stopped(worker) and see(b"left of 50s"), REST), shown
        os.write(master, b"\x03")
        assert until(lambda: see(b"\nrun 2"), REST), shown
        assert until(lambda: process.poll() is not None, REST)
        assert process.returncode == 4
        assert b"a second Ctrl-C changes nothing" in shown
        assert b"ABORTED" in shown
        assert not stopped(worker)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(
    "words",
    [
        ["--process", r"work\.er \d+ \"x\" ${HOME} it's: #1"],
        ["--pid", "4194000"],
        ["--url", "http://127.0.0.1:8080/health?a=b#c"],
        ["--url", "http://shop.example/health"],
        ["--port", "8080"],
        ["--process", "worker", "--url", "http://localhost/", "--port", "80"],
        ["--pid", "4194000", "--port", "81"],
    ],
)
def test_what_init_writes_passes_check_and_is_never_written_over(
    words: list[str], tmp_path: Path
) -> None:
    done = run("init", *words, code=0)
    file = tmp_path / "experiment.yaml"
    assert "wrote experiment.yaml" in done.stdout
    assert "chaoskit run experiment.yaml" in done.stdout
    run("check", file, code=0)
    file.write_text("mine")
    assert "--force" in run("init", *words, code=2).stderr
    assert file.read_text() == "mine"
    assert json.loads(run("init", *words, "--force", "--json", code=0).stdout)["text"] == (
        file.read_text()
    )
    run("check", file, code=0)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]


def test_a_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for place, why in (("plain/x.yaml", "Not a directory"), ("x" * 255, "File name too long")):
        done = run("init", "--pid", "1", place, code=2)
        assert f"cannot be written: {why}" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_the_experiment_is_kept_as_it_was_run(worker: int, tmp_path: Path, state: State) -> None:
    """It may come from a pipe, and may have been edited since."""
    file = experiment(tmp_path / "x.yaml", worker)
    text = file.read_text() + "# as it was\n"
    done = subprocess.run(
        [sys.executable, "-m", "chaoskit", "run", "/dev/stdin"],
        input=text, capture_output=True, text=True, timeout=REST,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (state.find().path / "experiment.yaml").read_text() == text


def test_init_writes_nothing_that_check_would_not_take(tmp_path: Path) -> None:
    done = run("init", "--process", "worker(", code=2)
    assert "chaoskit init:" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "cannot be written" in run("init", "--port", "80", "no/such/folder.yaml", code=2).stderr


def test_init_finds_the_process_it_was_told(worker: int, tmp_path: Path) -> None:
    run("init", "--pid", worker, code=0)
    assert f"process {worker} (" in run("plan", "experiment.yaml", code=0).stdout


def test_schema_takes_what_init_writes() -> None:
    import jsonschema
    import yaml

    schema = json.loads(run("schema", code=0).stdout)
    run("init", "--process", "worker", "--url", "http://127.0.0.1:1/", "--port", "8080", code=0)
    document = yaml.safe_load(Path("experiment.yaml").read_text())
    jsonschema.validate(document, schema)
    document["method"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
