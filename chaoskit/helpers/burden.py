"""One helper process that burns or holds something: started by a fault, gone by itself.

    burden.py MARK DEADLINE [KEY=VALUE...] WORK ARGUMENTS...

It ends when its standard input closes (a pipe that only the runner holds), when CLOCK_MONOTONIC
reaches DEADLINE, or on any signal; whichever is first, whatever it is doing. MARK is there so that
it can be found. Where it works:

    in=FOLDER                  in this control group, and in more if there are more of these
    with=PID:START             as long as this process lives (START in ticks since the boot)
    out=FOLDER                 the control group for processor time that it came from
    on=0,1                     on these processors
    room=FOLDER                this control group's memory, and that of those above it, is kept

Other keys are notes of whoever started it. WORK is one of:

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
"""The reserve is that share or so many bytes, whichever is more."""
GROUP_RESERVE_BYTES = 16 * 1024 * 1024
"""The same of a control group with a limit: most are small, and no other's memory is at stake."""


def cpu(share: str) -> None:
    busy = float(share)
    while True:
        end = time.monotonic() + SLICE * busy
        while time.monotonic() < end:
            pass
        if busy < 1:
            time.sleep(SLICE * (1 - busy))


def memory(size: str, group: str = "") -> None:
    import mmap

    held, left = [], int(size)
    while left > 0:
        part = min(PART, left)
        if memory_free(group)[1] < part:
            break
        # Shared, though with nobody: the kernel counts it apart from what the interpreter has.
        area = mmap.mmap(-1, part, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        pages = range(0, part, mmap.PAGESIZE)
        area[:: mmap.PAGESIZE] = b"\1" * len(pages)
        held.append(area)
        left -= part
    hold()


def memory_free(group: str = "") -> tuple[int, int]:
    """Bytes that can be taken before the OOM killer is called, and those that can be while the
    reserve stays: of the machine, and of that control group and those above it."""
    free, whole = _of_machine()
    places = [(free, free - max(int(whole * RESERVE_SHARE), RESERVE_BYTES))]
    for free, whole in _of_groups(group):
        places.append((free, free - max(int(whole * RESERVE_SHARE), GROUP_RESERVE_BYTES)))
    return max(0, min(free for free, _ in places)), max(0, min(room for _, room in places))


def _of_machine() -> tuple[int, int]:
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024, int(lines["MemTotal"].split()[0]) * 1024


def _of_groups(folder: str) -> list[tuple[int, int]]:
    """(free, limit) of that control group and of each above it that has a limit."""
    found = []
    while os.path.exists(f"{folder}/cgroup.procs"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                with open(f"{folder}/{limit}") as file:
                    most = int(file.read())
                with open(f"{folder}/{used}") as file:
                    taken = int(file.read())
                with open(f"{folder}/memory.stat") as file:
                    counters = dict(line.split() for line in file)
            except (OSError, ValueError):
                continue  # Of the other version, or there is no limit: "max".
            # What is cached of files is given back before anybody is killed.
            found.append((most - taken + int(counters.get(cache, 0)), most))
        folder = os.path.dirname(folder)
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
        wait(deadline, 0)
    finally:
        os._exit(0)


def wait(deadline: float, *ends: int) -> None:
    """Until one of these descriptors has an end, or for that long."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(min(left, 3600.0) * 1000):
            break


def send_ahead(deadline: float, life: str, out: str) -> None:
    """Comes back in a child, which ends when we do; we stay behind and end it in time.

    In a group that has used up its processor time nothing of ours would notice for seconds that it
    must end, and the group could not be removed meanwhile. So the child is brought out of there
    before it is killed.
    """
    pid, _, start = life.partition(":")
    target = os.pidfd_open(int(pid))
    with open(f"/proc/{pid}/stat", "rb") as file:
        if file.read().rpartition(b")")[2].split()[19] != start.encode():
            raise ProcessLookupError(pid)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(reading, 0)
        for descriptor in (reading, writing, target):
            os.close(descriptor)
        return
    try:
        wait(deadline, 0, target, os.pidfd_open(child))
    finally:
        tell(f"{out}/cgroup.procs", str(child))
        os.kill(child, 9)
        os.waitpid(child, 0)
        os._exit(0)


def tell(path: str, text: str) -> bool:
    """Write that there; whether it was taken."""
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> None:
    _, deadline, *more = arguments
    where: dict[str, list[str]] = {}
    while "=" in more[0]:
        key, _, value = more.pop(0).partition("=")
        where.setdefault(key, []).append(value)
    # Taken first, before anybody's real work, when memory runs out.
    tell("/proc/self/oom_score_adj", "1000")
    if "with" in where:
        send_ahead(float(deadline), *where["with"], *where.get("out", [""]))
    _thread.start_new_thread(end_in_time, (float(deadline),))
    for folder in where.get("in", ()):
        if not tell(f"{folder}/cgroup.procs", "0"):
            return  # What would not count there is not done at all.
    for numbers in where.get("on", ()):
        os.sched_setaffinity(0, map(int, numbers.split(",")))
    match more.pop(0):
        case "cpu":
            cpu(*more)
        case "memory":
            memory(*more, *where.get("room", ()))
        case "disk":
            disk(*more)
        case "files":
            files(*more)


if __name__ == "__main__":
    main(sys.argv[1:])
