"""All that a fault could leave behind, over the whole host: compared before and after.

    before = hosts.snapshot(daemon)
    ...
    assert hosts.changes(before, hosts.snapshot(daemon), run=result["run"]) == []

Other tests have daemons and runs on the same machine at the same time. So of links, qdiscs and
cgroups only those of this daemon are looked at; of what carries a run's mark (processes, nft tables
of the host, files in shared folders) only what is that run's counts as a change.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import keeper
from daemons import Daemon

MARK = re.compile(r"chaoskit[-_](\d{8}[-_]\d{6}[-_][0-9a-f]{6})")
"""What every run marks its things with; in the name of a table there is no hyphen."""

SHARED = (Path("/tmp"), Path("/run"), Path("/dev/shm"), Path("/var/tmp"))
LIMITS = re.compile(
    r"(cpu\.(cfs_\w+|shares|max|weight)|memory\.(limit_in_bytes|memsw\.limit_in_bytes|max|high"
    r"|low|swap\.max)|pids\.max|blkio\.throttle\.\w+_device|io\.max|cpuset\.(cpus|mems)"
    r"|freezer\.state|cgroup\.freeze)"
)

Snapshot = dict[str, list[str]]
"""What was looked at -> its lines."""


def snapshot(daemon: Daemon) -> Snapshot:
    """The host and every running container as they are."""
    found = {
        "processes": _processes(),
        "tables of the host": tables(),
        "files": _files(daemon),
        "networks": sorted(one["Name"] for one in daemon.client.api.networks()),
        "volumes": sorted(one.name for one in daemon.client.volumes.list()),
        "links": keeper.links(daemon.ranges.all),
        "qdiscs of the host": _qdiscs(set(keeper.links(daemon.ranges.all))),
        "mounts": sorted(keeper.mounts(str(daemon.folder))),
        "cgroups": _cgroups(daemon),
    }
    for one in daemon.client.api.containers():
        name, about = one["Names"][0].lstrip("/"), daemon.client.api.inspect_container(one["Id"])
        found |= {f"{what} of {name}": lines for what, lines in container(about).items()}
    return found


def container(about: dict[str, object]) -> Snapshot:
    """The limits, network and addresses of a container. about: as `inspect` tells it."""
    state, settings = about["State"], about["NetworkSettings"]
    assert isinstance(state, dict) and isinstance(settings, dict)
    pid = state["Pid"]
    return {
        "state": [f"{key}: {state[key]}" for key in ("Status", "StartedAt", "Pid")],
        "limits": limits(pid),
        "networks": [
            f"{name}: {one['IPAddress']} {one['GlobalIPv6Address']} {one['MacAddress']} "
            f"aliases {_aliases(one)} links {one['Links']}"
            for name, one in sorted(settings["Networks"].items())
        ],
        "resolver": Path(str(about["ResolvConfPath"])).read_text().splitlines()
        if about["ResolvConfPath"]
        else [],
        **network(pid),
    }


def _aliases(told: dict[str, Any]) -> list[str]:
    """Without those that the daemon gives itself, which are of ids."""
    return sorted(one for one in told["Aliases"] or [] if not re.fullmatch("[0-9a-f]{12}", one))


def network(pid: int) -> Snapshot:
    """The network namespace that a process is in."""
    script = "".join(f"echo '= {what}'; {command} 2>&1;" for what, command in _NETWORK.items())
    found: Snapshot = {}
    for line in _said("nsenter", "-t", str(pid), "-n", "sh", "-c", script):
        if line.startswith("= "):
            found[line[2:]] = []
        else:
            [*found.values()][-1].append(line)
    return found


_NETWORK = {
    "links": "ip -o link",
    "addresses": "ip -o address | sed 's/ tentative//'",
    "routes": "ip route show table all",
    "qdiscs": "tc qdisc",
    "classes": "for i in $(ip -o link | cut -d: -f2 | cut -d@ -f1); do tc class show dev $i; done",
    "rules": "nft --stateless list ruleset",
}
"""Shown by one shell: it is looked at again and again."""


def limits(pid: int) -> list[str]:
    """The files of its cgroups that hold a limit, and what is in them."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        root = keeper.CGROUPS / kinds.removeprefix("name=")
        for file in sorted((root / path.lstrip("/")).glob("*")):
            if LIMITS.fullmatch(file.name):
                with contextlib.suppress(OSError):
                    found.append(f"{kinds} {file.name}: {file.read_text().strip()}")
    return found


def changes(before: Snapshot, after: Snapshot, run: str | None = None) -> list[str]:
    """What is not as it was: `- line` was there, `+ line` is there. run: its id; without one,
    what any run on this machine has come to have counts."""
    return [
        f"{what}: {line[0]} {line[2:]}"
        for what in sorted(before.keys() | after.keys())
        for line in difflib.ndiff(before.get(what, []), after.get(what, []))
        if line[0] in "+-" and not _of_another(line, run)
    ]


def _of_another(line: str, run: str | None) -> bool:
    found = {one.replace("_", "-") for one in MARK.findall(line)}
    return run is not None and bool(found) and run not in found


def _cgroups(daemon: Daemon) -> list[str]:
    """By the containers' names: one that is made again has another id."""
    names = {
        one["Id"]: one["Names"][0].lstrip("/") for one in daemon.client.api.containers(all=True)
    }
    paths = [path.parts for path in keeper.cgroups(daemon.cgroup)]
    return sorted("/".join(names.get(part, part) for part in parts) for parts in paths)


def _processes() -> list[str]:
    """All that carry a mark in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = os.fsdecode((entry / "cmdline").read_bytes()).replace("\0", " ").strip()
            if MARK.search(words):
                found.append(f"{entry.name} {words}")
    return sorted(found)


def tables() -> list[str]:
    return sorted(line for line in _said("nft", "list", "tables") if MARK.search(line))


def _files(daemon: Daemon) -> list[str]:
    """Whatever has a mark in its name: within the daemon at any depth, elsewhere near the top."""
    found = [path for path in _walk(daemon.folder / "data", 99) if MARK.search(path.name)]
    found += [path for top in SHARED for path in _walk(top, 1) if MARK.search(path.name)]
    return sorted(map(str, found))


def _walk(top: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(top) as entries:
        for entry in entries:
            found.append(Path(entry.path))
            # What is merged is seen in its layers already.
            if depth > 1 and entry.is_dir(follow_symlinks=False) and entry.name != "merged":
                found += _walk(Path(entry.path), depth - 1)
    return found


def _qdiscs(names: set[str]) -> list[str]:
    every = json.loads("\n".join(_said("tc", "-json", "qdisc")) or "[]")
    return sorted(
        f"{one['dev']}: {one['kind']} {one['handle']}" for one in every if one["dev"] in names
    )


def _said(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return (done.stdout if done.returncode == 0 else done.stdout + done.stderr).splitlines()
