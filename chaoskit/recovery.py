"""Undoing a run whose runner is dead: what the guardian does at once, and `recover` later."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaoskit.clock import now
from chaoskit.errors import ChaoskitError, Gone, StateError
from chaoskit.journal import Cell, Journal, RunFolder, State, cells
from chaoskit.model.redact import Redactor
from chaoskit.model.result import Result
from chaoskit.model.verdict import Verdict
from chaoskit.undo import Live, revive_all, undo_run

COMMAND_VARIABLE = "CHAOSKIT_COMMAND"
"""In the environment of every command that a run starts: its mark, so that it can be found."""


def put_back(
    folder: RunFolder,
    records: Sequence[Mapping[str, Any]],
    *,
    by: str,
    reason: str,
    environment: Mapping[str, str],
    accept: Collection[int] = (),
    force: Collection[int] = (),
    who: str = "",
) -> list[Cell]:
    """Undo what a dead run left, from its journal alone; the caller holds the run's lock.

    by: `guardian` or `recover`. reason: what happened to the runner. accept: cells whose value
    is taken as the new truth; force: cells that get their old value whatever they hold now.
    Returns the cells that are stuck.
    """
    head = next((r for r in records if r["kind"] == "run"), {})
    secret = {name: environment[name] for name in head.get("secrets", []) if name in environment}
    journal = Journal(folder.path, Redactor(secret), folder.state.file_mode)
    journal.began = _began(head)
    try:
        journal.note("recovery", by=by, who=who, text=f"{by}: {reason}")
        every = cells(records)
        known = {cell.number for cell in every if not cell.over}
        if wrong := sorted((set(accept) | set(force)) - known):
            raise ChaoskitError(f"run {folder.id} has no open cell {wrong[0]}")
        _end_commands(folder.id, every)
        for cell in every:
            if cell.number in accept:
                cell.over = "accepted"
                journal.note("undone", cell=cell.number, how="accepted", who=who)
        lives = revive_all(every, folder, environment, journal)
        for live in lives:
            if live.cell.number in force:
                _overwrite(live, journal, who)
        undo_run(lives, journal)
        stuck = [cell for cell in every if not cell.over]
        if stuck:
            ruling, told = Verdict.STUCK, f"{reason}; {len(stuck)} cells could not be undone"
        else:
            one_way = any(cell.over == "one way" for cell in every)
            what = "everything that can be" if one_way else "everything"
            ruling, told = Verdict.ABORTED, f"{reason}; {_whom(by)} put {what} back"
        if stuck or not any(r["kind"] == "verdict" for r in records if r is not head):
            journal.note("verdict", verdict=ruling.value, reason=told, learnt=[])
        elif any(r["kind"] == "verdict" and r["verdict"] == "stuck" for r in records):
            journal.note("verdict", verdict="aborted", reason=told, learnt=[])
        journal.note("end", by=by, clean=not stuck, text=told)
        journal.sync()
        if not stuck:
            folder.settled()
        return stuck
    finally:
        journal.close()


def bring_back(home: Path, run: str, journal: int) -> RunFolder:
    """The run's folder; written anew where its files were deleted, moved or replaced under it, for
    nothing was undone by that. Somewhere else when nothing can be written at its place any more.

    home: the state folder. journal: a descriptor of the journal that the run wrote, or -1.
    """
    folder = RunFolder(State(home), run)
    path = folder.path / "journal.jsonl"
    with contextlib.suppress(OSError):
        same = journal < 0 or os.path.samestat(path.stat(), os.fstat(journal))
        if same and os.access(path, os.W_OK):
            return folder
    if journal < 0:
        return folder
    data = os.pread(journal, os.fstat(journal).st_size, 0)
    try:
        return folder.state.rewrite(run, data)
    except StateError:
        import tempfile

        return State(Path(tempfile.mkdtemp(prefix="chaoskit-"))).rewrite(run, data)


def _whom(by: str) -> str:
    return "the guardian" if by == "guardian" else "`chaoskit recover`"


def _began(head: Mapping[str, Any]) -> float:
    """When the run began on this boot's monotonic clock, so that `t` goes on counting."""
    from chaoskit.procfs import boot_id

    if head.get("boot") == boot_id():
        return float(head["mono"])
    return now() - max(0.0, time.time() - float(head.get("wall", time.time())))


