"""One helper process that burns or holds something: started by a fault, gone by itself.

    burden.py MARK DEADLINE WORK ARGUMENTS...

It ends when its standard input closes (a pipe that only the runner holds), when CLOCK_MONOTONIC
reaches DEADLINE, or on any signal; whichever is first, whatever it is doing. MARK is there so that
it can be found. WORK is one of:

    cpu SHARE                  keep one processor busy for that share of the time (0 to 1)
    memory BYTES RESERVE       hold that much memory, leaving RESERVE bytes free
    disk FOLDER READ WRITE     read and write there at these rates (bytes a second, 0 for none)
    files COUNT                hold that many descriptors open
"""

import mmap
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable

SLICE = 0.02
"""Seconds of work between two looks at the lifeline."""
PART = 16 * 1024 * 1024
"""Bytes of memory taken at a time."""
BLOCK = 256 * 1024
"""Bytes of one read or write."""
SPAN = 64 * 1024 * 1024
"""Bytes of the file that is read and written over and over."""

deadline = 0.0
lifeline = select.poll()


def over(wait: float = 0.0) -> bool:
    """Whether to end; waits up to that many seconds for the answer."""
    left = min(wait, deadline - time.monotonic())
    return left < 0 or bool(lifeline.poll(max(0.0, left) * 1000))


def cpu(share: str) -> None:
    busy = float(share)
    while not over():
        end = time.perf_counter() + SLICE * busy
        while time.perf_counter() < end:
            pass
        if busy < 1 and over(SLICE * (1 - busy)):
            return


def available() -> int:
    """Bytes that can be taken before the OOM killer is called, of the machine."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def memory(size: str, reserve: str) -> None:
    held, left = [], int(size)
    while left > 0 and not over():
        part = min(PART, left)
        if available() - part < int(reserve):
            break
        area = mmap.mmap(-1, part)
        for page in range(0, part, mmap.PAGESIZE):
            area[page] = 1
        held.append(area)
        left -= part
    while not over(60.0):
        pass


def disk(folder: str, read: str, write: str) -> None:
    # A file without a name is gone with us, whatever happens.
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        path = os.path.join(folder, f".{sys.argv[1]}")
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    block = os.urandom(BLOCK)
    reading, writing = float(read), float(write)
    if reading:
        # There must be something to read; it is written once, at no rate.
        for at in range(0, SPAN, BLOCK):
            if over():
                return
            os.pwrite(file, block, at)
        os.fdatasync(file)
    began, done_read, done_written, unsynced = time.monotonic(), 0, 0, 0
    while not over():
        due = time.monotonic() - began + SLICE
        behind = False
        if writing and done_written < writing * due:
            os.pwrite(file, block, done_written % SPAN)
            done_written += BLOCK
            unsynced += BLOCK
            behind = done_written < writing * due
            if not behind or unsynced >= 4 * 1024 * 1024:
                os.fdatasync(file)
                unsynced = 0
        if reading and done_read < reading * due:
            at = done_read % SPAN
            # Out of the page cache first, or the disk would see nothing of it.
            os.posix_fadvise(file, at, BLOCK, os.POSIX_FADV_DONTNEED)
            os.pread(file, BLOCK, at)
            done_read += BLOCK
            behind = behind or done_read < reading * due
        if not behind and over(SLICE / 2):
            return


def files(count: str) -> None:
    wanted = int(count)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted + 64, hard), hard))
    for number in range(wanted):
        if number % 1000 == 0 and over():
            return
        os.open("/dev/null", os.O_RDONLY)
    while not over(60.0):
        pass


WORK: dict[str, Callable[..., None]] = {"cpu": cpu, "memory": memory, "disk": disk, "files": files}


def main() -> None:
    global deadline
    deadline = float(sys.argv[2])
    lifeline.register(0, select.POLLIN | select.POLLHUP)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    # Taken first, before anybody's real work, when memory runs out.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
    WORK[sys.argv[3]](*sys.argv[4:])


if __name__ == "__main__":
    main()
