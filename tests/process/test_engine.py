"""How a run goes: several targets, stages, parallel steps, gates that see, true verdicts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chaoskit
from chaoskit.capabilities import HasProcesses
from chaoskit.clock import until
from chaoskit.errors import ChaoskitError
from chaoskit.faults.pause import Pause
from chaoskit.journal import State
from chaoskit.model.fault import Change
from chaoskit.model.result import Event, Result
from chaoskit.model.verdict import Verdict
from chaoskit.procfs import Process
from chaoskit.recovery import recover
from chaoskit.report.text import result_lines
from chaoskit.safety import halt


class Herd:
    """Some sleepers with one name."""

    def __init__(self, size: int) -> None:
        self.name = f"herd-{uuid.uuid4().hex[:12]}"
        self.popens = [
            subprocess.Popen(["/bin/sh", "-c", "while :; do read x; done", self.name],
                             stdin=subprocess.PIPE)
            for _ in range(size)
        ]  # fmt: skip
        self.processes = [Process.at(p.pid) for p in self.popens]

    def stopped(self) -> int:
        return sum(process.state() == "stopped" for process in self.processes)

    def end(self) -> None:
        for popen in self.popens:
            popen.kill()
            popen.communicate()


@pytest.fixture
def herd() -> Iterator[Herd]:
    made = Herd(4)
    yield made
    made.end()


def write(folder: Path, *steps: dict[str, Any], **more: Any) -> Path:
    document: dict[str, Any] = {
        "chaoskit": 1,
        "title": "a test",
        "steady-state": [
            {"name": "there", "file": {"path": str(folder)}, "expect": {"exists": True}}
        ],
        "method": list(steps),
        "verify": [{"check": "there", "within": "100ms"}],
    }
    path = folder / "experiment.json"
    path.write_text(json.dumps(document | more))
    return path


def pause(herd: Herd, pick: object = 1, hold: str = "200ms", **more: Any) -> dict[str, Any]:
    target: dict[str, Any] = {"process": {"cmdline": herd.name}}
    if "stages" not in more:
        target["pick"] = pick
    return {"fault": "pause", "target": target, "for": hold} | more


def run(file: Path, observer: Any = None) -> Result:
    return chaoskit.run(chaoskit.load(file), state=file.parent / "state", observer=observer)


def test_several_targets_at_once(tmp_path: Path, herd: Herd) -> None:
    seen: list[int] = []

    def observer(event: Event) -> None:
        if event.kind == "injected":
            seen.append(herd.stopped())

    result = run(write(tmp_path, pause(herd, "all")), observer)
    assert result.verdict is Verdict.HELD, result.reason
    assert seen == [4] and herd.stopped() == 0
    assert len(result.steps[0].targets) == 4


def test_all_or_nothing(tmp_path: Path, herd: Herd, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four cannot be injected: the other three are undone and nothing is held."""
    bad = herd.processes[2].key
    make = Pause.make

    def failing(fault: Pause, target: HasProcesses, change: Change) -> None:
        if change.key == bad:
            raise PermissionError(1, "Operation not permitted")
        make(fault, target, change)

    monkeypatch.setattr(Pause, "make", failing)
    began = time.monotonic()
    result = run(write(tmp_path, pause(herd, "all", "20s"), {"run": ["touch", "never"]}))
    assert time.monotonic() - began < 15
    assert result.verdict is Verdict.INCONCLUSIVE and "not permitted" in result.reason.lower()
    assert herd.stopped() == 0 and not result.left
    assert len(result.steps) == 1, "the method went on"


def test_stages_widen_and_keep_those_that_were_chosen(tmp_path: Path, herd: Herd) -> None:
    seen: list[set[str]] = []

    def observer(event: Event) -> None:
        if event.kind == "injected":
            seen.append({p.key for p in herd.processes if p.state() == "stopped"})

    result = run(write(tmp_path, pause(herd, hold="100ms", stages=[1, "50%", 3])), observer)
    assert result.verdict is Verdict.HELD, result.reason
    assert [len(keys) for keys in seen] == [1, 2, 3]
    assert seen[0] < seen[1] < seen[2] and herd.stopped() == 0
    (step,) = result.steps
    assert step.stages == 3 and step.injected is not None and step.undone is not None
    assert step.undone - step.injected >= 0.3, "only the last stage was counted"
    assert "in 3 stages for" in result.learnt[0]


