"""Faults on containers: pausing many beside the bare SDK, planning over many, and letting go.

    containers.py [CONTAINERS [KILLS [FAULT...]]]     with no CONTAINERS (0) only how it lets go

It starts a dockerd of its own. Pumba cannot be had where only package registries are, so its place
is taken by the steps that its documentation describes, done with the docker command line.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import CHAOSKIT, ENVIRONMENT, median, quiet, table, wait_for, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "docker"))
import daemons

POOL = 16
"""As many as chaoskit works on at once."""
WITHIN = 2.0
"""Seconds after the runner's death in which everything must be as it was; a daemon takes a good
part of one to start a container."""
PLANNED = 500


def experiment(folder: Path, daemon: daemons.Daemon, step: Mapping[str, Any], hold: str) -> Path:
    fault = {"target": {"docker": {"label": "bench", "host": daemon.url}}, "for": hold} | step
    return write(folder / "experiment.json", {
        "chaoskit": 1,
        "title": "bench",
        "steady-state": [
            {"name": "there", "file": {"path": "/proc/self/stat"}, "expect": {"exists": True}}
        ],
        "method": [fault],
        "gates": [],
        "verify": [{"check": "there", "within": "10ms"}],
    })  # fmt: skip


def run(folder: Path, file: Path, command: str = "run") -> list[str]:
    return [CHAOSKIT, "--state", str(folder / "state"), command, str(file), "--json"]


@contextlib.contextmanager
def containers(daemon: daemons.Daemon, count: int) -> Iterator[list[Any]]:
    with ThreadPoolExecutor(POOL) as pool:
        made = list(pool.map(lambda _: daemon.run(labels=["bench"]), range(count)))
    try:
        yield made
    finally:
        with ThreadPoolExecutor(POOL) as pool:
            list(pool.map(lambda one: one.remove(force=True), made))


def pausing(daemon: daemons.Daemon, count: int, rounds: int = 3) -> None:
    """Pausing and resuming all of them in one step: between the first pause and the last proof, and
    between the first resume and the last look, beside the bare calls in a pool of the same size."""
    import chaoskit

    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with containers(daemon, count) as made, tempfile.TemporaryDirectory() as name:
        step = {"fault": "pause", "target": {"docker": {"label": "bench", "host": daemon.url},
                                             "pick": "all"}}  # fmt: skip
        loaded = chaoskit.load(experiment(Path(name), daemon, step, "500ms"))
        api = daemon.client.api
        for _ in range(rounds):
            with ThreadPoolExecutor(POOL) as pool:
                times = []
                for call in (api.pause, api.unpause):
                    began = time.monotonic()
                    list(pool.map(lambda one, call=call: call(one.id), made))
                    times.append(time.monotonic() - began)
            bare.append((times[0], times[1]))
            at: dict[str, float] = {}
            result = chaoskit.run(
                loaded,
                state=Path(name) / "state",
                observer=lambda event, at=at: at.setdefault(event.kind, event.at),
            )
            assert result.verdict and result.verdict.value == "held", result.reason
            released = next(s.undo_took for s in result.steps)
            ours.append((at["injected"] - at["step"], released or 0.0))
    rows = []
    for index, what in enumerate(("pause", "resume")):
        mine, theirs = (median([pair[index] for pair in of]) for of in (ours, bare))
        rows.append((f"{what} {count}", f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}"))
    mine, theirs = (median([sum(pair) for pair in of]) for of in (ours, bare))
    rows.append(("both", f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f} (at most 1.3)"))
    table(
        f"{count} containers in one step, journaled, proven and verified, beside bare SDK calls",
        ("what", "chaoskit s", "bare SDK s", "ratio"),
        rows,
    )


def planning(daemon: daemons.Daemon, count: int) -> None:
    """A plan over many, beside one bare list."""
    with containers(daemon, count), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = experiment(folder, daemon, {"fault": "pause"}, "1s")
        plan, bare = [], []
        for _ in range(3):
            began = time.monotonic()
            subprocess.run(run(folder, file, "plan"), stdout=subprocess.DEVNULL, check=True)
            plan.append(time.monotonic() - began)
            began = time.monotonic()
            assert len(daemon.client.api.containers(all=True)) == count
            bare.append(time.monotonic() - began)
    table(
        f"planning over {count} containers",
        ("what", "s"),
        [("chaoskit plan, its start included", f"{median(plan):.2f}"),
         ("one bare list", f"{median(bare):.2f}")],
    )  # fmt: skip


FAULTS: Mapping[str, tuple[dict[str, Any], list[str]]] = {
    "pause": ({"fault": "pause"}, ["pause {id}"]),
    "kill": ({"fault": "kill"}, ["kill {id}"]),
    "limit": ({"fault": "limit", "cpu": 0.5, "pids": 50}, ["update --pids-limit 50 {id}"]),
    "drop-network": ({"fault": "drop-network"}, ["network disconnect {net} {id}"]),
    "disk-fill": (
        {"fault": "disk-fill", "path": "/", "size": "20MiB"},
        ["exec {id} dd if=/dev/zero of=/filler bs=1M count=20"],
    ),
}
"""Of each fault: the step, and what a person with Pumba's documentation does by hand."""


