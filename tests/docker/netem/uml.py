"""A kernel with netem: user-mode Linux, booted on this machine's own files, which it cannot change.

It is a program like others: it needs no privilege, and its network is its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
MODULES = Path("/usr/lib/uml/modules")
WANTED = ("net/sched/sch_netem", "net/sched/sch_htb", "drivers/net/veth")

_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TMPDIR={folder} PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t hostfs hostfs {folder} -o {folder}
for module in {modules}; do
  busybox insmod {top}/$(uname -r)/kernel/$module.ko
done
ip link set lo up
cd {folder}
{command} > {folder}/said 2>&1 < /dev/null
echo $? > {folder}/code
sync
busybox poweroff -f
"""


def missing() -> str | None:
    """What of this lane is missing on this machine."""
    for program, package in (("linux.uml", "user-mode-linux"), ("cc", "gcc"), ("ip", "iproute2"),
                             ("busybox", "busybox-static")):  # fmt: skip
        if shutil.which(program) is None:
            return f"no {program}; Debian's package {package} has it"
    if not any(MODULES.glob("*/kernel/net/sched/sch_netem.ko")):
        return f"user-mode-linux has no netem in {MODULES}"
    return None


def run(folder: Path, command: Sequence[str], within: float) -> str:
    """Boot, run that in it as root, and what it said. Only `folder` can be written there.

    Raises TimeoutExpired, and AssertionError when it did not end well.
    """
    library = folder / "whole_registers.so"
    source = HERE / "whole_registers.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    init = folder / "init"
    init.write_text(
        _INIT.format(
            folder=folder,
            path=os.pathsep.join(filter(None, sys.path)),
            modules=" ".join(WANTED),
            top=MODULES,
            command=shlex.join(command),
        )
    )
    init.chmod(0o755)
    words = ["linux.uml", "mem=1G", "rootfstype=hostfs", "ro", f"init={init}", "con=null",
             "con0=fd:0,fd:1", f"uml_dir={folder}", "umid=uml"]  # fmt: skip
    with (folder / "console").open("wb") as console:
        booted = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd=folder,
            env=os.environ | {"LD_PRELOAD": str(library)},
            start_new_session=True,
        )
        try:
            booted.wait(within)
        finally:
            # Its processes are processes here: none is left, whatever became of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(booted.pid, signal.SIGKILL)
            booted.wait()
    said = folder / "said"
    told = said.read_text() if said.exists() else ""
    console_told = (folder / "console").read_text(errors="replace")[-2000:]
    assert (folder / "code").exists(), f"it did not get to its end:\n{told}\n{console_told}"
    assert (folder / "code").read_text().strip() == "0", told
    return told
