"""The guardian: a small process of its own session that undoes when the runner dies.

It holds one end of a pipe. End of file without `done`, a runner that is stopped, one that no
longer beats, or one that misses what it promised by `expect`: the runner is killed if it is still
there, and the run is undone from its journal. Lines from the runner:

    start JSON   the run's folder and its variables (kept in memory only)
    beat         the runner lives
    expect T     the next `expect`, or `done`, comes before CLOCK_MONOTONIC T
    done         nothing is left to guard

It answers one byte, `r`, when it watches and has loaded what an undo needs; its end tells
the runner that it is gone.
"""

# Imports are kept to what a watch needs: a runner that dies early is noticed early.
import contextlib
import os
import select
import sys
import time

from chaoskit.freezer import frozen

TICK = 0.05
STOPPED = 0.25
"""Seconds without a beat after which a runner in state T is taken for frozen."""
SILENT = 0.6
"""Seconds without a beat after which a runner of which no thread wants to run is taken for hung."""
STARVED = 5.0
"""Seconds without a beat after which one that wants to run but gets no processor is, too."""
FROZEN = 0.3
"""Seconds after its SIGKILL in which a runner that can end has ended."""


class Watch:
    """What the guardian knows of its runner."""

    def __init__(self) -> None:
        self.header: dict[str, object] = {}
        self.beaten = time.monotonic()
        self.expected = float("inf")
        self.done = False
        self.journal = -1
        self._rest = b""

    def hear(self, data: bytes) -> None:
        self.beaten = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"start":
                import json

                self.header = json.loads(value)
            elif word == b"expect":
                self.expected = float(value)
            elif word == b"done":
                self.done = True

    def verdict(self, pid: int) -> str:
        """Why the runner must go, or ""."""
        silent = time.monotonic() - self.beaten
        if time.monotonic() > self.expected:
            return "the runner hung: it missed its own deadline"
        if silent > STARVED:
            return "the runner hung: no sign of life from it"
        if silent > STOPPED:
            states = thread_states(pid)
            if states and states <= {"T", "t"}:
                return "the runner was stopped"
            if frozen(pid):
                return "the runner was frozen by its control group"
            # One that waits for a processor or for a disk is not hung yet.
            if silent > SILENT and not states & {"R", "D"}:
                return "the runner hung: no sign of life from it"
        return ""


def thread_states(pid: int) -> set[str]:
    """The state letters of all threads of a process; empty when it is gone."""
    states = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                states.add(file.read().rpartition(b")")[2].split()[0].decode())
    except OSError:
        pass
    return states


def watch() -> tuple[Watch, str]:
    """Watch until the runner is done, dead or to be killed; why, "" when it is done."""
    state = Watch()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    ready = False
    last = time.monotonic()
    while True:
        heard = poll.poll(TICK * 1000)
        if time.monotonic() - last > 10 * TICK:
            # We did not run ourselves (a busy or suspended machine): nothing follows from that.
            state.beaten = time.monotonic()
        last = time.monotonic()
        if heard:
            data = os.read(0, 65536)
            if not data:
                return state, "" if state.done else "the runner died"
            state.hear(data)
            if state.done:
                return state, ""
            if state.header and not ready:
                ready = True
                preload(state.header)
                state.journal = open_journal(str(state.header["folder"]))
                # A runner that is dead already hears no answer; its end comes with the next read.
                with contextlib.suppress(BrokenPipeError):
                    os.write(1, b"r")
                last = state.beaten = time.monotonic()
        elif state.header and (why := state.verdict(int(str(state.header["runner"])))):
            return state, why


def preload(header: dict[str, object]) -> None:
    """Everything that this run's undo needs, in memory: the disk may be full or gone by then.

    What does not load ends the guardian, and that ends the run.
    """
    from chaoskit import recovery, registry

    faults, targets = header["faults"], header["targets"]
    assert recovery and isinstance(faults, list) and isinstance(targets, list)
    for name, kind in faults:
        registry.fault(name, kind)
    for kind in targets:
        registry.selector(kind)


def main() -> None:
    lower_oom_score()
    os.chdir("/")
    state, why = watch()
    if not why or not state.header:
        return
    # What we start is no part of chaoskit, and finds its modules as the runner would have had it.
    os.environ.pop("PYTHONPATH", None)
    if then := state.header.get("python_path"):
        os.environ["PYTHONPATH"] = str(then)
    from pathlib import Path

    from chaoskit.recovery import bring_back, put_back

    runner = int(str(state.header["runner"]))
    still = False
    if why != "the runner died":
        kill(runner)
        still = frozen(runner) is True
    header = state.header
    home, run = Path(str(header["state"])), Path(str(header["folder"])).name
    folder = bring_back(home, run, state.journal)
    lock = folder.lock()
    # The runner's end, and that of children it had only just begun, gives the lock free. One that
    # is frozen by its control group keeps it; but it has been killed, and will never run again.
    if not lock.take(FROZEN if still else 30.0) and not still:
        print(f"the run's lock is still held after 30 s; {why}", file=sys.stderr)
        return
    records = folder.records()
    # A marker that is gone while the journal has no end was taken away by somebody else.
    if folder.clean() and any(record["kind"] == "end" for record in records):
        return
    environment = header["environment"]
    assert isinstance(environment, dict)
    stuck = put_back(folder, records, by="guardian", reason=why, environment=environment)
    if folder.state.path != home and not stuck:
        import shutil

        shutil.rmtree(folder.state.path)  # The emergency's own.


def open_journal(folder: str) -> int:
    """Held open, so that it can be read even when somebody has deleted the state folder."""
    try:
        return os.open(folder + "/journal.jsonl", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def kill(runner: int) -> None:
    """End the runner. It is our parent, so its pid is its own until we are told of its end."""
    import signal

    if os.getppid() == runner:
        os.kill(runner, signal.SIGKILL)


def lower_oom_score() -> None:
    """The last to be killed when memory runs out, as far as we may say so."""
    for score in ("-900", "0"):
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(score)
            return
        except OSError:
            continue


if __name__ == "__main__":
    main()