def letting_go(daemon: daemons.Daemon, kills: int, faults: Sequence[str]) -> None:
    """SIGKILL at a random moment of a run, then a look at the container from outside."""
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        net = daemon.network()
        for fault in faults:
            step, by_hand = FAULTS[fault]
            with _one(daemon, net.name) as container:
                before = _seen(container)
                good = hit = 0
                for _ in range(kills):
                    restored, while_in = _killed(folder, daemon, step, container, before)
                    good += restored
                    hit += while_in
            rows.append((fault, "chaoskit", f"{good}/{kills}", f"{hit}"))
            few, back = 5, 0
            for _ in range(few):
                with _one(daemon, net.name) as container:  # The one before was not put back.
                    back += _by_hand(daemon, by_hand, container, net.name)
            rows.append((fault, "by hand", f"{back}/{few}", f"{few}"))
    table(
        f"as it was {WITHIN:g} s after the SIGKILL of whoever did it, at a random moment",
        ("fault", "who", "restored", "killed while it was in"),
        rows,
    )


@contextlib.contextmanager
def _one(daemon: daemons.Daemon, net: str) -> Iterator[Any]:
    container = daemon.run(labels=["bench"], network=net)
    try:
        yield container
    finally:
        container.remove(force=True)


def _seen(container: Any) -> Any:
    """From outside: its state, its limits, its rules, its files and its networks."""
    container.reload()
    state = container.attrs["State"]
    pid = state["Pid"]
    if not pid:
        return state["Status"]
    groups = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        for file in ("cpu.cfs_quota_us", "pids.max"):
            with contextlib.suppress(OSError):
                groups[file] = Path(f"/sys/fs/cgroup/{kinds}{path}/{file}").read_text()
    rules = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "nft", "list", "tables"], capture_output=True, text=True
    ).stdout
    files = sorted(p.name for p in Path(f"/proc/{pid}/root").glob("*filler*"))
    files += sorted(p.name for p in Path(f"/proc/{pid}/root").glob(".chaoskit*"))
    networks = sorted(container.attrs["NetworkSettings"]["Networks"])
    ours = [line for line in rules.splitlines() if "chaoskit" in line]
    return state["Status"], groups, ours, files, networks


def _killed(
    folder: Path, daemon: daemons.Daemon, step: Mapping[str, Any], container: Any, before: Any
) -> tuple[bool, bool]:
    runner = quiet(run(folder, experiment(folder, daemon, step, "400ms")), folder)
    time.sleep(random.uniform(0.1, 1.6))
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    while_in = _safely(container) != before
    time.sleep(WITHIN)
    restored = wait_for(lambda: _safely(container) == before, 0.2, 0.05) is not None
    if not restored:
        subprocess.run(
            [CHAOSKIT, "--state", str(folder / "state"), "recover"],
            stdout=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
    return restored, while_in


def _safely(container: Any) -> Any:
    look: Callable[[], Any] = lambda: _seen(container)  # noqa: E731
    for _ in range(3):
        with contextlib.suppress(OSError):
            return look()
    return None


def _by_hand(daemon: daemons.Daemon, steps: list[str], container: Any, net: str) -> bool:
    """Whoever does it by hand dies before the way back: is anything put back?"""
    before = _seen(container)
    for step in steps:
        words = step.format(id=container.id, net=net).split()
        subprocess.run(["docker", "-H", daemon.url, *words], capture_output=True, check=True)
    time.sleep(WITHIN)
    return bool(_seen(container) == before)


def main(count: int, kills: int, faults: Sequence[str]) -> None:
    with daemons.running() as daemon:
        if count:
            pausing(daemon, count)
            planning(daemon, PLANNED)
        letting_go(daemon, kills, faults)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 100,
        int(sys.argv[2]) if len(sys.argv) > 2 else 100,
        sys.argv[3:] or list(FAULTS),
    )
