"""Chooses targets inside the blast radius, or says why not."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chaoskit.model.binding import Binding
from chaoskit.model.experiment import BlastRadius, FaultStep, Pick
from chaoskit.model.target import Target
from chaoskit.safety.claims import Held, holder, mark_of

NOBODY: Mapping[str, frozenset[str]] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, of how many that match and may be touched. refusals: why not, if not.

    passed_over: those that match and were left out, each with the reason. spent: how many of the
    stages before cannot be picked again, as they have ended or are protected by now; they count.
    """

    matched: int
    targets: tuple[Target, ...]
    refusals: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    spent: int = 0


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
    ended: Collection[str] = (),
    most: int = 0,
    done: Collection[str] = (),
    prefer: Sequence[str] = (),
) -> Choice:
    """Find the step's targets and pick among them by the seed.

    held: what other runs claim; it is not chosen and counts as hurt. hurt: the targets that this
    run is hurting already, each with all keys that are part of it; they count once. gone: keys
    that are not to be chosen, for an earlier step ends them for good. ended: keys that an earlier
    step has ended for good; as long as nobody takes their place (most: how many matched at most)
    they count as matched and hurt. done: keys of the stages before: they are picked first, and what
    is picked is the sum. prefer: keys to take then, where they still match: those of the plan.

    A match that is part of another target's tree is hurt with it, and counts.
    Raises Refused when the selector cannot look at all.
    """
    what = step.selector.describe()
    found = step.selector.find(binding)
    if not found and not done:
        return Choice(0, (), (f"{what} matches nothing",))
    eligible, passed_over = _eligible(found, limits)
    if not eligible and not done:
        return Choice(0, (), (f"{what} matches only what is protected: {passed_over[0]}",))
    claims = {target.key: target.claim() for target in eligible}
    taken = {key: other for key, claim in claims.items() if (other := holder(claim, held))}
    passed_over += [
        f"{t.label} is held by run {taken[t.key].run}" for t in eligible if t.key in taken
    ]
    free = [t for t in eligible if t.key not in taken and t.key not in gone]
    spent = len(set(done) - {target.key for target in free})
    missing = _missing(len(eligible), most, set(done) - claims.keys())
    wanted = max(0, pick.of(len(eligible) + missing) - spent)
    if len(free) < wanted:
        why = passed_over[-1] if passed_over else "an earlier step ends the others"
        return Choice(
            len(eligible),
            (),
            (f"{what}: {wanted} wanted, {len(free)} free: {why}",),
            tuple(passed_over),
        )
    rank = {key: place for place, key in enumerate(dict.fromkeys([*done, *prefer]))}
    known = [target for target in free if target.key in rank]
    first = sorted(known, key=lambda target: rank[target.key])[:wanted]
    rest = [target for target in free if target.key not in rank]
    # The step's number is part of the seed: two steps of a run do not mirror each other.
    draw = random.Random(f"{seed}:{binding.step}")
    chosen = first + draw.sample(rest, wanted - len(first))
    order = {target.key: index for index, target in enumerate(eligible)}
    chosen.sort(key=lambda target: order[target.key])
    covered = frozenset().union(*hurt.values(), *(claims[target.key].keys for target in chosen))
    # A process is hurt with the container that it is in.
    ours = {key for key, claim in claims.items() if key in covered or claim.within & covered}
    mark = mark_of(what)
    theirs = [one for one in held if one.of == mark]
    lost = _missing(
        len(eligible),
        max([most, *(one.matched for one in theirs)]),
        (set(ended) | set(done)) - claims.keys(),
        [one for one in theirs if not any(map(one.claim.meets, claims.values()))],
    )
    broken = _broken_limits(
        what, limits, len(eligible) + lost, len(ours | set(taken)) + lost, len(ours | set(hurt))
    )
    return Choice(len(eligible), tuple(chosen), tuple(broken), tuple(passed_over), spent)


def _missing(there: int, most: int, *ended: Collection[object]) -> int:
    """How many of those that were ended have nobody in their place."""
    return max(0, min(sum(map(len, ended)), most - there))


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
