"""What a person reads who got a link wrong says what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from echoes import free_port
from runs import chaoskit, experiment


def told_by(command: str, folder: Path, link: dict[str, str]) -> tuple[int, str]:
    step = {"fault": "latency", "delay": "10ms", "for": "1s", "target": {"proxy": link}}
    done = chaoskit(command, experiment(folder, step), state=folder / "state")
    return done.returncode, done.stdout + done.stderr


def test_a_server_that_is_not_there_can_be_started(tmp_path: Path) -> None:
    port = free_port()
    code, told = told_by("plan", tmp_path, {"name": "pages", "url": f"http://127.0.0.1:{port}"})
    assert code == 3
    assert f"start one by `chaoskit proxy --listen 127.0.0.1:{port}`" in told
    # Nothing of the plan speaks of another plan.
    assert "the plan says" not in told


def test_a_link_to_itself_is_an_error_in_the_file(tmp_path: Path) -> None:
    here = "127.0.0.1:28001"
    code, told = told_by("check", tmp_path, {"listen": here, "upstream": here})
    assert code == 2
    assert "a link that leads to where it listens would go round and round" in told


def test_a_run_tells_that_nobody_is_at_the_other_end(tmp_path: Path) -> None:
    listen, upstream = (f"127.0.0.1:{free_port()}" for _ in range(2))
    _, told = told_by("run", tmp_path, {"listen": listen, "upstream": upstream})
    assert f"nobody answers at {upstream} now: connection refused" in told


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"listen": "127.0.0.1:28001"}, "the key 'upstream' is missing: a proxy for the run needs"),
        ({"listen": "a:1", "upstream": "b:1", "name": "x"}, "has listen and upstream, and no name"),
        ({"listen": "a:1", "upstream": "http://b:1"}, "expected host:port, found 'http://b:1'"),
        ({"lisen": "a:1", "upstream": "b:1"}, "unknown key 'lisen' (did you mean 'listen'?)"),
    ],
)
def test_a_wrong_file_is_told_at_its_place(tmp_path: Path, link: dict[str, str], told: str) -> None:
    code, said = told_by("check", tmp_path, link)
    assert code == 2
    assert told in said
