"""Makes the market's three images out of what is installed on this machine; nothing is pulled.

    python3 build.py          with docker on the path, and DOCKER_HOST if it is not the local one

Each image is the programs that it needs, the libraries that those load, and a few files of ours. It
takes Python 3.11 or newer (this one), Debian's redis-server and its postgresql.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PASSWD = b"root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/data:/bin/sh\n"
UNUSED = {"test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "pydoc_data",
          "site-packages", "dist-packages"}  # fmt: skip
"""Parts of Python's library that nothing here imports."""


class Image:
    """A tar that `docker import` takes. Files are where they are on this machine."""

    def __init__(self) -> None:
        self._data = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._data, mode="w")
        self._has: set[str] = set()
        # Where /bin, /lib and their like are links into /usr, they are in the image too.
        for top in (Path("/bin"), Path("/sbin"), *Path("/").glob("lib*")):
            if top.is_symlink():
                self.link(str(top), os.readlink(top))
        self.folder("/tmp", 0o1777)
        self.file("/etc/passwd", PASSWD)
        self.file("/etc/group", b"root:x:0:\npostgres:x:70:\n")
        self.file("/etc/nsswitch.conf", b"hosts: files dns\n")

    def program(self, path: str | Path) -> None:
        """An executable or a library, with all the libraries that it loads."""
        self.copy(Path(path))
        told = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", told):
            self.copy(Path(library))

    def tree(self, top: Path, without: Iterable[str] = ()) -> None:
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(set(folders) - set(without))
            for name in sorted(files):
                self.copy(Path(folder) / name)

    def copy(self, path: Path) -> None:
        """A file of this machine; of a link, also what it leads to."""
        real = path.resolve()
        place = path.parent.resolve() / path.name
        if place != real:
            self.link(str(place), str(real))
        if real.is_file() and str(real) not in self._has:
            self.file(str(real), real.read_bytes(), os.stat(real).st_mode & 0o777, real)

    def file(self, name: str, data: bytes, mode: int = 0o644, like: Path | None = None) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.size, entry.mode = len(data), mode
        # What Python has compiled is only believed where the source's time is as it was.
        entry.mtime = int(like.stat().st_mtime) if like else 0
        self._add(name, entry, data)

    def link(self, name: str, to: str) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, to
        self._add(name, entry)

    def folder(self, name: str, mode: int, owner: int = 0) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
        self._add(name, entry)

    def _add(self, name: str, entry: tarfile.TarInfo, data: bytes = b"") -> None:
        if name not in self._has:
            self._has.add(name)
            self._tar.addfile(entry, io.BytesIO(data))

    def load(self, tag: str, *changes: str) -> None:
        """Give it to the daemon. changes: lines of a Dockerfile."""
        self._tar.close()
        options = [word for change in changes for word in ("--change", change)]
        subprocess.run(
            ["docker", "import", *options, "-", tag],
            input=self._data.getvalue(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        print(f"{tag}  {len(self._data.getvalue()) / 1e6:.0f} MB")


def app() -> None:
    """This Python with its own library, and the code in app/."""
    image = Image()
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    image.program(python)
    image.tree(library, {*UNUSED, *(path.name for path in library.glob("config-*"))})
    for extension in (library / "lib-dynload").glob("*.so"):
        if not extension.name.startswith(("_test", "_tkinter")):
            image.program(extension)
    image.link("/usr/local/bin/python3", str(python))
    for file in sorted((HERE / "app").glob("*.py")):
        image.file(f"/app/{file.name}", file.read_bytes())
    image.load("market-app:local", "WORKDIR /app", "ENV PYTHONUNBUFFERED=1",
               "ENV PATH=/usr/local/bin:/usr/bin:/bin")  # fmt: skip


def cache() -> None:
    image = Image()
    for tool in ("redis-server", "redis-cli"):
        image.program(_found(tool, "redis-server"))
    image.folder("/data", 0o755)
    image.load("market-cache:local", "ENV PATH=/usr/bin:/bin")


def database() -> None:
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not servers:
        sys.exit("no PostgreSQL; Debian's package postgresql has it")
    home = servers[-1].parent.parent
    image = Image()
    for tool in ("postgres", "initdb", "psql", "pg_isready"):
        image.program(home / "bin" / tool)
    for extension in ("plpgsql", "dict_snowball"):
        image.program(home / "lib" / f"{extension}.so")
    shared = Path("/usr/share/postgresql") / home.name
    image.tree(shared, {"man", "extension"})
    for file in shared.glob("extension/plpgsql*"):
        image.copy(file)
    image.copy(Path("/usr/share/zoneinfo/UTC"))
    for tool in ("sh", "rm", "mv", "locale"):
        image.program(_found(tool, "coreutils"))
    for disk in ("/data", "/log"):
        image.folder(disk, 0o700, owner=70)
    image.file("/schema.sql", (HERE / "database/schema.sql").read_bytes())
    image.file("/start.sh", (HERE / "database/start.sh").read_bytes(), 0o755)
    image.load("market-database:local", "USER postgres", 'CMD ["/start.sh"]',
               f"ENV PATH={home}/bin:/usr/bin:/bin", "ENV TZ=UTC", "ENV PGHOST=/tmp")  # fmt: skip


def _found(tool: str, package: str) -> str:
    return shutil.which(tool) or sys.exit(f"no {tool}; Debian's package {package} has it")


if __name__ == "__main__":
    app()
    cache()
    database()