@pytest.mark.parametrize("seed", range(8))
def test_those_are_hurt_that_the_plan_named(tmp_path: Path, herd: Herd, seed: int) -> None:
    """In stages, and in steps of the same selector, whatever order it finds them in."""
    killed = pause(herd, hold="50ms") | {"fault": "kill"}
    file = write(tmp_path, pause(herd, hold="50ms", stages=[1, 2]), killed)
    experiment = chaoskit.load(file)
    plan = chaoskit.plan(experiment, state=tmp_path / "state", seed=seed)
    hurt: dict[str, set[str]] = {}

    def observer(event: Event) -> None:
        if event.kind == "injected":
            hurt.setdefault(str(event.data["step"]), set()).update(event.data["targets"])

    result = chaoskit.run(experiment, state=tmp_path / "state", seed=seed, observer=observer)
    assert result.verdict is Verdict.HELD, result.reason
    assert hurt == {step.number: {t.label for t in step.targets} for step in plan.steps}


def test_what_another_run_has_ended_counts(tmp_path: Path, herd: Herd) -> None:
    radius = {"blast-radius": {"max-percent": "50%"}}
    (tmp_path / "one").mkdir()
    kill = pause(herd, 2, "30s") | {"fault": "kill"}
    first = chaoskit.load(write(tmp_path / "one", kill, **radius))
    over: list[Result] = []
    there = threading.Event()

    def observer(event: Event) -> None:
        if event.kind == "injected":
            there.set()

    def one() -> None:
        over.append(chaoskit.run(first, state=tmp_path / "state", observer=observer))

    thread = threading.Thread(target=one)
    thread.start()
    try:
        assert there.wait(30)
        result = run(write(tmp_path, pause(herd, 1), **radius))
        assert result.verdict is Verdict.REFUSED and "3 of 4 would be hurt" in result.reason
    finally:
        halt.pull(State(tmp_path / "state"), "the test is over")
        thread.join()


def test_stages_end_where_the_blast_radius_does(tmp_path: Path, herd: Herd) -> None:
    file = write(
        tmp_path,
        pause(herd, hold="100ms", stages=[1, 3]),
        **{"blast-radius": {"max-targets": 2}},
    )
    result = run(file)
    assert result.verdict is Verdict.REFUSED and "max-targets is 2" in result.reason


def test_parallel_steps_are_in_together(tmp_path: Path, herd: Herd) -> None:
    most = 0

    def watch() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, herd.stopped())

    over = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    one = {"process": {"cmdline": herd.name, "pid": herd.processes[0].pid}}
    two = {"process": {"cmdline": herd.name, "pid": herd.processes[1].pid}}
    steps = [{"fault": "pause", "target": t, "for": "500ms"} for t in (one, two)]
    try:
        result = run(write(tmp_path, {"parallel": steps}))
    finally:
        over.set()
        thread.join()
    assert result.verdict is Verdict.HELD, result.reason
    assert most == 2 and herd.stopped() == 0


def test_parallel_steps_do_not_change_the_same_thing(tmp_path: Path, herd: Herd) -> None:
    """The first to undo would find what the other has put, and the other nothing of its own."""
    one = {"process": {"cmdline": herd.name, "pid": herd.processes[0].pid}}
    steps = [{"fault": "pause", "target": one, "for": "200ms"} for _ in range(2)]
    result = run(write(tmp_path, {"parallel": steps}))
    assert result.verdict is Verdict.REFUSED and herd.stopped() == 0
    assert "step 1.1 changes the same there at the same time" in result.reason
    result = run(write(tmp_path, *steps))  # One after the other they may.
    assert result.verdict is Verdict.HELD, result.reason


def test_parallel_steps_are_told_in_the_order_of_the_file(tmp_path: Path, herd: Herd) -> None:
    steps = [pause(herd, hold="50ms"), {"wait": "10ms"}, *[{"run": ["true"]}] * 10]
    result = run(write(tmp_path, {"parallel": steps}))
    assert [step.number for step in result.steps] == [f"1.{n}" for n in range(1, 13)]


def test_what_is_one_way_is_never_said_to_be_undone(tmp_path: Path, herd: Herd) -> None:
    kill = {"fault": "kill", "target": {"process": {"cmdline": herd.name}}, "for": "50ms"}
    result = run(write(tmp_path, kill))
    assert result.verdict is Verdict.HELD and result.steps[0].one_way
    assert result.reason.endswith("and all that has a way back undone")
    told = "\n".join(result_lines(result))
    assert "one way: nothing undoes it" in told and "undone in" not in told


