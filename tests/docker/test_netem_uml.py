"""The faults that need netem, in a kernel that has it: user-mode Linux, booted for this test.

Each scenario (see netem/inside.py) is run there on a network namespace of its own, whose root
qdiscs are compared before and after.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "netem"
sys.path.append(str(HERE))

import uml  # noqa: E402


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("group", "count"), [("packets", 9), ("engine", 5)])
def test_packets_are_disturbed_and_everything_is_put_back(
    tmp_path: Path, group: str, count: int
) -> None:
    if reason := uml.missing():
        pytest.skip(reason)
    command = [sys.executable, str(HERE / "inside.py"), str(tmp_path), group]
    said = uml.run(tmp_path, command, within=150.0)
    told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {one["scenario"]: one["told"] for one in told if one["told"] != "passed"} == {}
    assert len(told) == count
