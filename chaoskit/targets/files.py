"""A target's file system, and the filler file that fills it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.binding import Binding
from chaoskit.procfs import Process

RESERVE_SHARE = 0.05
RESERVE_BYTES = 256 * 1024 * 1024
PART = 32 * 1024 * 1024
"""Bytes that are added at a time; between two parts the disk is measured anew."""


class Files:
    """A target that has a file system: gives the capability `HasFiles`."""

    binding: Binding
    root: Process

    def filler(self, path: str) -> str:
        return f"{self.host_folder(path)}/.{self.binding.mark}-{self.root.pid}"

    def host_folder(self, path: str) -> str:
        """The folder that the target calls `path`, as this machine sees it. Raises ChaoskitError
        when there is none."""
        inner = Path(path)
        try:
            if not inner.is_absolute():
                inner = Path(self.root.cwd()) / inner
            if not _same_root(self.root):
                inner = Path(f"/proc/{self.root.pid}/root") / inner.relative_to("/")
            found = inner.resolve(strict=True)
        except (Gone, OSError) as error:
            raise ChaoskitError(f"there is no folder {path} for it: {error}") from error
        if not found.is_dir():
            raise ChaoskitError(f"{path} is no folder")
        return str(found)

    def mark_of(self, key: str) -> str | None:
        """The mark in the file; None when there is none; what else it is when it is not ours."""
        try:
            found = os.lstat(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return "not a file of ours"
        with open(key, "rb") as file:
            line = file.readline(200).rstrip(b"\n")
        # Between its making and its first line our file is empty: its name is ours all the same.
        ours = Path(key).name.lstrip(".")
        return ours if line in (b"", ours.encode()) else line.decode(errors="replace")

    def grow(self, key: str, size: int | None, until: float | None) -> None:
        """See the capability. Raises Interrupted between two parts, OSError."""
        mark = Path(key).name.lstrip(".")
        file = os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(OSError):
                os.write(file, mark.encode() + b"\n")
            filled = 4096
            while (part := self._part(key, size, until, filled)) > 0:
                self.binding.cancel.check()
                try:
                    _extend(file, filled, part)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                        return
                    raise
                filled += part
        finally:
            os.close(file)

    def _part(self, key: str, size: int | None, until: float | None, filled: int) -> int:
        """How many bytes to add now: other writers write and delete meanwhile."""
        free, whole = self.space(str(Path(key).parent))
        wanted = (size or 0) - filled if until is None else int(free - (1 - until) * whole)
        return min(wanted, free - _reserve(whole), PART)

    def unlink(self, key: str) -> None:
        """Take our filler away; what is not ours stays."""
        if self.mark_of(key) == Path(key).name.lstrip("."):
            Path(key).unlink(missing_ok=True)

    def space(self, path: str) -> tuple[int, int]:
        """(free, all) in bytes, as `df` counts for ordinary users."""
        found = os.statvfs(path)
        used = found.f_blocks - found.f_bfree
        return found.f_bavail * found.f_frsize, (used + found.f_bavail) * found.f_frsize

    def reserve(self, path: str) -> int:
        return _reserve(self.space(path)[1])

    def size_of(self, key: str) -> int:
        try:
            return os.lstat(key).st_blocks * 512
        except OSError as error:
            raise Gone(f"{key} is gone") from error


def _reserve(whole: int) -> int:
    """Bytes that are always left free: 5% of the disk or 256 MiB, whichever is more."""
    return max(int(whole * RESERVE_SHARE), RESERVE_BYTES)


def _same_root(process: Process) -> bool:
    try:
        theirs, ours = os.stat(f"/proc/{process.pid}/root"), os.stat("/proc/self/root")
        same = os.readlink(f"/proc/{process.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except PermissionError:
        return True  # Not ours to look into, and so not in a container of ours either.
    return same and (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _extend(file: int, at: int, part: int) -> None:
    try:
        os.posix_fallocate(file, at, part)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        block = b"\0" * (1024 * 1024)
        end = at + part
        while at < end:
            at += os.pwrite(file, block[: end - at], at)


def leftover_fillers(folders: Iterable[Path]) -> list[Path]:
    """Every filler file of ours that lies in these folders."""
    return sorted(
        path
        for folder in folders
        for path in folder.glob(".chaoskit-*")
        if path.is_file() and not path.is_symlink()
    )