def test_an_action_that_was_cut_short_is_not_done(tmp_path: Path) -> None:
    slow = {"run": "sleep 30", "timeout": "1m", "undo": "true"}
    file = write(tmp_path, {"wait": "10ms"}, slow, **{"blast-radius": {"max-duration": "1s"}})
    result = run(file)
    assert result.verdict is Verdict.ABORTED, result.reason
    waited, acted = result.steps
    assert waited.acted is not None and acted.acted is None
    assert acted.undo_took is not None, "its undo is not told"
    assert any("undone (run true)" in text for _, text in result.timeline)
    assert "sleep 30: cut short, undone in" in "\n".join(result_lines(result))


def test_an_abort_interrupts_an_injection(
    tmp_path: Path, herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filler that grows for a minute is given up at once, and its part of a file is removed."""
    from chaoskit.targets import files

    monkeypatch.setattr(files, "PART", 1024 * 1024)
    extend = files._extend

    def slowly(*arguments: Any) -> None:
        time.sleep(0.05)
        extend(*arguments)

    monkeypatch.setattr(files, "_extend", slowly)
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = {"fault": "disk-fill", "target": {"process": {"cmdline": herd.name}},
            "path": str(disk), "size": "1200MiB", "for": "1s"}  # fmt: skip
    file = write(tmp_path, fill)
    state = State(tmp_path / "state")

    def pull() -> None:
        assert until(lambda: bool(list(disk.iterdir())), 20)
        halt.pull(state, "enough")

    thread = threading.Thread(target=pull)
    thread.start()
    began = time.monotonic()
    result = run(file)
    thread.join()
    assert result.verdict is Verdict.ABORTED and "enough" in result.reason
    assert time.monotonic() - began < 30 and list(disk.iterdir()) == []


def test_readings_in_between_put_no_gate_off(tmp_path: Path, herd: Herd) -> None:
    """Each short step has its check read at once; what is due is read all the same."""
    short = [pause(herd, hold="10ms") for _ in range(8)]
    result = run(write(tmp_path, *short, pause(herd, hold="4s")))
    assert result.verdict is Verdict.HELD, result.reason
    began = result.steps[-1].injected
    folder = Path(result.folder)
    samples = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    read = [r["t"] for r in samples if r["kind"] == "sample" and r["phase"] == "during"]
    assert began is not None and len([t for t in read if t > began + 0.5]) >= 2


def test_a_gate_judges_a_hold_shorter_than_its_interval(tmp_path: Path, herd: Herd) -> None:
    gates = [{"check": "there", "every": "1m", "consecutive": 1}]
    result = run(write(tmp_path, pause(herd, hold="100ms"), gates=gates))
    assert result.verdict is Verdict.HELD, result.reason
    assert result.checks[0].during_ok >= 2  # One at the start of the method, one for the hold.


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        ({}, Verdict.INCONCLUSIVE),
        ({"gates": [{"check": "it answers", "every": "1m"}]}, Verdict.HELD),
        ({"gates": []}, Verdict.DEVIATED),
    ],
    ids=["too few to judge", "put up with", "watched only"],
)
def test_what_held_in_no_reading_of_a_short_hold_is_not_held(
    tmp_path: Path, herd: Herd, gates: dict[str, Any], verdict: Verdict
) -> None:
    """The gate wants three failures in a row, and has had no time for them."""
    victim = herd.processes[0]
    check = {
        "name": "it answers",
        "command": {"run": f"grep -q 'State:.[SR]' /proc/{victim.pid}/status"},
        "expect": {"exit": 0},
    }
    step = {"fault": "pause", "target": {"process": {"pid": victim.pid}}, "for": "600ms"}
    more = {"steady-state": [check], "verify": [{"check": "it answers", "within": "10s"}]}
    result = run(write(tmp_path, step, **more, **gates))
    told = {
        Verdict.INCONCLUSIVE: "did not hold in any reading",
        Verdict.HELD: "no gate fired, though",
        Verdict.DEVIATED: "failed while faults were in",
    }[verdict]
    late = verdict is Verdict.INCONCLUSIVE and result.verdict is Verdict.ABORTED
    assert late or (result.verdict is verdict and told in result.reason), result.reason
    assert result.checks[0].after == "ok"


def test_what_is_not_undone_is_judged_by_what_follows(tmp_path: Path, herd: Herd) -> None:
    """A kill's effect does not end with its step: its gate and the verification tell."""
    flag = tmp_path / "flag"
    flag.touch()
    check = {"name": "it serves", "file": {"path": str(flag)}, "expect": {"exists": True}}
    file = write(
        tmp_path,
        {"run": ["rm", str(flag)]},
        {"fault": "kill", "target": {"process": {"cmdline": herd.name}}, "for": "10ms"},
        {"run": ["touch", str(flag)]},
        **{"steady-state": [check], "gates": [{"check": "it serves", "consecutive": 30}],
           "verify": [{"check": "it serves"}]},
    )  # fmt: skip
    result = run(file)
    assert result.verdict is Verdict.HELD and "did not hold" in result.reason, result.reason


def test_a_gate_that_could_not_see_is_not_passed(tmp_path: Path, herd: Herd) -> None:
    """Its probe hangs during the hold: nothing is known, and nothing is claimed."""
    marker = tmp_path / "hang"
    probe = {"name": "slow", "command": {"run": f"test ! -e {marker} || sleep 30",
                                         "timeout": "20s"}, "expect": {"exit": 0}}  # fmt: skip
    steps = ({"run": ["touch", str(marker)]}, {"wait": "100ms"}, pause(herd, hold="300ms"))
    file = write(
        tmp_path, *steps,
        **{"steady-state": [probe], "verify": [{"check": "slow", "within": "10ms"}],
           "gates": [{"check": "slow", "every": "50ms", "consecutive": 1}]},
    )  # fmt: skip
    done: list[Result] = []
    thread = threading.Thread(target=lambda: done.append(run(file)))
    thread.start()
    thread.join(100)
    assert done and done[0].verdict in (Verdict.INCONCLUSIVE, Verdict.ABORTED), done[0].reason
    assert herd.stopped() == 0


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [([], Verdict.DEVIATED), ([{"check": "flag", "every": "20ms"}], Verdict.ABORTED)],
)
def test_a_check_that_fails_is_recorded_or_aborts(
    tmp_path: Path, herd: Herd, gates: list[Any], verdict: Verdict
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    check = {"name": "flag", "file": {"path": str(flag)}, "expect": {"exists": True}}
    file = write(
        tmp_path,
        {"run": ["rm", str(flag)], "undo": ["touch", str(flag)]},
        pause(herd, hold="1500ms"),
        **{"steady-state": [check], "gates": gates, "verify": [{"check": "flag"}]},
    )
    result = run(file)
    assert result.verdict is verdict, result.reason
    assert result.checks[0].during_failed > 0 and result.checks[0].after == "ok"
    assert flag.exists() and herd.stopped() == 0


@pytest.mark.parametrize("gates", [None, []])
def test_what_was_only_unread_in_the_hold_is_not_held(
    tmp_path: Path, herd: Herd, gates: list[Any] | None
) -> None:
    """Three failures in a row are wanted and one reading is had: no data is not good news."""
    blind = tmp_path / "blind"
    run_it = f"test ! -e {blind} || sleep 30"
    check = {"name": "c", "command": {"run": run_it, "timeout": "300ms"}, "expect": {"exit": 0}}
    more = {"steady-state": [check], "verify": [{"check": "c"}]}
    if gates is not None:
        more["gates"] = gates
    blinding = {"run": ["touch", str(blind)], "undo": ["rm", str(blind)]}
    result = run(write(tmp_path, blinding, pause(herd, hold="100ms"), **more))
    assert result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert "never read" in result.reason or "could not be read" in result.reason


def test_a_check_without_a_gate_is_read_in_the_hold(tmp_path: Path, herd: Herd) -> None:
    """However short it is: a reading from before the injection says nothing of it."""
    result = run(write(tmp_path, pause(herd, hold="60ms"), gates=[]))
    assert result.verdict is Verdict.HELD and result.checks[0].during_ok >= 2


def test_nothing_more_is_hurt_beside_what_is_stuck(tmp_path: Path, herd: Herd) -> None:
    own = Herd(1)
    try:
        kill = {"fault": "kill", "target": {"process": {"cmdline": own.name}}, "for": "50ms",
                "restart": "exit 3"}  # fmt: skip
        result = run(write(tmp_path, kill, pause(herd)))
        assert result.verdict is Verdict.STUCK, result.reason
        assert [step.number for step in result.steps] == ["1"]
    finally:
        own.end()


def test_a_later_step_never_hurts_more_than_the_plan_named(tmp_path: Path, herd: Herd) -> None:
    new: list[Herd] = []

    def observer(event: Event) -> None:
        if event.kind == "step" and not new:
            more = Herd.__new__(Herd)
            more.popens = [
                subprocess.Popen(["/bin/sh", "-c", "while :; do read x; done", herd.name],
                                 stdin=subprocess.PIPE)
                for _ in range(2)
            ]  # fmt: skip
            new.append(more)

    try:
        result = run(write(tmp_path, {"wait": "300ms"}, pause(herd, "all")), observer)
        assert result.verdict is Verdict.REFUSED and "the plan named 4" in result.reason
        assert herd.stopped() == 0
    finally:
        new[0].end()


def test_one_of_several_that_is_so_already_is_no_proof(tmp_path: Path, herd: Herd) -> None:
    herd.processes[1].signal(signal.SIGSTOP)
    assert until(lambda: herd.stopped() == 1, 5)
    result = run(write(tmp_path, pause(herd, "all")))
    assert result.verdict in (Verdict.REFUSED, Verdict.INCONCLUSIVE)
    assert "already" in result.reason and herd.stopped() == 1


def test_what_does_not_come_back_is_deviated(tmp_path: Path, herd: Herd) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    check = {"name": "flag", "file": {"path": str(flag)}, "expect": {"exists": True}}
    file = write(
        tmp_path,
        {"run": ["rm", str(flag)]},
        **{"steady-state": [check], "gates": [{"check": "flag", "every": "1m"}],
           "verify": [{"check": "flag", "within": "300ms"}]},
    )  # fmt: skip
    result = run(file)
    assert result.verdict is Verdict.DEVIATED and "did not hold again" in result.reason


def test_an_unhealthy_start_injects_nothing(tmp_path: Path, herd: Herd) -> None:
    check = {"name": "flag", "file": {"path": "/nowhere"}, "expect": {"exists": True}}
    file = write(
        tmp_path,
        pause(herd),
        **{"steady-state": [check], "verify": [{"check": "flag", "within": "10ms"}]},
    )
    result = run(file)
    assert result.verdict is Verdict.REFUSED and "not healthy" in result.reason
    kinds = {record["kind"] for record in State(tmp_path / "state").find().records()}
    assert "change" not in kinds


def test_what_is_so_already_is_refused(tmp_path: Path, herd: Herd) -> None:
    for process in herd.processes:
        process.signal(signal.SIGSTOP)
    assert until(lambda: herd.stopped() == 4, 5)
    result = run(write(tmp_path, pause(herd, "all")))
    assert result.verdict is Verdict.REFUSED and "already" in result.reason
    assert herd.stopped() == 4, "somebody else's stop was undone"


def test_a_failed_action_is_inconclusive_and_ends_the_method(tmp_path: Path, herd: Herd) -> None:
    result = run(write(tmp_path, {"run": "echo no way >&2; exit 3"}, pause(herd)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no way" in result.reason and "exit code 3" in result.reason
    assert len(result.steps) == 1


def test_a_request_whose_answer_breaks_off_has_failed(tmp_path: Path) -> None:
    """It may say in its body what its first line could not know yet."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nbegun")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/drain"
        result = run(write(tmp_path, {"http": {"url": url, "method": "POST"}}))
        serving.join(10)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "broke off within its body" in result.reason


def test_a_shared_folder_tells_whose_run_it_is(
    tmp_path: Path, herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(write(tmp_path, pause(herd)))
    folder = State(tmp_path / "state").find(result.run)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ChaoskitError, match=r"'s: it can be undone by them or by root"):
        recover(folder)


def test_the_library_leaves_nothing_in_its_process(tmp_path: Path, herd: Herd) -> None:
    def files() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    def ours() -> set[str]:
        return {t.name for t in threading.enumerate() if t.name.startswith(("watch", "ears"))}

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run(write(tmp_path, pause(herd)))
    before = files()
    for _ in range(3):
        run(write(tmp_path, pause(herd)))
    assert until(lambda: not ours(), 5) and len(files()) <= len(before)
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
