"""What a journal tells: which cells may still hold something of ours, and what the run came to.

Pure: records in, values out. The undo starts from `cells`, every report from `summarise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaoskit.model.fault import Change
from chaoskit.model.params import shown
from chaoskit.model.result import CheckResult, Left, Result, StepResult
from chaoskit.model.units import Json
from chaoskit.model.verdict import Verdict

Record = Mapping[str, Any]


@dataclass(slots=True)
class Cell:
    """One change as journaled, and how far it got.

    fault, params, target: as the journal keeps them, enough to make both again.
    made: the change is known to be in. over: how it ended (`undone`, `was`, `gone`, `one way`,
    `accepted`); "" while it may still be in. found, why: of the last try to undo it that failed.
    """

    number: int
    step: str
    fault: str
    params: Mapping[str, Any]
    target: Mapping[str, Any]
    change: Change
    made: bool = False
    over: str = ""
    found: Json = None
    why: str = ""

    def left(self) -> Left:
        change = self.change
        return Left(
            cell=self.number,
            fault=self.fault,
            target=str(self.target.get("label", "")),
            key=str(shown(change.key)),
            was=shown(change.was),
            put=shown(change.put),
            found=self.found,
            why=self.why or "nobody has undone it yet",
        )


def cells(records: Iterable[Record]) -> list[Cell]:
    """Every change of a journal, in the order they were made."""
    found: dict[int, Cell] = {}
    for record in records:
        kind = record["kind"]
        if kind == "change":
            found[record["cell"]] = Cell(
                number=record["cell"],
                step=record["step"],
                fault=record["fault"],
                params=record["params"],
                target=record["target"],
                change=Change(record["key"], record["was"], record["put"]),
            )
        elif (cell := found.get(record.get("cell", -1))) is not None:
            if kind == "made":
                cell.made = True
            elif kind == "undone":
                cell.over = record["how"]
            elif kind == "stuck":
                cell.found, cell.why = record["found"], record["why"]
    return list(found.values())


@dataclass(slots=True)
class _Step:
    number: str
    text: str
    what: str
    targets: tuple[str, ...]
    times: dict[str, float] = field(default_factory=dict)
    proofs: dict[str, bool] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)
    problem: str = ""
    one_way: bool = False
    stages: int = 0

    def result(self) -> StepResult:
        return StepResult(
            number=self.number,
            text=self.text,
            kind=self.what,
            targets=self.targets,
            began=self.times.get("began"),
            injected=self.times.get("injected"),
            undone=self.times.get("undone"),
            undo_took=self.times.get("took"),
            proven=self.proofs.get("injected"),
            proven_again=self.proofs.get("held"),
            outcomes=tuple(self.outcomes),
            problem=self.problem,
            acted=self.times.get("acted"),
            one_way=self.one_way,
            stages=self.stages,
        )

    @property
    def place(self) -> list[int]:
        """Where it stands in the file: those of a `parallel` begin in any order."""
        return [int(part) for part in self.number.split(".")]


@dataclass(slots=True)
class _Check:
    name: str
    probe: str
    expect: str
    counts: dict[str, int] = field(default_factory=dict)
    first_failure: str = ""
    before: tuple[str, str] = ("", "")
    after: tuple[str, str] = ("", "")

    def feed(self, record: Record) -> None:
        sight, detail = record["sight"], record.get("detail", "")
        phase = record.get("phase", "during")
        if phase == "before":
            self.before = (sight, detail)
        elif phase == "verify":
            self.after = (sight, detail)
        else:
            self.counts[sight] = self.counts.get(sight, 0) + 1
            if sight != "ok" and not self.first_failure:
                self.first_failure = f"at {record['t']:.1f}s: {detail}"

    def result(self) -> CheckResult:
        return CheckResult(
            name=self.name,
            probe=self.probe,
            expect=self.expect,
            before=self.before[0],
            before_detail=self.before[1],
            during_ok=self.counts.get("ok", 0),
            during_failed=self.counts.get("failed", 0),
            during_unread=self.counts.get("unread", 0),
            first_failure=self.first_failure,
            after=self.after[0],
            after_detail=self.after[1],
        )


def summarise(records: Sequence[Record], folder: Path, in_use: bool = False) -> Result:
    """The run that these records tell of."""
    head: Record = next((r for r in records if r["kind"] == "run"), {})
    end: Record = next((r for r in reversed(records) if r["kind"] == "end"), {})
    ruled: Record = next((r for r in reversed(records) if r["kind"] == "verdict"), {})
    steps: dict[str, _Step] = {}
    checks = {c["name"]: _Check(c["name"], c["probe"], c["expect"]) for c in head.get("checks", [])}
    timeline: list[tuple[float, str]] = []
    for record in records:
        if text := record.get("text"):
            timeline.append((record["t"], text))
        if record["kind"] == "sample" and record["check"] in checks:
            checks[record["check"]].feed(record)
        elif record["kind"] == "step":
            steps[record["step"]] = _Step(
                record["step"],
                record["title"],
                record["what"],
                tuple(record["targets"]),
                {"began": record["t"]},
                one_way=record.get("one_way", False),
            )
        elif (step := steps.get(record.get("step", ""))) is not None:
            _tell(step, record)
    left = tuple(cell.left() for cell in cells(records) if not cell.over)
    state = "running" if in_use else "done" if end.get("clean") else "left"
    return Result(
        run=str(head.get("run", folder.name)),
        title=str(head.get("title", "")),
        file=str(head.get("file", "")),
        state=state,
        verdict=Verdict(ruled["verdict"]) if ruled else None,
        reason=str(ruled.get("reason", "")),
        hypothesis=str(head.get("hypothesis", "")),
        tags=tuple(head.get("tags", ())),
        who=str(head.get("who", "")),
        why=str(head.get("why", "")),
        started=str(head.get("at", "")),
        ended=str(end.get("at", "")),
        seconds=float(end.get("t", records[-1]["t"] if records else 0.0)),
        seed=int(head.get("seed", 0)),
        plan_hash=str(head.get("plan_hash", "")) or _plan_hash(records),
        undone_by=str(end.get("by", "")),
        steps=tuple(step.result() for step in sorted(steps.values(), key=lambda s: s.place)),
        checks=tuple(check.result() for check in checks.values()),
        left=left,
        learnt=tuple(ruled.get("learnt", ())),
        timeline=tuple(timeline),
        folder=str(folder),
        version=str(head.get("version", "")),
    )


def _plan_hash(records: Sequence[Record]) -> str:
    return next((str(r["hash"]) for r in records if r["kind"] == "plan"), "")


def _tell(step: _Step, record: Record) -> None:
    match record["kind"]:
        case "injected":
            step.times.setdefault("injected", record["t"])
            step.stages += 1
            step.targets = tuple(record["targets"])
        case "proof":
            step.proofs[record["when"]] = record["ok"]
        case "outcome":
            step.outcomes.append(record["told"])
        case "acted":
            step.times["acted"] = record["t"]
        case "problem":
            step.problem = record["told"]
        case "released":
            step.times["undone"] = record["t"]
            step.times["took"] = record["took"]
