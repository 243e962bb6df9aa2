"""A target's file system, and the filler file that fills it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.mounts import mount_at, mounts_of
from chaoskit.procfs import boot_id
from chaoskit.targets.reserve import IN_MEMORY
from chaoskit.targets.rooted import Rooted

if TYPE_CHECKING:
    from chaoskit.targets.folders import Folder

PART = 32 * 1024 * 1024
"""Bytes that are added at a time; between two parts the disk is measured anew."""

FLEETING = (*IN_MEMORY, "overlay")
"""File systems that are gone with their files when they are not mounted, or whose files lie on
another one."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME = re.compile(r"\.chaoskit-.+-\d[\d.]*-[0-9a-f]+(-\d+)?")
"""How our files are called: by the run, the step and the target (and the helper, if it is one)."""


class Files(Rooted):
    """A target that has a file system: gives the capability `HasFiles`."""

    def filler(self, path: str) -> str:
        from chaoskit.targets.folders import lasting

        return f"{lasting(self.host_folder(path)).rstrip('/')}/.{self.mark}"

    def host_folder(self, path: str) -> str:
        """See the capability. Raises Gone when the target has ended, else ChaoskitError."""
        from chaoskit.targets.folders import on_this_machine

        try:
            found = on_this_machine(self.root, path)
        except PermissionError as error:
            raise ChaoskitError(f"we may not look at {path} as it sees it: {error}") from error
        except OSError as error:
            self.root.stat()
            raise ChaoskitError(f"there is no folder {path}: {error.strerror}") from error
        except Gone:
            raise
        except ChaoskitError as error:
            raise ChaoskitError(f"{path} cannot be used: {error}") from error
        if not Path(found.path).is_dir():
            raise ChaoskitError(f"{path} is no folder")
        if found.mount is not None and found.mount.read_only:
            raise ChaoskitError(f"nothing can be written in {path}: it is mounted read-only there")
        if not os.access(found.path, os.W_OK | os.X_OK):
            raise ChaoskitError(f"nothing can be written in {path}")
        if why := self.off_limits(found):
            raise ChaoskitError(f"{path} may not be used: {why}")
        return found.path

    def off_limits(self, folder: Folder) -> str | None:
        """Why nothing of ours may lie in that folder, which the target can write in."""
        return None

    def mark_of(self, key: str) -> str | None:
        """The mark in the file; None when there is none; what else it is when it is not ours.
        Raises ChaoskitError when its disk is not mounted: there it would still be."""
        path = _now_at(key)
        if (mark := _mark_of(path)) is None and (then := self._mount_then(key)):
            point, device, boot, folder = then
            mount = mount_at(os.path.dirname(path), mounts_of())
            now = os.fsencode(mount.point) if mount else b"nothing"
            same = boot != boot_id().encode() or (mount and mount.device.encode() == device)
            if now != point or not same:
                raise ChaoskitError(
                    f"what was mounted at {os.fsdecode(point)} is not mounted there any more, so "
                    "its files cannot be looked at"
                )
            there = _folder_of(path)
            if boot == boot_id().encode() and folder not in (b"", there):
                if there is None:
                    self.root.stat()  # With the target its folder may well have gone.
                what = "is not there any more" if there is None else "is another folder than it was"
                raise ChaoskitError(
                    f"{os.path.dirname(path)} {what}: the filler was deleted with it, or has moved "
                    "with it to wherever that is"
                )
        return mark

    def grow(self, key: str, size: int | None, until: float | None) -> None:
        """See the capability. Raises Interrupted between two parts, Gone, OSError."""
        path = _now_at(key)
        mark = f"{Path(key).name[1:]}\n".encode()
        try:
            folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.root.stat()
            raise
        try:
            self._keep_mount(key, path)
            # A volume may be gone from its place when the target has ended. What was opened is
            # what the target sees, if it is alive after the opening.
            self.root.stat()
            file, filled = _opened(folder, Path(key).name, mark)
        except BaseException:
            os.close(folder)
            raise
        try:
            while filled and (part := self._part(folder, size, until, filled)) > 0:
                self.binding.cancel.check()
                self.root.stat()
                full = not _extend(file, filled, part)
                filled += 0 if full else part
                # Another writer may have taken what was free when the part was measured.
                lack = max(0, self.reserve(folder) - self.space(folder)[0])
                if full or lack:
                    os.ftruncate(file, max(len(mark), filled - lack))
                    return
        finally:
            os.close(file)
            os.close(folder)

    def _keep_mount(self, key: str, path: str) -> None:
        """Write down where the disk is mounted that the filler is about to lie on."""
        mount = mount_at(os.path.dirname(path), mounts_of())
        if mount is not None and mount.kind not in FLEETING:
            with contextlib.suppress(OSError):  # The run's own disk may be the one that is full.
                words = (os.fsencode(mount.point), mount.device.encode(), boot_id().encode())
                self._mount_note(key).write_bytes(b"\0".join((*words, _folder_of(path) or b"")))

    def _mount_then(self, key: str) -> list[bytes]:
        """Where it was mounted, its device, in which boot that was, and which folder of it the
        filler was in (none by an older note); nothing if not known."""
        try:
            found = self._mount_note(key).read_bytes().split(b"\0")
        except OSError:
            return []
        return [*found, b""][:4] if len(found) in (3, 4) else []

    def _mount_note(self, key: str) -> Path:
        return self.binding.folder / f"{self.mark}-{crc32(os.fsencode(key)):08x}.mount"

    def _part(self, folder: int, size: int | None, until: float | None, filled: int) -> int:
        """How many bytes to add now: other writers write and delete meanwhile."""
        free, whole = self.space(folder)
        wanted = (size or 0) - filled if until is None else int(free - (1 - until) * whole)
        return min(wanted, free - self.reserve(folder), PART)

    def unlink(self, key: str) -> None:
        """Take our filler away; what is not ours stays."""
        if self.mark_of(key) == Path(key).name[1:]:
            Path(_now_at(key)).unlink(missing_ok=True)
            # Its disk was there, whatever number it has by now.
            with contextlib.suppress(OSError):
                self._mount_note(key).unlink(missing_ok=True)

    def space(self, path: str | int) -> tuple[int, int]:
        """(free, all) in bytes, as `df` counts for ordinary users. path: or an open folder."""
        found = os.statvfs(path)
        used = found.f_blocks - found.f_bfree
        return found.f_bavail * found.f_frsize, (used + found.f_bavail) * found.f_frsize

    def reserve(self, path: str | int) -> int:
        from chaoskit.targets.reserve import kept_free

        return kept_free(path, *self.space(path), own=self.is_own(path))

    def is_own(self, folder: str | int) -> bool:
        """Whether the file system there is the target's own, and no disk of the machine's."""
        return False

    def size_of(self, key: str) -> int:
        try:
            return os.lstat(_now_at(key)).st_blocks * 512
        except OSError as error:
            raise Gone(f"{key} is gone") from error


