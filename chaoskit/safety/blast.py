"""Chooses targets inside the blast radius, or says why not."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chaoskit.model.binding import Binding
from chaoskit.model.experiment import BlastRadius, FaultStep, Pick
from chaoskit.model.target import Target
from chaoskit.safety.claims import Held, holder


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
    hurt: Collection[str] = (),
    prefer: Collection[str] = (),
) -> Choice:
    """Find the step's targets and pick among them by the seed.

    held: what other runs claim; it is not chosen and counts as hurt. hurt: keys of targets that
    this run is hurting already; they count once. prefer: keys to take first, where they still
    match: those of the plan, or of the stage before.
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
    free = [target for target in eligible if target.key not in taken]
    wanted = pick.of(len(eligible))
    if len(free) < wanted:
        return Choice(
            len(eligible),
            (),
            (f"{what}: {wanted} wanted, {len(free)} free: {passed_over[-1]}",),
            tuple(passed_over),
        )
    first = [target for target in free if target.key in prefer][:wanted]
    rest = [target for target in free if target not in first]
    # The step's number is part of the seed: two steps of a run do not mirror each other.
    draw = random.Random(f"{seed}:{binding.step}")
    chosen = first + draw.sample(rest, wanted - len(first))
    order = {target.key: index for index, target in enumerate(eligible)}
    chosen.sort(key=lambda target: order[target.key])
    keys = {target.key for target in chosen}
    here = keys | set(taken) | {t.key for t in eligible if t.key in hurt}
    return Choice(
        len(eligible),
        tuple(chosen),
        tuple(_broken_limits(what, limits, len(eligible), len(here), len(keys | set(hurt)))),
        tuple(passed_over),
    )


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
