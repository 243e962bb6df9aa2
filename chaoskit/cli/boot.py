"""Arms a recovery at boot: a systemd unit where systemd runs, a line of crontab where cron is.

A reboot ends most of what a run has in, but not a file it left on a disk, and not what a plug-in
changed somewhere else; and what ended must be told.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from chaoskit.errors import Refused, StateError
from chaoskit.report.stream import printable, say, say_json

UNIT = "chaoskit-recover.service"
MARK = "# chaoskit recover at boot"
_ALIVE = {"initializing", "starting", "running", "degraded", "maintenance"}


def install(state: Path, root: Path, *, json: bool) -> int:
    """Write what makes `chaoskit recover` run at boot for that state folder; the exit code.

    root: where the system's folders begin. Raises Refused where there is neither systemd nor
    cron, or where somebody else's file is in the way; StateError when it cannot be written.
    """
    command = [sys.executable, "-m", "chaoskit", "--state", str(state), "recover"]
    if any(not part.isprintable() for part in command):
        raise Refused(f"a path with unprintable characters cannot be installed: {command!r}")
    system = os.geteuid() == 0
    if _systemd(system):
        path, text, notes = _install_unit(command, system, root)
    elif (listed := _call("crontab", "-l")) is not None:
        path, text, notes = _install_cron(command, listed)
    else:
        raise Refused(
            "neither systemd nor cron is here to run anything at boot; have your own start-up "
            f"run: {shlex.join(command)}"
        )
    if json:
        say_json(
            {
                "schema": 1,
                "kind": "install",
                "exit": 0,
                "where": path,
                "wrote": text,
                "notes": notes,
            }
        )
    else:
        say([f"wrote {printable(path)}:", *(f"  {printable(line)}" for line in text.splitlines())])
        say(notes)
    return 0


def _call(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str] | None:
    """Run it; None when there is no such program."""
    try:
        return subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=30,
            check=False,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StateError(f"{command[0]} does not answer: {error}") from error


def _systemctl(system: bool, *words: str) -> subprocess.CompletedProcess[str] | None:
    return _call("systemctl", *(() if system else ("--user",)), *words)


def _systemd(system: bool) -> bool:
    """Whether a systemd that would start our unit is running, not merely installed."""
    answer = _systemctl(system, "is-system-running")
    return answer is not None and answer.stdout.strip() in _ALIVE


def _install_unit(command: list[str], system: bool, root: Path) -> tuple[str, str, list[str]]:
    if system:
        folder, wanted_by = root / "etc/systemd/system", "multi-user.target"
    else:
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        folder, wanted_by = Path(config) / "systemd/user", "default.target"
    path = folder / UNIT
    # The dash: one state folder that fails must not keep the next one from being recovered.
    start = "ExecStart=-" + " ".join(_quoted(part) for part in command)
    try:
        starts = [*_earlier(path, start), start]
        text = "\n".join(
            [
                MARK,
                "[Unit]",
                "Description=Undo what chaoskit runs left behind",
                "After=local-fs.target",
                "",
                "[Service]",
                "Type=oneshot",
                *starts,
                "",
                "[Install]",
                f"WantedBy={wanted_by}",
                "",
            ]
        )
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
    for words in (("daemon-reload",), ("enable", UNIT)):
        answer = _systemctl(system, *words)
        if answer is None or answer.returncode:
            told = answer.stderr.strip() if answer else "no systemctl"
            raise StateError(f"{path} is written, but `systemctl {' '.join(words)}` failed: {told}")
    notes = [f"it is enabled; undo that by: systemctl {'' if system else '--user '}disable {UNIT}"]
    if not system:
        notes.append(
            "user units start when you log in; for the boot itself: loginctl enable-linger"
        )
    return str(path), text, notes


def _earlier(path: Path, start: str) -> list[str]:
    """What the unit recovers already. Raises Refused when the file is not ours."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines()
    if lines[:1] != [MARK]:
        raise Refused(f"{path} is there already and is not chaoskit's; it was left as it is")
    return [line for line in lines if line.startswith("ExecStart=") and line != start]


def _quoted(word: str) -> str:
    """As systemd reads it: its own quotes, and no specifiers or variables."""
    for special, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, written)
    return f'"{word}"'


def _install_cron(
    command: list[str], listed: subprocess.CompletedProcess[str]
) -> tuple[str, str, list[str]]:
    # Without a crontab `crontab -l` fails and says so; any other failure means that we do not
    # know what is in it, and must not write over that.
    if listed.returncode and "no crontab" not in listed.stderr.lower():
        raise StateError(f"the crontab cannot be read: {listed.stderr.strip()}")
    line = f"@reboot {shlex.join(command)} {MARK}".replace("%", r"\%")
    kept = listed.stdout if listed.returncode == 0 else ""
    if line not in kept.splitlines():
        if kept and not kept.endswith("\n"):
            kept += "\n"
        answer = _call("crontab", "-", text=f"{kept}{line}\n")
        if answer is None or answer.returncode:
            told = answer.stderr.strip() if answer else "no crontab"
            raise StateError(f"the crontab cannot be written: {told}")
        after = _call("crontab", "-l")
        if after is None or line not in after.stdout.splitlines():
            raise StateError("the crontab did not take the line")
    return "your crontab", line, ["it takes effect if a cron daemon starts at boot"]