def _now_at(key: str) -> str:
    from chaoskit.targets.folders import reachable

    return reachable(key)


def _opened(folder: int, name: str, mark: bytes) -> tuple[int, int]:
    """Our file in that folder, with the mark in it, and how much of it there is; 0 when there is no
    room even for the mark. One that is there already is gone on with if it is ours: the target has
    restarted, and its files have not."""
    how = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(name, how | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    except FileExistsError:
        if _mark_of(name, folder) != name[1:]:
            raise
        file = os.open(name, how, dir_fd=folder)
    filled = os.fstat(file).st_size
    return file, filled or (len(mark) if _begin(file, mark) else 0)


def _folder_of(path: str) -> bytes | None:
    """Which folder that path is in; None when there is none."""
    try:
        found = os.stat(os.path.dirname(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{found.st_dev}:{found.st_ino}".encode()


def _mark_of(key: str, folder: int | None = None) -> str | None:
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(key, how, dir_fd=folder)
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


def leftover_fillers(folders: Sequence[Path], unseen: Callable[[str], None]) -> list[Path]:
    """Every file of ours that lies in these folders, by its name and what is in it. unseen: told of
    each that could not be read."""
    found = []
    if not folders:
        unseen("filler files: no folder was named to look for them in")
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError as error:
            unseen(f"filler files in {folder}: {error.strerror}")
            continue
        for path in (folder / name for name in names if _NAME.fullmatch(name)):
            try:
                if _mark_of(str(path)) == path.name[1:]:
                    found.append(path)
            except OSError as error:
                unseen(f"{path}: {error.strerror}")
    return sorted(found)
