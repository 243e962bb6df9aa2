"""One helper process that burns or holds something: started by a fault, gone by itself.

    burden.py MARK DEADLINE WORK ARGUMENTS...

It ends when its standard input closes (a pipe that only the runner holds), when CLOCK_MONOTONIC
reaches DEADLINE, or on any signal; whichever is first, whatever it is doing. MARK is there so that
it can be found. WORK is one of:

    cpu SHARE                  keep one processor busy for that share of the time (0 to 1)
    memory BYTES               hold that much memory, or less where the reserve would suffer
    disk FOLDER READ WRITE     read and write there at these rates (bytes a second, 0 for none)
    files COUNT                hold that many descriptors open

It starts in some milliseconds: what only one kind of work needs is imported there, and neither
pathlib nor signal is imported at all.
"""

import _thread
import os
import select
import sys
import time

SLICE = 0.02
"""Seconds in which a share of the time is burnt, and between two looks at a rate."""
PART = 8 * 1024 * 1024
"""Bytes of memory taken at a time; between two parts the free memory is measured anew."""
BLOCK = 256 * 1024
"""Bytes of one read or write."""
SPAN = 16 * 1024 * 1024
"""Bytes that are read over and over; they are written first. As many are written over and over."""
RESERVE_SHARE = 0.05
RESERVE_BYTES = 256 * 1024 * 1024


def cpu(share: str) -> None:
    busy = float(share)
    while True:
        end = time.monotonic() + SLICE * busy
        while time.monotonic() < end:
            pass
        if busy < 1:
            time.sleep(SLICE * (1 - busy))


def memory(size: str) -> None:
    import mmap

    held, left = [], int(size)
    while left > 0:
        part = min(PART, left)
        if memory_free()[1] < part:
            break
        area = mmap.mmap(-1, part, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages = range(0, part, mmap.PAGESIZE)
        area[:: mmap.PAGESIZE] = b"\1" * len(pages)
        held.append(area)
        left -= part
    hold()


def memory_free() -> tuple[int, int]:
    """Bytes that can be taken before the OOM killer is called, and those that can be while the
    reserve (5% or 256 MiB, whichever is more) stays: of the machine, and of every control group
    that this process is in."""
    places = [_of_machine(), *_of_groups()]
    rooms = [free - max(int(whole * RESERVE_SHARE), RESERVE_BYTES) for free, whole in places]
    return max(0, min(free for free, _ in places)), max(0, min(rooms))


def _of_machine() -> tuple[int, int]:
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024, int(lines["MemTotal"].split()[0]) * 1024


def _of_groups() -> list[tuple[int, int]]:
    """(free, limit) of each control group with a memory limit, version 1 or 2."""
    found = []
    with open("/proc/self/cgroup") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, used, cache = "/sys/fs/cgroup", "memory.current", "inactive_file"
            limits = ["memory.max", "memory.high"]
        elif "memory" in controllers.split(","):
            base, used = "/sys/fs/cgroup/memory", "memory.usage_in_bytes"
            limits, cache = ["memory.limit_in_bytes"], "total_inactive_file"
        else:
            continue
        # Groups that a container cannot see have no folder here; those above may have.
        parts = path.strip("/").split("/")
        for depth in range(len(parts), -1, -1):
            folder = "/".join((base, *parts[:depth]))
            for limit in limits:
                try:
                    with open(f"{folder}/{limit}") as file:
                        most = int(file.read())
                    with open(f"{folder}/{used}") as file:
                        taken = int(file.read())
                    with open(f"{folder}/memory.stat") as file:
                        counters = dict(line.split() for line in file)
                except (OSError, ValueError):
                    continue  # No such group, or no limit: "max".
                # What is cached of files is given back before anybody is killed.
                found.append((most - taken + int(counters.get(cache, 0)), most))
    return found


def disk(folder: str, read: str, write: str) -> None:
    import fcntl
    import mmap

    # A file without a name is gone with us, whatever happens.
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        path = os.path.join(folder, f".{sys.argv[1]}")
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    # Past the page cache, or the disk would see nothing of it.
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT)
        direct = True
    except OSError:
        direct = False
    block = mmap.mmap(-1, BLOCK)  # O_DIRECT wants whole pages.
    block[:] = os.urandom(BLOCK)

    def put(at: int) -> None:
        os.pwritev(file, [block], at)
        if not direct:
            os.fdatasync(file)

    def get(at: int) -> None:
        if not direct:
            os.posix_fadvise(file, at, BLOCK, os.POSIX_FADV_DONTNEED)
        os.preadv(file, [block], at)

    reading, writing = float(read), float(write)
    if reading:
        for at in range(0, SPAN, BLOCK):
            put(at)
    began, done_read, done_written = time.monotonic(), 0, 0
    while True:
        due = time.monotonic() - began
        if writing and done_written <= writing * due:
            put(SPAN + done_written % SPAN)
            done_written += BLOCK
        if reading and done_read <= reading * due:
            get(done_read % SPAN)
            done_read += BLOCK
        write_late = writing and done_written <= writing * due
        read_late = reading and done_read <= reading * due
        if not (write_late or read_late):
            time.sleep(SLICE / 2)


def files(count: str) -> None:
    import resource

    wanted = int(count)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted + 16), hard), hard))
    for _ in range(wanted):
        os.open(os.devnull, os.O_RDONLY)
    hold()


def hold() -> None:
    while True:
        time.sleep(3600)


def end_in_time(deadline: float) -> None:
    """In a thread of its own, so that it ends us in the middle of whatever we do."""
    try:
        lifeline = select.poll()
        lifeline.register(0, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if lifeline.poll(min(left, 3600.0) * 1000):
                break
    finally:
        os._exit(0)


def main(arguments: list[str]) -> None:
    _, deadline, work, *more = arguments
    # Taken first, before anybody's real work, when memory runs out.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
    _thread.start_new_thread(end_in_time, (float(deadline),))
    match work:
        case "cpu":
            cpu(*more)
        case "memory":
            memory(*more)
        case "disk":
            disk(*more)
        case "files":
            files(*more)


if __name__ == "__main__":
    main(sys.argv[1:])
