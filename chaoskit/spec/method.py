"""The method: steps that break, act and wait, in order or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chaoskit.model.experiment import (
    DEFAULT_HOLD,
    FaultStep,
    HttpAction,
    OnRestart,
    Parallel,
    Pick,
    RunAction,
    Step,
    WaitAction,
)
from chaoskit.model.target import Target
from chaoskit.model.units import Duration
from chaoskit.registry import kinds_of, lacking, names
from chaoskit.spec.decode import BAD, Decoder
from chaoskit.spec.known import look_up
from chaoskit.spec.nodes import Entry, Listing, Node, Scalar, Table, describe
from chaoskit.spec.patterns import parse_share
from chaoskit.spec.problems import meant, quoted

KINDS = ("fault", "run", "http", "wait", "parallel")
FAULT_KEYS = ("fault", "target", "for", "stages", "on-restart")


class Method:
    """Reads the steps of one file."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def read(self, node: Node) -> tuple[Step, ...] | Any:
        """The whole method, or BAD."""
        return self._steps(node, "step", inside=False)

    def _steps(self, node: Node, what: str, inside: bool) -> Any:
        if isinstance(node, Scalar) and node.broken:
            return BAD
        if not isinstance(node, Listing) or not node.items:
            found = "none" if isinstance(node, Listing) else describe(node)
            return self._decoder.bad(node, f"expected a list of at least one {what}, found {found}")
        steps = tuple(self._step(item, inside) for item in node.items)
        return BAD if any(step is BAD for step in steps) else steps

    def _step(self, node: Node, inside: bool) -> Any:
        if not isinstance(node, Table):
            broken = isinstance(node, Scalar) and node.broken
            return BAD if broken else self._decoder.wrong(node, f"a step ({', '.join(KINDS)})")
        kinds = [key for key in node.entries if key in KINDS]
        if len(kinds) > 1:
            at = node.entries[kinds[1]].at
            self._decoder.problems.add(at, f"a step is one thing: {kinds[0]} or {kinds[1]}")
            return BAD
        if not kinds:
            like = next((told for key in node.entries if (told := meant(key, KINDS))), "")
            return self._decoder.bad(node, f"a step has one of the keys {', '.join(KINDS)}{like}")
        match kinds[0]:
            case "fault":
                return self._fault(node)
            case "run":
                return self._decoder.fields(RunAction, node)
            case "http":
                return self._http(node)
            case "wait":
                return self._decoder.fields(WaitAction, node)
        self._decoder.unknown(node, ["parallel"])
        at, inner = node.entries["parallel"]
        if inside:
            self._decoder.problems.add(at, "parallel inside parallel: one list is enough")
            return BAD
        steps = self._steps(inner, "step", inside=True)
        return BAD if steps is BAD else Parallel(steps, self._decoder.where(node))

    def _http(self, node: Table, undoes: bool = False) -> HttpAction | Any:
        keys = ["http"] if undoes else ["http", "undo"]
        self._decoder.unknown(node, keys)
        if "http" not in node.entries:
            return self._decoder.bad(node, "the key 'http' is missing")
        action = self._decoder.fields(HttpAction, node.entries["http"].node)
        if "undo" not in node.entries or undoes:
            return action
        inner = node.entries["undo"].node
        if not isinstance(inner, Table):
            return self._decoder.wrong(inner, "a request, as {http: {url: ...}}")
        undo = self._http(inner, undoes=True)
        return BAD if BAD in (action, undo) else replace(action, undo=undo)

    def _fault(self, node: Table) -> FaultStep | Any:
        decoder = self._decoder
        entry = node.entries["fault"]
        name = decoder.text(entry.node)
        on, selector, pick = "", BAD, BAD
        if "target" in node.entries:
            inner = node.entries["target"].node
            on = next((key for key in _keys(inner) if key in names("targets")), "")
            selector, pick = self._target(inner, "stages" in node.entries)
        else:
            decoder.bad(node, "the key 'target' is missing")
        kind: Any = BAD
        if name is not BAD:
            kind = look_up("faults", name, entry.node.at, decoder.problems, on=on)
        if kind is not BAD and selector is not BAD and (missing := lacking(kind, type(selector))):
            fits = [one for kinds in kinds_of(name).values() for one in kinds]
            why = f"only on: {', '.join(fits)}" if fits else f"it lacks {', '.join(missing)}"
            return decoder.bad(entry.node, f"{name} is not possible on a {selector.kind}; {why}")
        fault = BAD if kind is BAD else decoder.fields(kind, node, FAULT_KEYS)
        hold: Any = DEFAULT_HOLD
        if "for" in node.entries:
            hold = decoder.value(Duration, node.entries["for"].node)
        stages: Any = ()
        if "stages" in node.entries:
            stages = self._stages(node.entries["stages"].node)
        again: Any = "end"
        if "on-restart" in node.entries:
            again = self._on_restart(node.entries["on-restart"], selector)
        if any(part is BAD for part in (fault, selector, pick, hold, stages, again)):
            return BAD
        return FaultStep(fault, selector, pick, hold, decoder.where(node), stages, again)

    def _on_restart(self, entry: Entry, selector: Any) -> Any:
        if selector is not BAD and type(selector).target.reborn is Target.reborn:
            told = f"a {selector.kind} that has ended does not come back as the same: leave it out"
            self._decoder.problems.add(entry.at, told)
            return BAD
        return self._decoder.value(OnRestart, entry.node)

    def _target(self, node: Node, staged: bool) -> tuple[Any, Any]:
        """The selector and how many of what it finds."""
        decoder = self._decoder
        if isinstance(node, Scalar) and node.broken:
            return BAD, BAD
        if not isinstance(node, Table):
            return decoder.wrong(node, "a target, as {process: {name: worker}}"), BAD
        pick: Any = Pick(count=1)
        if "pick" in node.entries:
            at, inner = node.entries["pick"]
            pick = self.pick(inner)
            if staged:
                decoder.problems.add(at, "the stages say how many: leave pick out")
        kinds = [key for key in node.entries if key != "pick"]
        found = {}
        for key in kinds:
            kind = look_up("targets", key, node.entries[key].at, decoder.problems, ["pick"])
            if kind is not BAD:
                found[key] = decoder.fields(kind, node.entries[key].node)
        if len(found) > 1:
            first, second = list(found)[:2]
            told = f"a target is of one kind: {first} or {second}"
            decoder.problems.add(node.entries[second].at, told)
        elif not kinds:
            decoder.bad(node, "no kind of target is named, as {process: {name: worker}}")
        return (next(iter(found.values())), pick) if len(found) == len(kinds) == 1 else (BAD, pick)

    def _stages(self, node: Node) -> Any:
        if not isinstance(node, Listing) or not node.items:
            return self._decoder.wrong(node, "a list of how many, as [1, 25%, 50%]")
        picks = tuple(self.pick(item) for item in node.items)
        if any(pick is BAD for pick in picks):
            return BAD
        for before, after, item in zip(picks, picks[1:], node.items[1:], strict=False):
            if _narrows(before, after):
                return self._decoder.bad(item, f"stages widen: {after} is no more than {before}")
        return picks

    def pick(self, node: Node) -> Pick | Any:
        """How many: a count from 1, a percentage, or all; or BAD."""
        if isinstance(node, Scalar):
            if node.broken:
                return BAD
            if node.value == "all":
                return Pick(every=True)
            if isinstance(node.value, str):
                try:
                    return Pick(fraction=parse_share(node.value))
                except ValueError:
                    pass
            elif type(node.value) is int and node.value >= 1:
                return Pick(count=node.value)
        return self._decoder.wrong(node, "a number from 1, a percentage up to 100%, or all")


def _keys(node: Node) -> Sequence[str]:
    return list(node.entries) if isinstance(node, Table) else []


def _narrows(before: Pick, after: Pick) -> bool:
    if before.every:
        return True
    if before.count is not None and after.count is not None:
        return after.count <= before.count
    if before.fraction is not None and after.fraction is not None:
        return after.fraction <= before.fraction
    return False


def unknown_name(name: str, names: Sequence[str]) -> str:
    """What to say of a check that nothing is called like."""
    return f"no check is called {quoted(name)}; there are: {', '.join(names)}{meant(name, names)}"
