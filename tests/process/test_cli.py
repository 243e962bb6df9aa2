"""The command line as a person or a script meets it: real processes, real exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chaoskit.clock import until
from chaoskit.faults.pause import Pause
from chaoskit.journal import Journal, RunFolder, State
from chaoskit.model.binding import Binding

REST = 60
"""Seconds that a command may take at most; generous, since nothing here is about speed."""


def chaoskit(
    *words: str, code: int | None = None, text: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line. code: the exit code that it must have."""
    done = subprocess.run(
        [sys.executable, "-m", "chaoskit", *words],
        capture_output=True,
        text=True,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        env={**os.environ, **environment},
        timeout=REST,
    )
    assert code is None or done.returncode == code, (words, done)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(autouse=True)
def _state(state_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state(state_folder: Path) -> State:
    return State.open(state_folder)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "Tt"


def abandon(state: State, process: subprocess.Popen[bytes]) -> RunFolder:
    """A run whose runner and guardian died with a process paused."""
    from chaoskit.targets.process import ProcessSelector

    folder, lock = state.new_run()
    journal = Journal(folder.path)
    binding = Binding(run=folder.id, step="1", folder=folder.path)
    target = ProcessSelector.of({"pid": process.pid}).find(binding)[0]
    journal.append(
        "run",
        schema=1,
        run=folder.id,
        title="Left alone",
        file="left.yaml",
        who="ann@host",
        uid=os.getuid(),
        seed=1,
        boot="",
        mono=0.0,
        wall=time.time(),
        variables=[],
        secrets=[],
        checks=[],
    )
    reference = {"kind": "process", "ref": target.ref(), "label": target.label}
    fault = Pause()
    for cell, change in enumerate(fault.changes(target), 1):
        journal.append(
            "change",
            cell=cell,
            step="1",
            fault="pause",
            params={},
            target=reference,
            key=change.key,
            was=change.was,
            put=change.put,
        )
        fault.make(target, change)
        journal.append("made", cell=cell)
    journal.close()
    lock.drop()
    assert until(lambda: stopped(process.pid), 10)
    return folder


# Words and exit codes


def test_a_user_without_a_home_is_told_what_to_say() -> None:
    """As with a uid that no passwd knows."""
    code = (
        "import sys, pwd; from chaoskit.cli.main import main\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody; sys.exit(main(['status']))"
    )
    without = {k: v for k, v in os.environ.items() if k not in ("HOME", "CHAOSKIT_STATE")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=without, timeout=REST
    )
    assert done.returncode == 7 and "name a state folder by --state" in done.stderr, done
    assert "Traceback" not in done.stderr


def test_a_name_that_is_too_long_is_told() -> None:
    done = chaoskit("check", "x" * 300, code=2)
    assert "cannot be read: File name too long" in done.stderr + done.stdout


def test_version_is_answered_without_importing_the_rest() -> None:
    code = (
        "import sys; before = set(sys.modules); from chaoskit.cli.main import main;"
        "main(['--version']); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    version, modules = done.stdout.splitlines()
    assert version.split()[0] == "chaoskit"
    assert set(eval(modules)) <= {
        "__future__",
        "chaoskit",
        "chaoskit.cli",
        "chaoskit.cli.main",
        "chaoskit.version",
    }


COMMANDS = ["run", "check", "plan", "recover", "halt", "release", "status", "report"]
COMMANDS += ["faults", "schema", "init", "demo", "proxy"]


def test_help_lists_every_command_examples_and_exit_codes() -> None:
    text = chaoskit("--help", code=0).stdout
    for command in COMMANDS:
        assert f"\n  {command} " in text
    assert "examples:" in text
    assert "5  stuck" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_json(command: str) -> None:
    text = chaoskit(command, "--help", code=0).stdout
    assert f"chaoskit {command}" in text
    assert "examples:" in text
    assert "exit codes:" in text
    assert "--json" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: chaoskit"),
        (["rnu"], "did you mean run?"),
        (["--bogus"], "a command is missing"),
        (["--state"], "a command is missing"),
        (["run"], "FILE|DIR"),
        (["run", "x.yaml", "--sed", "1"], "--sed"),
        (["run", "x.yaml", "--seed", "one"], "--seed"),
        (["run", "x.yaml", "--var", "secret-without-name"], "NAME=VALUE"),
        (["run", "x.yaml", "--var", "=value"], "NAME=VALUE"),
        (["plan"], "FILE"),
        (["plan", "a.yaml", "b.yaml"], "b.yaml"),
        (["recover", "--accept", "x"], "--accept"),
        (["report", "--json", "--md"], "not allowed"),
        (["faults", "no-such-fault"], "no-such-fault"),
        (["init"], "--process"),
        (["init", "--port", "70000"], "from 1 to 65535"),
        (["init", "--pid", "-3"], "--pid"),
        (["init", "--process", "a", "--pid", "3"], "not allowed"),
        (["init", "--url", "ftp://127.0.0.1/"], "no http or https URL"),
        (["init", "--url", "http://127.0.0.1:99999/"], "the URL is wrong"),
        (["status", "extra"], "extra"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_2(words: Sequence[str], said: str) -> None:
    done = chaoskit(*words, code=2)
    assert said in done.stderr
    assert "secret-without-name" not in done.stderr
    assert not done.stdout
    if words:
        assert len(done.stderr.splitlines()) == 1


def test_state_may_be_named_before_or_after_the_command(tmp_path: Path) -> None:
    for words in (["--state", "a b", "status"], ["status", "--state", "a b"]):
        assert json.loads(chaoskit(*words, "--json", code=0).stdout)["state"].endswith("/a b")
    assert not (tmp_path / "a b").exists()


def test_a_state_that_cannot_be_used_is_7_and_never_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (["status"], ["halt"], ["release"], ["report"], ["recover"]):
        done = chaoskit(*command, "--state", str(tmp_path / "file"), code=7)
        assert "is no folder" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = chaoskit("report", "--json", code=7)
    assert "no run" in done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["kind"], document["exit"]) == (1, "error", 7)


def test_an_unexpected_error_is_one_line_with_a_hint(tmp_path: Path) -> None:
    broken = "import chaoskit.cli.status as s, sys; s.run = lambda args: 1 / 0; "
    code = broken + "from chaoskit.cli.main import main; sys.exit(main(['status']))"
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "CHAOSKIT_DEBUG": debug},
        )
        assert done.returncode == 7
        assert "chaoskit itself failed: ZeroDivisionError" in done.stderr
        assert ("Traceback" in done.stderr) == bool(debug)
        assert ("CHAOSKIT_DEBUG=1" in done.stderr) != bool(debug)


