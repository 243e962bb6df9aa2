"""Images out of local files: nothing is pulled."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

BUSYBOX = "chaoskit-busybox:test"
"""A shell and its tools; a container of it lives until it is stopped."""

SCRATCH = "chaoskit-scratch:test"
"""/sleep, a static binary, and nothing else: no shell, no /etc, no libraries."""

FAKETIME = "chaoskit-faketime:test"
"""A shell whose clock libfaketime tells, in all programs."""

LIVE = ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1d & wait"]
"""Pid 1 minds no signal that it has no handler for, so `docker stop` would take ten seconds."""


def busybox() -> str | None:
    """Where the static one is, if it is there."""
    found = shutil.which("busybox")
    if found is None:
        return None
    with open(found, "rb") as file:
        # The loader that a dynamic one asks for is named right behind the headers.
        return None if b"/ld-" in file.read(4096) else found


@cache
def busybox_tar() -> bytes:
    binary = busybox()
    assert binary
    tools = subprocess.run([binary, "--list"], capture_output=True, text=True).stdout.split()
    links = {f"bin/{tool}": "/bin/busybox" for tool in tools if tool != "busybox"}
    files = {
        "bin/busybox": Path(binary).read_bytes(),
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    }
    return tar(files, links, ("tmp", "root", "data"))


@cache
def scratch_tar() -> bytes:
    binary = busybox()
    assert binary
    return tar({"sleep": Path(binary).read_bytes()})


def faketime() -> str | None:
    """Where libfaketime is, if it is there; Debian's package has it in a folder of its own."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found and shutil.which("bash") else None


@cache
def faketime_tar() -> bytes:
    """bash tells the time by itself (`printf %(%s)T`), and goes on telling it in one process."""
    library = faketime()
    assert library
    programs = {"bin/bash": "/bin/bash", "bin/date": shutil.which("date") or "/bin/date",
                "bin/sleep": shutil.which("sleep") or "/bin/sleep",
                "lib/libfaketime.so.1": library}  # fmt: skip
    files = {name: Path(place).read_bytes() for name, place in programs.items()}
    for place in programs.values():
        told = subprocess.run(["ldd", place], capture_output=True, text=True, check=True).stdout
        for path in (word for word in told.split() if word.startswith("/")):
            files[path.lstrip("/")] = Path(path).read_bytes()
    return tar(files, {}, ("tmp", "data"))


FAKED = {"LD_PRELOAD": "/lib/libfaketime.so.1", "FAKETIME_TIMESTAMP_FILE": "/data/rc",
         "FAKETIME_NO_CACHE": "1"}  # fmt: skip
"""The environment that a container of that image takes."""

FAKED_LIVE = ["/bin/bash", *LIVE[1:]]


def changes(command: Sequence[str], **others: str) -> list[str]:
    """Lines of a Dockerfile as `docker import --change` takes them: CMD, and KEY=value."""
    words = ", ".join(f'"{word}"' for word in command)
    return [f"CMD [{words}]", *(f"{key} {value}" for key, value in others.items())]


def tar(
    files: Mapping[str, bytes], links: Mapping[str, str] | None = None, folders: Sequence[str] = ()
) -> bytes:
    """All files may be executed by everybody: whoever makes an image this small does not mind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, to in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return out.getvalue()


def tree_tar(folder: Path) -> bytes:
    """A folder's content as root's, links as links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in sorted(os.listdir(folder)):
            archive.add(folder / name, arcname=name, filter=_roots)
    return out.getvalue()


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