def _overwrite(live: Live, journal: Journal, who: str) -> None:
    journal.note("forced", cell=live.cell.number, who=who)
    try:
        live.fault.overwrite(live.target, live.cell.change)
    except Gone:
        pass
    except Exception as error:
        live.cell.why = f"forcing it failed: {error}"


def _end_commands(run: str, every: Iterable[Cell]) -> None:
    """End what the dead runner's probes and unfinished actions left running.

    An action that had finished may have started a service on purpose: that is not touched.
    """
    from chaoskit.procfs import with_environment

    unfinished = [f"chaoskit-{run}-{c.step}" for c in every if not c.made and not c.over]
    unfinished += [f"chaoskit-{run}-{c.step}-undo" for c in every if not c.over]
    for mark in [f"chaoskit-{run}-probe", *unfinished]:
        for process in with_environment(f"{COMMAND_VARIABLE}={mark}".encode()):
            with contextlib.suppress(Gone, PermissionError):
                process.signal(signal.SIGKILL)


def recover(
    folder: RunFolder,
    *,
    accept: Collection[int] = (),
    force: Collection[int] = (),
    variables: Mapping[str, str] | None = None,
) -> Result:
    """Undo what a run left behind whose runner and guardian are gone.

    variables: the values of the run's variables, where undoing needs them; the environment is
    looked at too. Raises ChaoskitError when the run is still going on, when a cell is unknown, or
    when the run is another user's and this one may not undo it; StateError.
    """
    from chaoskit.safety.halt import who

    if not os.access(folder.path, os.R_OK | os.W_OK | os.X_OK):
        if os.getuid() == folder.path.stat().st_uid:
            raise ChaoskitError(
                f"nothing can be written in {folder.path}, so what is undone could not be noted: "
                f"make it writable, then recover"
            )
        raise ChaoskitError(_not_yours(folder))
    lock = folder.lock()
    if not lock.take(1.0):
        raise ChaoskitError(f"run {folder.id} is still going on: its runner or guardian has it")
    try:
        records = folder.records()
        head = next((r for r in records if r["kind"] == "run"), {})
        if not head and not folder.clean():
            raise ChaoskitError(
                f"the journal of run {folder.id} is lost, so what it had in is not known: look "
                f"with `chaoskit recover --scan`, then remove {folder.marker}"
            )
        if os.getuid() not in (0, head.get("uid", os.getuid())):
            raise ChaoskitError(_not_yours(folder, str(head.get("who", ""))))
        if not folder.clean() and (why := _elsewhere(head, records, {*accept, *force})):
            raise ChaoskitError(f"run {folder.id} {why}")
        environment = {
            name: value
            for name in head.get("variables", [])
            if (value := (variables or {}).get(name, os.environ.get(name))) is not None
        }
        if not folder.clean():
            from chaoskit.targets.restart import CALLED

            for note in folder.path.glob(f"*{CALLED}"):
                note.unlink(missing_ok=True)
            put_back(
                folder,
                records,
                by="recover",
                reason="the run died before it could undo",
                environment=environment,
                accept=accept,
                force=force,
                who=who(),
            )
    finally:
        lock.drop()
    return folder.result()


def _elsewhere(
    head: Mapping[str, Any], records: Sequence[Mapping[str, Any]], decided: Collection[int]
) -> str:
    """Why its processes are not to be looked for here: a state folder may be on a disk that several
    machines see, and to each the processes of another are gone."""
    from chaoskit.namespaces import pid_namespace
    from chaoskit.procfs import boot_id, machine_id

    then, here = head.get("machine", ""), machine_id()
    same = head.get("boot") == boot_id()
    left = [cell for cell in cells(records) if not cell.over and cell.number not in decided]
    if same and head.get("pids", "") not in ("", pid_namespace()):
        where = "among processes that are not seen here, in another container perhaps"
        known = "there, or by --force if that container has ended"
        if not any(_of_a_process(cell) for cell in left):
            return ""
    else:
        where, known = "on another machine", "there"
        if not (then and here) or then == here or same or not any(map(_of_a_machine, left)):
            return ""
    return (
        f"was begun {where} (by {head.get('who', 'somebody')}), and what it hurt there "
        f"is not to be seen from here: recover it {known}, or take it as it is by --accept"
    )


