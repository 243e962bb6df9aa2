"""A secret in a target's selector: told nowhere, and the undo knows it all the same."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent import bent, records, runs, write
from bent import chaoskit as command
from spawned import Spawned, spawning

import chaoskit
from chaoskit.clock import until
from chaoskit.errors import Gone
from chaoskit.faults.kill import Kill
from chaoskit.journal import State
from chaoskit.model.binding import Binding
from chaoskit.model.redact import Redactor
from chaoskit.procfs import Process, with_argument
from chaoskit.targets.process import ProcessSelector, ProcessTarget

SECRET = "s3cr3t/pa  ss&1"
"""With what a label would cut at: a slash and several spaces."""


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    with spawning(tmp_path) as made:
        yield made


def target(spawned: Spawned) -> dict[str, Any]:
    return {"process": {"cmdline": f"{spawned.name} --token=${{TOKEN}}"}}


def kill(spawned: Spawned) -> dict[str, Any]:
    """It is started again by a command that gets the secret from its environment."""
    marks = [f"{name}={value}" for name, value in spawned.mark.items()]
    words = shlex.join(["env", *marks, *spawned.words()]) + ' "--token=$TOKEN"'
    return {"fault": "kill", "target": target(spawned), "for": "60s", "restart": f"exec {words}"}


def secretly(folder: Path, *steps: dict[str, Any]) -> Path:
    return write(folder, *steps, variables={"TOKEN": {"secret": True}})


def victim(spawned: Spawned) -> Process:
    return spawned.run([*spawned.words(), f"--token={SECRET}"])


def assert_told_nowhere(state: Path, *texts: str) -> None:
    files = [p.read_text(errors="replace") for p in state.rglob("*") if p.is_file()]
    assert any('"kind":"change"' in text for text in files)
    for text in (*texts, *files):
        for piece in (SECRET, "s3cr3t", "ss&1", "pa  ss", "pa ss"):
            assert piece not in text, text[max(0, text.find(piece) - 200) :][:400]


def test_the_guardian_undoes_by_what_it_keeps_in_memory(tmp_path: Path, spawned: Spawned) -> None:
    victim(spawned)
    file = secretly(tmp_path, kill(spawned))
    with bent(file, TOKEN=SECRET) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        assert not spawned.alive()
        runner.kill()
        assert until(lambda: len(spawned.alive()) == 1, 20), "nobody started it again"
        assert until(lambda: not State(tmp_path / "state").unsettled(), 20)
        assert spawned.alive()[0].cmdline()[-1] == f"--token={SECRET}"
    assert_told_nowhere(tmp_path / "state")


def test_recover_asks_for_it_and_undoes_with_it(
    tmp_path: Path, spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    victim(spawned)
    file, state = secretly(tmp_path, kill(spawned)), tmp_path / "state"
    with bent(file, TOKEN=SECRET) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        (guardian,) = with_argument(f"chaoskit-{runs(file)[0].id}")
        runner.send_signal(signal.SIGSTOP)
        guardian.signal(signal.SIGKILL)
        runner.kill()
        runner.wait()
    told = []
    for words in (["status"], ["recover"], ["status"], ["recover"]):
        done = command(*words, state=state)
        told.append(done.stdout + done.stderr)
        if words == ["recover"]:
            assert done.returncode == 5 and "--var TOKEN=" in told[-1], told[-1]
            assert not spawned.alive()
    done = command("recover", "--var", f"TOKEN={SECRET}", state=state)
    assert done.returncode in (0, 4), done.stdout + done.stderr
    assert until(lambda: len(spawned.alive()) == 1, 20), "nobody started it again"
    assert spawned.alive()[0].cmdline()[-1] == f"--token={SECRET}"
    told += [done.stdout + done.stderr, command("report", state=state).stdout]
    assert not State(state).unsettled()
    assert_told_nowhere(state, *told)


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_no_command_tells_it(tmp_path: Path, spawned: Spawned, fault: str) -> None:
    victim(spawned)
    pause = {"fault": "pause", "target": target(spawned), "for": "200ms"}
    killed = kill(spawned) | {"for": "200ms", "replaced-within": "100ms"}
    file = secretly(tmp_path, pause if fault == "pause" else killed)
    told = []
    for words in (["check", str(file)], ["plan", str(file)], ["plan", str(file), "--json"],
                  ["run", str(file)], ["report"], ["report", "--json"], ["status"]):  # fmt: skip
        done = command(*words, state=tmp_path / "state", TOKEN=SECRET)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        told.append(done.stdout + done.stderr)
    assert "${TOKEN}" in "".join(told[:2])
    assert_told_nowhere(tmp_path / "state", *told)


def shell(spawned: Spawned, width: int) -> Process:
    """Whose command line is cut somewhere in the secret, for some widths."""
    script = "echo ready; read x </dev/zero"
    return spawned.run(["/bin/sh", "-c", script, "x" * width, SECRET, "and more" * 4])


PIECES = ("s3", "pa ", "ss&")


@pytest.mark.parametrize("width", range(1, 32, 3))
def test_a_label_is_cut_after_the_secret_is_out(
    tmp_path: Path, spawned: Spawned, width: int
) -> None:
    """Wherever the cut falls, half a secret would be known to no redactor."""
    process = shell(spawned, width)
    binding = Binding(
        run="20260101-000000-abcdef", step="1", folder=tmp_path, redactor=Redactor({"T": SECRET})
    )
    (target,) = ProcessSelector(pid=process.pid).find(binding)
    assert isinstance(target, ProcessTarget)
    for label in (target.label, target.describe(process)):
        assert label.startswith(f"process {process.pid} (sh -c echo ready;")
        for piece in PIECES:
            assert piece not in label


@pytest.mark.parametrize("width", range(1, 32, 10))
def test_a_plan_has_no_half_secret(tmp_path: Path, spawned: Spawned, width: int) -> None:
    target = {"process": {"pid": shell(spawned, width).pid}}
    file = secretly(tmp_path, {"fault": "pause", "target": target, "for": "1s"})
    plan = chaoskit.plan(chaoskit.load(file, {"TOKEN": SECRET}), state=tmp_path / "state")
    (chosen,) = plan.steps[0].targets
    assert "sh -c echo ready" in chosen.label
    for piece in PIECES:
        assert piece not in json.dumps(plan.to_json())


def test_a_short_secret_changes_no_plan_s_name(tmp_path: Path, spawned: Spawned) -> None:
    spawned.python()
    step = {"fault": "pause", "target": {"process": {"cmdline": spawned.name}}, "for": "1s"}
    file = secretly(tmp_path, step)
    plans = [
        chaoskit.plan(chaoskit.load(file, {"TOKEN": secret}), state=tmp_path / "state")
        for secret in "0123456789abcdef"
    ]
    assert len({plan.hash for plan in plans}) == 1 and re.fullmatch("[0-9a-f]{16}", plans[0].hash)


def test_a_successor_is_told_without_it(spawned: Spawned, tmp_path: Path) -> None:
    first = victim(spawned)
    binding = Binding(
        run="20260101-000000-abcdef", step="1", folder=tmp_path, environment=spawned.mark,
        redactor=Redactor({"TOKEN": SECRET}),
    )  # fmt: skip
    (made,) = ProcessSelector(cmdline=spawned.name).find(binding)
    assert isinstance(made, ProcessTarget)
    fault = Kill()
    (change,) = fault.changes(made)
    fault.make(made, change)
    spawned.reap(first)
    victim(spawned)
    assert until(lambda: fault.outcome(made, [change], 0.1) is not None, 20)
    outcome = fault.outcome(made, [change], 0.1)
    assert outcome is not None and "replaced by process" in outcome.text
    assert "s3cr3t" not in outcome.text and "ss&1" not in outcome.text
    with pytest.raises(Gone):
        first.state()


def test_what_a_cell_is_named_by_is_kept_without_it(
    tmp_path: Path, spawned: Spawned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a filler file is its cell's key: it takes the secret to find it again."""
    monkeypatch.delenv("TOKEN", raising=False)
    spawned.python()
    secret = "s3cr3t-folder"
    place = tmp_path / "disk" / secret
    place.mkdir(parents=True)
    fill = {"fault": "disk-fill", "target": {"process": {"cmdline": f"{spawned.name}$"}},
            "path": f"{place.parent}/${{TOKEN}}", "size": "1MiB", "for": "60s"}  # fmt: skip
    file, state = secretly(tmp_path, fill), tmp_path / "state"
    with bent(file, TOKEN=secret) as runner:
        assert until(lambda: bool(records(file, "injected")), 30)
        (guardian,) = with_argument(f"chaoskit-{runs(file)[0].id}")
        runner.send_signal(signal.SIGSTOP)
        guardian.signal(signal.SIGKILL)
        runner.kill()
        runner.wait()
    told = [command("recover", state=state)]
    assert told[0].returncode == 5 and "--var TOKEN=" in told[0].stdout + told[0].stderr
    assert os.listdir(place)
    told.append(command("recover", "--var", f"TOKEN={secret}", state=state))
    assert told[1].returncode in (0, 4) and not os.listdir(place)
    assert_told_nowhere(state, *(done.stdout + done.stderr for done in told))


def test_the_value_that_a_cell_gets_is_kept_without_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    link = {"proxy": {"listen": f"127.0.0.1:{port}", "upstream": "127.0.0.1:9"}}
    step = {"fault": "http-error", "target": link, "body": "no ${TOKEN}", "for": "200ms"}
    done = command("run", str(secretly(tmp_path, step)), state=tmp_path / "state", TOKEN=SECRET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_told_nowhere(tmp_path / "state", done.stdout + done.stderr)
