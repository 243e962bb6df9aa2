"""Chooses targets inside the blast radius, or says why not."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chaoskit.model.binding import Binding
from chaoskit.model.experiment import BlastRadius, FaultStep, Pick
from chaoskit.model.target import Target
from chaoskit.safety.claims import Held, holder

NOBODY: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, of how many that match and may be touched. refusals: why not, if not.

    passed_over: those that match and were left out, each with the reason.
    """

    matched: int
    targets: tuple[Target, ...]
    refusals: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


def choose(
    step: FaultStep,
    pick: Pick,
    binding: Binding,
    limits: BlastRadius,
    seed: int,
    *,
    held: Sequence[Held] = (),
    hurt: Mapping[str, frozenset[str]] = NOBODY,
    gone: Collection[str] = (),
    lost: int = 0,
    spent: int = 0,
    prefer: Collection[str] = (),
) -> Choice:
    """Find the step's targets and pick among them by the seed.

    held: what other runs claim; it is not chosen and counts as hurt. hurt: the targets that this
    run is hurting already, each with all keys that are part of it; they count once. gone: keys
    that are not to be chosen, for an earlier step ends them for good. lost: how many of those that
    matched once were ended by this run and have no successor. spent: how many of the stages before
    do not match any more: what is picked is the sum. prefer: keys to take first, where they still
    match: those of the plan, or of the stage before.

    A match that is part of another target's tree is hurt with it, and counts.
    Raises Refused when the selector cannot look at all.
    """
    what = step.selector.describe()
    found = step.selector.find(binding)
    if not found:
        return Choice(0, (), (f"{what} matches nothing",))
    eligible, passed_over = _eligible(found, limits)
    if not eligible:
        return Choice(0, (), (f"{what} matches only what is protected: {passed_over[0]}",))
    taken = {t.key: other for t in eligible if (other := holder(t.claim(), list(held)))}
    passed_over += [
        f"{t.label} is held by run {taken[t.key].run}" for t in eligible if t.key in taken
    ]
    free = [t for t in eligible if t.key not in taken and t.key not in gone]
    wanted = max(0, pick.of(len(eligible) + min(lost, spent)) - spent)
    if len(free) < wanted:
        why = passed_over[-1] if passed_over else "an earlier step ends the others"
        return Choice(
            len(eligible),
            (),
            (f"{what}: {wanted} wanted, {len(free)} free: {why}",),
            tuple(passed_over),
        )
    first = [target for target in free if target.key in prefer][:wanted]
    rest = [target for target in free if target not in first]
    # The step's number is part of the seed: two steps of a run do not mirror each other.
    draw = random.Random(f"{seed}:{binding.step}")
    chosen = first + draw.sample(rest, wanted - len(first))
    order = {target.key: index for index, target in enumerate(eligible)}
    chosen.sort(key=lambda target: order[target.key])
    covered = frozenset().union(*hurt.values(), *(target.claim().keys for target in chosen))
    ours = {target.key for target in eligible if target.key in covered}
    broken = _broken_limits(
        what, limits, len(eligible) + lost, len(ours | set(taken)) + lost, len(ours | set(hurt))
    )
    return Choice(len(eligible), tuple(chosen), tuple(broken), tuple(passed_over))


def _eligible(found: Sequence[Target], limits: BlastRadius) -> tuple[list[Target], list[str]]:
    eligible, passed_over = [], []
    for target in found:
        if reason := target.protected(limits.allow_users):
            passed_over.append(f"{target.label}: {reason}")
        else:
            eligible.append(target)
    return eligible, passed_over


def _broken_limits(
    what: str, limits: BlastRadius, matched: int, hurt_here: int, hurt_in_all: int
) -> list[str]:
    """hurt_here: of this selector's matches, over all runs. hurt_in_all: by this run."""
    broken = []
    if limits.max_targets is not None and hurt_in_all > limits.max_targets:
        broken.append(
            f"{what}: {hurt_in_all} targets would be hurt at once, max-targets is "
            f"{limits.max_targets}"
        )
    if limits.max_percent is not None and hurt_here > limits.max_percent * matched + 1e-9:
        broken.append(
            f"{what}: {hurt_here} of {matched} would be hurt ({hurt_here / matched:.0%}), "
            f"max-percent is {limits.max_percent * 100:g}%"
        )
    if limits.min_healthy is not None and matched - hurt_here < limits.min_healthy:
        broken.append(
            f"{what}: {matched - hurt_here} of {matched} would stay healthy, min-healthy is "
            f"{limits.min_healthy}"
        )
    return broken