def _of_a_process(cell: Cell) -> bool:
    """Whether it is told by a process's number."""
    from chaoskit.procfs import Process

    try:
        Process.from_key(str(cell.change.key))
    except ValueError:
        return False
    return True


def _of_a_machine(cell: Cell) -> bool:
    """Whether only the machine knows of it that it was made on. A daemon and a proxy server that
    are far away are the same from everywhere."""
    from chaoskit.targets.proxy_client import is_loopback

    ref = cell.target["ref"]
    match cell.target["kind"]:
        case "docker":
            return str(ref["place"]["url"]).startswith("unix:")
        case "proxy" if not ref["own"]:
            return is_loopback(urlsplit(str(ref["url"])).hostname or "")
    return True


def _not_yours(folder: RunFolder, who: str = "") -> str:
    import pwd

    try:
        owner = who or pwd.getpwuid(folder.path.stat().st_uid).pw_name
    except (KeyError, OSError):
        owner = who or "another user"
    return f"run {folder.id} is {owner}'s: it can be undone by them or by root"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something in the world that carries a run's mark, whatever any journal says.

    run: the run id in its mark. end: removes it.
    """

    run: str
    kind: str
    text: str
    end: Callable[[], None]


def scan(state: State, folders: Sequence[Path], unseen: Callable[[str], None]) -> list[Leftover]:
    """Find what marks of ours are left on this machine without any journal: helper processes,
    tables of rules in any network that a process is in, toxics on a proxy server in the usual
    place, and filler files in `folders`. What belongs to a run that is going on is left out.
    A netem qdisc has no room for a mark: one of ours is known from its run's journal only.

    unseen: told of each place that could not be looked at, and why.
    """
    from chaoskit.docker.client import daemon, where
    from chaoskit.procfs import with_argument
    from chaoskit.targets.burdens import leftover_helpers
    from chaoskit.targets.far_network import leftover_helper_containers
    from chaoskit.targets.files import leftover_fillers
    from chaoskit.targets.network import leftover_tables
    from chaoskit.targets.proxy import DEFAULT_URL, leftover_toxics
    from chaoskit.targets.proxy_process import leftover_proxies, part
    from chaoskit.targets.resolver import leftover_resolvers

    busy = {folder.id for folder in state.unsettled() if folder.in_use()}

    def going_on(run: str) -> bool:
        """Here, or in a state folder that we do not know: then its guardian is seen."""
        return run in busy or bool(with_argument(f"chaoskit-{run}"))

    # In this order: a proxy to which rules lead takes them away itself, with care for those who are
    # connected; and rules that lead to a helper lead nowhere without it.
    found = [
        Leftover(_run_of(mark), "process", f"proxy {process.pid} ({mark})", partial(part, process))
        for mark, process in leftover_proxies()
    ]
    found += [
        Leftover(_run_of(name), "table", f"table {name} in network namespace {number}", end)
        for name, number, end in leftover_tables(unseen)
    ]
    found += [
        Leftover(
            _run_of(mark),
            "process",
            f"helper process {process.pid} ({mark})",
            partial(process.signal, signal.SIGKILL),
        )
        for mark, process in (*leftover_helpers(), *leftover_resolvers())
    ]
    try:
        found += [
            Leftover(_run_of(mark), "container", f"helper container of {mark}", end)
            for mark, end in leftover_helper_containers(daemon(where(None)))
        ]
    except ChaoskitError as error:
        unseen(f"helper containers: {error}")
    found += [
        Leftover(_run_of(name), "toxic", f"toxic {name} on link {link} of {DEFAULT_URL}", end)
        for name, link, end in leftover_toxics(DEFAULT_URL, unseen)
    ]
    found += [
        Leftover(_run_of(path.name.lstrip(".")), "file", f"filler file {path}", path.unlink)
        for path in leftover_fillers(folders, unseen)
    ]
    return [left for left in found if not going_on(left.run)]


def _run_of(mark: str) -> str:
    """`20261123-053812-3f9a1c` of `chaoskit-20261123-053812-3f9a1c-2.1-812-1`."""
    return "-".join(mark.split("-")[1:4])
