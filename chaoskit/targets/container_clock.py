"""The clock of a container in which libfaketime is loaded: the file that it reads the time from.

A program's clock can be moved in no other way: a time namespace is given to a container when it
starts, which Docker cannot, and the clock of the machine is everybody's.
"""

from __future__ import annotations

import contextlib
import os
import stat

from chaoskit.errors import ChaoskitError, Gone
from chaoskit.model.units import Json
from chaoskit.mounts import mounts_of
from chaoskit.procfs import Process, processes
from chaoskit.targets.container_files import ContainerFiles
from chaoskit.targets.docker_protect import container_ids
from chaoskit.targets.folders import followed, lasting, reachable

FILE = "FAKETIME_TIMESTAMP_FILE"
_FIXED = "FAKETIME"
"""Where this is set, libfaketime reads no file."""
_LONGEST = 4096
"""Bytes of the file: libfaketime reads a line."""
_WHAT = "no small plain text file"
_NO_TEXT: Json = {"told": _WHAT}
_NOT_LOADED = (
    "libfaketime is not loaded in its first process, and a time namespace can only be given to a "
    "container when it starts, which Docker cannot"
)


class ContainerClock(ContainerFiles):
    """Gives the capability `HasClock`."""

    id: str

    def clock_settings(self) -> dict[str, str]:
        """See the capability. Raises Gone, ChaoskitError."""
        try:
            return _settings(self.root)
        except OSError as error:
            raise ChaoskitError(f"its environment cannot be read: {error}") from error

    def clock_file(self) -> str:
        """See the capability. Raises Gone, ChaoskitError."""
        try:
            libraries = {os.path.basename(path) for path in self.root.mapped()}
        except OSError as error:
            raise ChaoskitError(f"its libraries cannot be seen: {error}") from error
        if not any(one.startswith("libfaketime") and ".so" in one for one in libraries):
            raise ChaoskitError(_NOT_LOADED)
        settings = self.clock_settings()
        path = settings.get(FILE, "")
        if not path:
            raise ChaoskitError(f"libfaketime is loaded, but {FILE} names no file that it reads")
        if _FIXED in settings:
            raise ChaoskitError(f"{_FIXED} is set: libfaketime reads that, and no file")
        if not path.startswith("/"):
            raise ChaoskitError(f"{FILE} names {path}: another file in each folder")
        folder, name = os.path.split(path)
        place = self.host_folder(folder)
        self._only_its_own(folder, name, f"{place.rstrip('/')}/{name}")
        return f"{lasting(place).rstrip('/')}/{name}"

    def _only_its_own(self, folder: str, name: str, path: str) -> None:
        """Raises ChaoskitError when the file is one that cannot be replaced, or not for this
        container alone."""
        inside = f"{followed(f'/proc/{self.root.pid}/root', folder).rstrip('/')}/{name}"
        mounts = mounts_of(self.root.pid)
        self.root.stat()
        if any(mount.point == inside for mount in mounts):
            raise ChaoskitError(
                f"{inside} is mounted by itself, and cannot be replaced in one step; a mounted "
                "folder with the file in it can"
            )
        if _text(path) == _NO_TEXT:
            raise ChaoskitError(f"{inside} is {_WHAT}")
        if other := self._reads_it_too(os.path.dirname(path), name):
            raise ChaoskitError(f"process {other.pid}, outside of it, reads {inside} too")

    def _reads_it_too(self, folder: str, name: str) -> Process | None:
        """A process outside of this container that is told to read that same file: a volume may be
        in several containers."""
        wanted = os.stat(folder)
        for process in processes():
            with contextlib.suppress(Gone, OSError):
                path = _settings(process).get(FILE, "")
                if os.path.basename(path) != name or self.id in container_ids(process):
                    continue
                root = f"/proc/{process.pid}/root"
                theirs = os.stat(root + followed(root, os.path.dirname(path)))
                if os.path.samestat(theirs, wanted) and process.alive():
                    return process
        return None

    def clock_text(self, key: str) -> Json:
        """See the capability. Raises Gone, OSError."""
        found = _text(reachable(key))
        if found is None and not self.root.alive():
            raise Gone(f"{key} is gone")
        return found

    def clock_beside(self, key: str) -> str:
        return f"{os.path.dirname(key)}/.{self.mark}-clock"

    def lay_beside(self, key: str, text: str) -> None:
        """See the capability. Raises OSError."""
        beside = reachable(self.clock_beside(key))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # Ours, of one who died over it.
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(beside, how, 0o600)
        try:
            owner, group, mode = 0, 0, 0o644  # Whoever runs in there must be able to read it.
            with contextlib.suppress(FileNotFoundError):
                old = os.lstat(reachable(key))
                owner, group, mode = old.st_uid, old.st_gid, stat.S_IMODE(old.st_mode)
            os.fchown(file, owner, group)
            os.fchmod(file, mode)
            data = text.encode()
            if os.write(file, data) != len(data):
                raise OSError(f"{beside} could not be written whole")
            os.fsync(file)
        finally:
            os.close(file)

    def lies_beside(self, key: str) -> bool:
        return os.path.lexists(reachable(self.clock_beside(key)))

    def take_beside(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(reachable(self.clock_beside(key)))

    def put_clock(self, key: str) -> None:
        os.rename(reachable(self.clock_beside(key)), reachable(key))

    def drop_clock(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(reachable(key))


def _settings(process: Process) -> dict[str, str]:
    words = [os.fsdecode(word).partition("=") for word in process.environ()]
    return {name: value for name, _, value in words if name.startswith(_FIXED)}


def _text(path: str) -> Json:
    """What is in the file; None when there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return _NO_TEXT  # A symbolic link, a socket.
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or about.st_size > _LONGEST:
            return _NO_TEXT
        return os.read(file, _LONGEST).decode()
    except UnicodeDecodeError:
        return _NO_TEXT
    finally:
        os.close(file)