def test_ctrl_c_outside_a_run_is_4() -> None:
    code = (
        "import chaoskit.cli.status as s, sys, signal, os\n"
        "s.run = lambda args: os.kill(os.getpid(), signal.SIGINT)\n"
        "from chaoskit.cli.main import main; sys.exit(main(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stderr == "chaoskit: interrupted\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["status"], ["halt", "x"]])
def test_a_closed_pipe_is_quiet(words: list[str], state: State) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "chaoskit", *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=REST,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert (state.path / "halt").exists() == (words[0] == "halt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_told_and_changes_no_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chaoskit", "halt"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_standard_streams_may_be_closed(state: State) -> None:
    command = f'exec "{sys.executable}" -m chaoskit halt now >&- 2>&-'
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    assert (state.path / "halt").exists()


# Halt, release, status


def test_halt_takes_any_words_and_release_gives_them_back() -> None:
    done = chaoskit("halt", "customers", "see", "errors", code=0)
    assert "customers see errors" in done.stdout
    assert "chaoskit release" in done.stdout
    again = json.loads(chaoskit("halt", "--reason", "later", "--json", code=0).stdout)
    assert again["halt"]["reason"] == "customers see errors", "the first reason stays"
    assert "customers see errors" in chaoskit("status", code=0).stdout
    status = json.loads(chaoskit("status", "--json", code=0).stdout)
    assert status["halt"]["reason"] == "customers see errors"
    assert "customers see errors" in chaoskit("release", code=0).stdout
    assert "nothing was halted" in chaoskit("release", code=0).stdout
    assert json.loads(chaoskit("release", "--json", code=0).stdout)["halt"] is None
    assert "nothing is running" in chaoskit("status", code=0).stdout


def test_halt_without_a_reason_halts(state: State) -> None:
    chaoskit("halt", code=0)
    assert (state.path / "halt").exists()


def test_status_tells_a_running_run_from_one_that_was_left(
    state: State, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = abandon(state, sleeper)
    lock = folder.lock()
    assert lock.take()
    done = chaoskit("status", "--json", code=0)
    document = json.loads(done.stdout)
    assert not done.stderr
    assert [run["run"] for run in document["running"]] == [folder.id]
    assert document["left"] == []
    lock.drop()
    document = json.loads(chaoskit("status", "--json", code=0).stdout)
    assert document["running"] == []
    assert document["left"][0]["left"][0]["fault"] == "pause"
    text = chaoskit("status", code=0).stdout
    assert f"LEFT BEHIND  {folder.id}  Left alone" in text
    assert f"not undone: pause on process {sleeper.pid}" in text
    assert f"chaoskit recover {folder.id}" in text


# What was left behind


@pytest.mark.parametrize("words", [["status"], ["release"], ["report"], ["plan", "none.yaml"]])
def test_every_command_says_what_was_left(
    words: list[str], state: State, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = abandon(state, sleeper)
    done = chaoskit(*words, "--state", str(state.path))
    lines = done.stderr.splitlines()
    assert f"run {folder.id} died with pause on process {sleeper.pid}" in lines[0]
    assert lines[1] == f"chaoskit: `chaoskit recover --state {state.path}` undoes it"


@pytest.mark.parametrize("words", [["halt"], ["schema"], ["faults"], ["--version"]])
def test_some_commands_do_not_look(
    words: list[str], state: State, sleeper: subprocess.Popen[bytes]
) -> None:
    abandon(state, sleeper)
    assert chaoskit(*words, code=0).stderr == ""


def test_recover_undoes_all_that_was_left(state: State, sleeper: subprocess.Popen[bytes]) -> None:
    folder = abandon(state, sleeper)
    done = chaoskit("recover", code=0)
    assert not stopped(sleeper.pid)
    assert done.stdout.startswith("RECOVERED  Left alone\n")
    assert f"undone: cell 1, pause on process {sleeper.pid}" in done.stdout
    assert (folder.path / "report.md").exists()
    assert "nothing was left behind" in chaoskit("recover", code=0).stdout
    assert chaoskit("status", code=0).stderr == ""
    document = json.loads(chaoskit("recover", folder.id[:17], "--json", code=0).stdout)
    assert (document["kind"], document["exit"]) == ("recover", 0)
    assert document["runs"][0]["state"] == "done"


def test_recover_of_a_process_that_is_gone_is_clean(state: State) -> None:
    process = subprocess.Popen(["sleep", "600"])
    abandon(state, process)
    process.kill()
    process.wait()
    assert chaoskit("recover", code=0).stdout.startswith("RECOVERED")


def test_what_cannot_be_recovered_is_5_with_the_way_out(
    state: State, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = abandon(state, sleeper)
    # A journal that claims another value was put: what is there now is somebody else's.
    path = folder.path / "journal.jsonl"
    path.write_text(path.read_text().replace('"put":"stopped"', '"put":"traced"'))
    done = chaoskit("recover", code=5)
    assert done.stdout.startswith("STUCK  Left alone")
    assert f"chaoskit recover {folder.id} --accept 1" in done.stdout
    assert stopped(sleeper.pid), "somebody else's value is left alone"
    assert "not undone" in chaoskit("status", code=0).stderr
    assert "no open cell 9" in chaoskit("recover", "--accept", "9", code=3).stderr
    chaoskit("recover", "--accept", "1", code=0)
    assert stopped(sleeper.pid)
    assert chaoskit("status", code=0).stderr == ""


def test_force_writes_the_old_value(state: State, sleeper: subprocess.Popen[bytes]) -> None:
    folder = abandon(state, sleeper)
    path = folder.path / "journal.jsonl"
    path.write_text(path.read_text().replace('"put":"stopped"', '"put":"traced"'))
    chaoskit("recover", folder.id, "--force", "1", code=0)
    assert not stopped(sleeper.pid)


def test_cells_of_several_runs_need_the_run(state: State, sleeper: subprocess.Popen[bytes]) -> None:
    abandon(state, sleeper)
    sleeper.send_signal(signal.SIGCONT)
    assert until(lambda: not stopped(sleeper.pid), 10)
    abandon(state, sleeper)
    assert "name the run" in chaoskit("recover", "--accept", "1", code=2).stderr
    assert stopped(sleeper.pid)
    chaoskit("recover", code=0)
    assert not stopped(sleeper.pid)


def test_a_run_that_is_going_on_is_not_recovered(
    state: State, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = abandon(state, sleeper)
    lock = folder.lock()
    assert lock.take()
    assert "still going on" in chaoskit("recover", folder.id, code=3).stderr
    assert stopped(sleeper.pid)
    lock.drop()


def test_scan_ends_what_carries_our_mark_and_leaves_guarded_runs_alone(
    state: State, tmp_path: Path
) -> None:
    left, guarded = "20200101-000000-aaaaaa", "20200101-000000-bbbbbb"
    keeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; time.sleep(600)",
            "chaoskit.engine.guardian",
            f"chaoskit-{guarded}",
        ]
    )
    try:
        files = {run: tmp_path / f".chaoskit-{run}-1-77" for run in (left, guarded)}
        for run, file in files.items():
            file.write_text(f"chaoskit-{run}-1-77\n")
        path = Path(f"/proc/{keeper.pid}/cmdline")
        assert until(lambda: b"guardian" in path.read_bytes(), 10)
        done = chaoskit("recover", "--json", "--scan", str(tmp_path), code=0)
        document = json.loads(done.stdout)
        assert left in {one["run"] for one in document["leftovers"]}
        assert guarded not in {one["run"] for one in document["leftovers"]}
        assert not files[left].exists()
        assert files[guarded].exists()
    finally:
        keeper.kill()
        keeper.wait()


def test_scan_says_what_it_could_not_look_at(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # It lets in, and never answers.
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        nowhere = tmp_path / "nowhere"
        told = chaoskit("recover", "--scan", str(nowhere), code=0).stdout
        assert f"not looked at  filler files in {nowhere}: No such file or directory" in told
        assert "not looked at  helper containers: the Docker daemon at tcp://127.0.0.1:" in told
        assert "nothing was left behind" not in told


# Reports


def test_report_in_three_shapes(state: State, sleeper: subprocess.Popen[bytes]) -> None:
    folder = abandon(state, sleeper)
    assert chaoskit("report", code=0).stdout.startswith("LEFT  Left alone")
    chaoskit("recover", code=0)
    (folder.path / "report.md").unlink()
    assert chaoskit("report", folder.id, code=0).stdout.startswith("ABORTED  Left alone")
    assert (folder.path / "report.md").exists(), "written by whoever reads it first"
    assert chaoskit("report", "--md", code=0).stdout == (folder.path / "report.md").read_text()
    document = json.loads(chaoskit("report", folder.id[:18], "--json", code=0).stdout)
    assert (document["schema"], document["kind"], document["run"]) == (1, "run", folder.id)


# At every boot


def stub(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which nothing is, but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "root/etc"))
    return folder


CRONTAB = """
PATH=/usr/bin:/bin
case "$1" in
-l) if [ -f "$CRON" ]; then cat "$CRON"; else echo "no crontab for you" >&2; exit 1; fi;;
-) cat > "$CRON";;
esac"""


def test_install_where_nothing_can_run_at_boot_is_refused(stubs: Path) -> None:
    done = chaoskit("recover", "--install", code=3)
    assert "neither systemd nor cron" in done.stderr


def test_install_writes_one_line_of_crontab_and_touches_no_other(
    stubs: Path, tmp_path: Path, state: State
) -> None:
    stub(stubs, "crontab", CRONTAB)
    cron = tmp_path / "cron"
    first = chaoskit("recover", "--install", code=0, CRON=str(cron))
    line = cron.read_text()
    assert line.startswith(f"@reboot {sys.executable} -m chaoskit --state {state.path} recover")
    assert line.strip() in first.stdout
    others = "# mine\n*/5 * * * * /usr/bin/true 50\\% # chaoskit is not in this\nlast"
    cron.write_text(others)
    for _ in range(2):
        document = json.loads(
            chaoskit("recover", "--install", "--json", code=0, CRON=str(cron)).stdout
        )
        assert document["wrote"] in line
    assert cron.read_text() == f"{others}\n{line}"
    chaoskit("recover", "--install", "--state", "50% of it", code=0, CRON=str(cron))
    assert "50\\% of it" in cron.read_text()
    assert cron.read_text().startswith(f"{others}\n{line}")


def test_install_never_writes_over_a_crontab_that_it_could_not_read(
    stubs: Path, tmp_path: Path
) -> None:
    wrote = tmp_path / "wrote"
    stub(stubs, "crontab", f'[ "$1" = - ] && : > {wrote}; echo "you may not" >&2; exit 1')
    assert "you may not" in chaoskit("recover", "--install", code=7).stderr
    assert not wrote.exists()


SYSTEMCTL = """
echo "$@" >> "$CALLS"
case "$*" in *is-system-running) echo "$STATE"; [ "$STATE" = running ];; esac"""


def test_install_writes_a_unit_where_systemd_runs(
    stubs: Path, tmp_path: Path, state: State
) -> None:
    stub(stubs, "systemctl", SYSTEMCTL)
    calls, root = tmp_path / "calls", tmp_path / "root"
    environment = {"CALLS": str(calls), "STATE": "degraded"}
    words = ["recover", "--install", "--root", str(root)]
    done = chaoskit(*words, code=0, **environment)
    (unit,) = root.rglob("chaoskit-recover.service")
    text = unit.read_text()
    assert str(unit) in done.stdout
    assert f'"-m" "chaoskit" "--state" "{state.path}" "recover"' in text
    assert "enable chaoskit-recover.service" in calls.read_text()
    assert ("--user" in calls.read_text()) == (os.getuid() != 0)
    assert ("enable-linger" in done.stdout) == (os.getuid() != 0)
    chaoskit(*words, code=0, **environment)
    assert unit.read_text() == text
    chaoskit(*words, "--state", "50% $HOME", code=0, **environment)
    assert unit.read_text().count("ExecStart=") == 2, "the other state folder stays armed"
    assert "50%% $$HOME" in unit.read_text()
    unit.write_text("somebody else's\n")
    assert "left as it is" in chaoskit(*words, code=3, **environment).stderr
    assert unit.read_text() == "somebody else's\n"


def test_a_systemd_that_does_not_run_is_no_systemd(stubs: Path, tmp_path: Path) -> None:
    stub(stubs, "systemctl", SYSTEMCTL)
    environment = {"CALLS": str(tmp_path / "calls"), "STATE": "offline"}
    done = chaoskit("recover", "--install", "--root", str(tmp_path / "root"), code=3, **environment)
    assert "neither systemd nor cron" in done.stderr
    assert not (tmp_path / "root").exists()


# What there is


def test_faults_says_of_each_what_it_does_to_what_and_how_it_comes_back() -> None:
    document = json.loads(chaoskit("faults", "--json", code=0).stdout)
    assert document["schema"] == 1
    paused = [f["way_back"] for f in document["faults"] if f["name"] == "pause"]
    assert paused == ["SIGCONT to each process", "the container is unpaused"]
    by_name = {f["name"]: f for f in document["faults"] if f["targets"] != ["docker"]}
    assert by_name["pause"]["way_back"] == "SIGCONT to each process"
    assert by_name["pause"]["targets"] == ["process"]
    for fault in document["faults"]:
        assert fault["summary"]
        assert fault["needs"]
        assert fault["targets"]
        assert fault["ends"]
    fields = {field["name"]: field for field in by_name["disk-fill"]["fields"]}
    assert fields["path"]["required"]
    assert fields["size"]["kind"] == "size"
    assert "one way" in by_name["kill"]["way_back"]
    assert "one way" in by_name["kill"]["ends"]
    text = chaoskit("faults", "pause", code=0).stdout
    assert text.startswith("pause  Stop every process of the tree")
    assert "kill  " not in text
