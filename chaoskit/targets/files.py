"""A target's file system, and the filler file that fills it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
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

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME = re.compile(r"\.chaoskit-.+-\d[\d.]*-\d+(-\d+)?")
"""How our files are called: by the run, the step and the target (and the helper, if it is one)."""


class Files:
    """A target that has a file system: gives the capability `HasFiles`."""

    binding: Binding
    root: Process

    def filler(self, path: str) -> str:
        folder = self.host_folder(path).rstrip("/")
        return f"{folder}/.{self.binding.mark}-{self.root.pid}"

    def host_folder(self, path: str) -> str:
        """See the capability. Raises Gone when the target has ended, else ChaoskitError."""
        from chaoskit.targets.folders import on_this_machine

        try:
            found = on_this_machine(self.root, path)
        except PermissionError as error:
            raise ChaoskitError(f"we may not look at {path} as it sees it: {error}") from error
        except OSError as error:
            self.root.stat()
            raise ChaoskitError(f"there is no folder {path}: {error}") from error
        except Gone:
            raise
        except ChaoskitError as error:
            raise ChaoskitError(f"{path} cannot be used: {error}") from error
        if not Path(found).is_dir():
            raise ChaoskitError(f"{path} is no folder")
        if not os.access(found, os.W_OK | os.X_OK):
            raise ChaoskitError(f"nothing can be written in {path}")
        return found

    def mark_of(self, key: str) -> str | None:
        """The mark in the file; None when there is none; what else it is when it is not ours."""
        return _mark_of(key)

    def grow(self, key: str, size: int | None, until: float | None) -> None:
        """See the capability. Raises Interrupted between two parts, OSError."""
        mark = f"{Path(key).name[1:]}\n".encode()
        file = os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if not _begin(file, mark):
                return
            filled = len(mark)
            while (part := self._part(key, size, until, filled)) > 0:
                self.binding.cancel.check()
                full = not _extend(file, filled, part)
                filled += 0 if full else part
                # Another writer may have taken what was free when the part was measured.
                free, whole = self.space(str(Path(key).parent))
                lack = max(0, _reserve(whole) - free)
                if full or lack:
                    os.ftruncate(file, max(len(mark), filled - lack))
                    return
        finally:
            os.close(file)

    def _part(self, key: str, size: int | None, until: float | None, filled: int) -> int:
        """How many bytes to add now: other writers write and delete meanwhile."""
        free, whole = self.space(str(Path(key).parent))
        wanted = (size or 0) - filled if until is None else int(free - (1 - until) * whole)
        return min(wanted, free - _reserve(whole), PART)

    def unlink(self, key: str) -> None:
        """Take our filler away; what is not ours stays."""
        if self.mark_of(key) == Path(key).name[1:]:
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


def _mark_of(key: str) -> str | None:
    try:
        file = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return "no file of ours"  # A symbolic link, a socket.
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return "no file of ours"
        begin = os.read(file, 512)
    finally:
        os.close(file)
    # Between its making and its first line our file is empty: its name is ours all the same.
    ours = Path(key).name[1:]
    line = begin.partition(b"\n")[0]
    return ours if begin == b"" or line == ours.encode() else line.decode(errors="replace")


def _reserve(whole: int) -> int:
    """Bytes that are always left free: 5% of the disk or 256 MiB, whichever is more."""
    return max(int(whole * RESERVE_SHARE), RESERVE_BYTES)


def _begin(file: int, mark: bytes) -> bool:
    """Write the mark; whether there was room for it, else the file is empty.

    It is on the disk before the file grows: after a power cut, what has our name and other
    content would be nobody's.
    """
    try:
        if os.write(file, mark) == len(mark):
            os.fsync(file)
            return True
    except OSError as error:
        if error.errno not in _FULL:
            raise
    os.ftruncate(file, 0)
    return False


def _extend(file: int, at: int, part: int) -> bool:
    """Take that much more; False when the disk (or a quota, or a limit) has not got it."""
    end = at + part
    try:
        try:
            os.posix_fallocate(file, at, part)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        if os.fstat(file).st_blocks * 512 >= end:
            return True
        # A file system that cannot reserve, or that makes holes of zeros: write what is no zeros.
        block = os.urandom(1024 * 1024)
        while at < end:
            at += os.pwrite(file, block[: end - at], at)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return False
    return True


def leftover_fillers(folders: Iterable[Path]) -> list[Path]:
    """Every file of ours that lies in these folders, by its name and what is in it."""
    found = []
    for folder in folders:
        for path in folder.glob(".chaoskit-*"):
            with contextlib.suppress(OSError):
                if _NAME.fullmatch(path.name) and _mark_of(str(path)) == path.name[1:]:
                    found.append(path)
    return sorted(found)
