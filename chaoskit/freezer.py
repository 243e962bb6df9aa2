"""Whether a control group holds a process still. Imports next to nothing: the guardian needs it."""

import contextlib


def frozen(pid: int) -> bool | None:
    """Whether a control group holds the process still, v1 or v2: then it does not even die. None
    when that cannot be read: from within a container, other groups are not to be seen."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    seen = None
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if "freezer" in kinds.split(","):
            places = [f"/sys/fs/cgroup/freezer{path}/freezer.state"]
        elif not kinds:
            bases = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
            places = [f"{base}{path}/cgroup.events" for base in bases]
        else:
            continue
        for place in places:
            with contextlib.suppress(OSError), open(place) as file:
                text = file.read()
                if text.strip() == "FROZEN" or "frozen 1" in text:
                    return True
                seen = False
    return seen
