"""The rules of the house: layers, types, style, and files of one idea each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("command", [
    ["lint-imports", "--no-cache"],
    ["mypy"],
    ["ruff", "check", "--no-cache", "chaoskit", "tests", "bench"],
    ["ruff", "format", "--check", "--no-cache", "chaoskit", "tests", "bench"],
], ids=lambda words: "-".join(words[:2]))  # fmt: skip
def test_the_tools_have_nothing_to_say(command: list[str]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=TOP, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_is_told_without_importing_anything_else() -> None:
    code = (
        "import sys; sys.argv = ['chaoskit', '--version']\n"
        "from chaoskit.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('chaoskit.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "'chaoskit.engine'" not in done.stdout and "'chaoskit.spec'" not in done.stdout


@pytest.mark.parametrize("path", sorted((TOP / "chaoskit").rglob("*.py")), ids=lambda p: p.name)
def test_every_module_says_why_it_exists_and_has_one_idea(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or text.startswith('"""'), "no docstring"
    assert len(text.splitlines()) <= 420
