"""Takes a test's dockerd away with all that belongs to it, whatever became of the test.

    python keeper.py FOLDER CGROUP NETWORK... < the read end of a pipe

A process of its own: it waits for the end of that pipe, which comes when the test closes it and
when the test is killed. It asks the daemon nothing, which may be dead or stopped. What it finds is
told by the folder (in command lines and mounts), the cgroup and the networks' ranges, all of which
are this daemon's alone. It prints what it could not take away.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PATIENCE = 20.0


def main() -> None:
    folder, cgroup, *networks = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    for line in clear(folder, cgroup, networks):
        print(line)


def clear(folder: str, cgroup: str, networks: Iterable[str]) -> list[str]:
    """Take all of it away; what is left in spite of that."""
    end = time.monotonic() + PATIENCE
    while True:
        _kill(processes(folder, cgroup))
        for link in links(networks):
            _quietly("ip", "link", "delete", link)
        for mount in mounts(folder):
            _quietly("umount", "--lazy", mount)
        for path in cgroups(cgroup):
            with contextlib.suppress(OSError):
                path.rmdir()
        shutil.rmtree(folder, ignore_errors=True)
        left = leftovers(folder, cgroup, networks)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def leftovers(folder: str, cgroup: str, networks: Iterable[str]) -> list[str]:
    """All that is there of a daemon, one line for each."""
    return [
        *(f"process {pid} {words}" for pid, words in processes(folder, cgroup).items()),
        *(f"link {link}" for link in links(networks)),
        *(f"mount {mount}" for mount in mounts(folder)),
        *(f"cgroup {path}" for path in cgroups(cgroup)),
        *([f"folder {folder}"] if os.path.lexists(folder) else []),
    ]


def processes(folder: str, cgroup: str) -> dict[int, str]:
    """dockerd, containerd and the shims name the folder; all else is in a container's cgroup."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            own = Path(os.fsdecode(words[0])).name in _DAEMONS and any(
                os.fsencode(folder + "/") in word for word in words[1:]
            )
            inside = f":{cgroup}/" in (entry / "cgroup").read_text()
            if (own or inside) and " Z " not in (entry / "stat").read_text():
                found[int(entry.name)] = os.fsdecode(b" ".join(words)).strip()
    return found


_DAEMONS = {"dockerd", "containerd", "containerd-shim-runc-v2", "containerd-shim", "runc"}


def links(networks: Iterable[str]) -> list[str]:
    """Bridges whose address is in one of the ranges, and what hangs on them."""
    ranges = [ipaddress.ip_network(network) for network in networks]
    done = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True)
    every = json.loads(done.stdout or "[]")
    bridges = [link["ifname"] for link in every if any(_in(link, one) for one in ranges)]
    hanging = [link["ifname"] for link in every if link.get("master") in bridges]
    return hanging + bridges


def _in(link: dict[str, list[dict[str, str]]], network: ipaddress.IPv4Network) -> bool:
    addresses = [ipaddress.ip_address(one["local"]) for one in link.get("addr_info", [])]
    return any(address in network for address in addresses)


def mounts(folder: str) -> list[str]:
    """The innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if point.startswith(folder + "/")]


def cgroups(cgroup: str) -> list[Path]:
    """In every hierarchy of version 1, or in the one of version 2; the innermost first."""
    roots = [path for path in (CGROUPS, *CGROUPS.glob("*/")) if (path / "cgroup.procs").exists()]
    tops = {(root / cgroup.lstrip("/")).resolve() for root in roots}
    # Unlike others, os.walk bears that what it walks through vanishes.
    walks = [os.walk(top, topdown=False) for top in sorted(tops)]
    return [Path(folder) for walk in walks for folder, _, _ in walk]


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            _thaw(pid)


def _thaw(pid: int) -> None:
    """A frozen process does not die before it is let go."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "freezer":
            (CGROUPS / "freezer" / path.lstrip("/") / "freezer.state").write_text("THAWED")
        elif not kinds and (file := CGROUPS / path.lstrip("/") / "cgroup.freeze").exists():
            file.write_text("0")


def _quietly(*command: str) -> None:
    subprocess.run(command, capture_output=True)


if __name__ == "__main__":
    main()
