"""What came of a fault that others answer: told of each target, once, and from its own end on."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent import write

import chaoskit
from chaoskit.clock import until
from chaoskit.model.result import Event, Result
from chaoskit.model.verdict import Verdict
from chaoskit.procfs import Process

POLITE, STUBBORN = "trap 'exit 0' TERM", "trap '' TERM"


class Crew:
    """Workers of one name, and whoever starts new ones."""

    def __init__(self) -> None:
        self.name = f"crew-{uuid.uuid4().hex[:12]}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hire(self, trap: str = ":") -> subprocess.Popen[bytes]:
        words = ["/bin/sh", "-c", f"{trap}; echo; while :; do read x; done", self.name]
        made = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.workers.append(made)
        assert made.stdout is not None and made.stdout.readline() == b"\n"
        return made

    def missing(self) -> int:
        return sum(worker.poll() is not None for worker in list(self.workers))

    def supervise(self, several: int) -> None:
        """So many are replaced as soon as so many are missing."""

        def watch() -> None:
            if until(lambda: self.missing() >= several or self._over.is_set(), 60):
                for _ in range(0 if self._over.is_set() else several):
                    self.hire()

        self._thread = threading.Thread(target=watch)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    yield made
    made.end()


def run(
    folder: Path, crew: Crew, told: list[str], more: dict[str, Any] | None = None, **step: Any
) -> Result:
    target: dict[str, Any] = {"process": {"cmdline": crew.name}}
    if "stages" not in step:
        target["pick"] = "all"
    path = write(folder, {"fault": "kill", "target": target} | step, **more or {})

    def observer(event: Event) -> None:
        if event.kind == "outcome":
            told.append(event.text)

    return chaoskit.run(chaoskit.load(path), state=folder / "state", observer=observer)


def test_the_time_of_each_begins_when_it_ended(tmp_path: Path, crew: Crew) -> None:
    """One obeys at once and the other is killed after its grace; both are replaced then."""
    crew.hire(POLITE)
    crew.hire(STUBBORN)
    crew.supervise(2)
    told: list[str] = []
    how: dict[str, Any] = {"signal": "TERM", "grace": "10s", "replaced-within": "5s", "for": "8s"}
    result = run(tmp_path, crew, told, **how)
    assert result.verdict is Verdict.DEVIATED, result.reason
    assert len(told) == 2 and sum("later than 5s" in one for one in told) == 1, told


def test_each_is_told_once_whatever_the_stages(tmp_path: Path, crew: Crew) -> None:
    workers = [crew.hire() for _ in range(4)]
    crew.supervise(1)  # The second one is not replaced, so it is missed.
    told: list[str] = []
    result = run(tmp_path, crew, told, stages=[1, 2], **{"for": "2s"})
    assert result.verdict is Verdict.HELD, result.reason
    assert crew.missing() == 2, "two in all, whoever is there by now"
    for worker in workers:
        of_it = [one for one in told if f"process {worker.pid} " in one.partition(": ")[0]]
        assert len(of_it) == (worker.poll() is not None), told


@pytest.mark.parametrize(("stages", "dead"), [([1, 3], 3), (["25%", "50%"], 2), ([1, "100%"], 4)])
def test_stages_of_those_that_end_are_of_the_whole(
    tmp_path: Path, crew: Crew, stages: list[Any], dead: int
) -> None:
    for _ in range(4):
        crew.hire()
    result = run(tmp_path, crew, [], stages=stages, **{"for": "300ms"})
    assert result.verdict is Verdict.HELD, result.reason
    assert crew.missing() == dead


def test_a_stage_that_cannot_be_is_no_reason_to_forget_the_one_before(
    tmp_path: Path, crew: Crew
) -> None:
    workers = [crew.hire() for _ in range(3)]

    def another_dies() -> None:
        if until(crew.missing, 60):
            next(worker for worker in workers if worker.poll() is None).kill()

    thread = threading.Thread(target=another_dies)
    thread.start()
    told: list[str] = []
    radius = {"blast-radius": {"min-healthy": 1}}
    how = {"for": "3s", "replaced-within": "500ms"}
    result = run(tmp_path, crew, told, radius, stages=[1, 2], **how)
    thread.join()
    assert result.verdict is Verdict.DEVIATED, result.reason
    assert ["nobody took its place" in one for one in told] == [True]
    assert crew.missing() == 2, "the last one is nobody's to kill"


def test_one_that_is_not_proven_is_not_missed(tmp_path: Path, crew: Crew) -> None:
    """It has not even ended, so nobody has to take its place."""
    worker = crew.hire(STUBBORN)
    told: list[str] = []
    result = run(tmp_path, crew, told, signal="TERM", **{"for": "1s", "replaced-within": "500ms"})
    assert result.verdict is Verdict.INCONCLUSIVE and told == [], (result.reason, told)
    assert Process.at(worker.pid).alive()
