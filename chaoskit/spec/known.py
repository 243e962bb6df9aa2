"""Looks up what a file names (faults, targets, probes) and tells what there is instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from chaoskit import registry
from chaoskit.errors import ChaoskitError
from chaoskit.spec.declared import declared
from chaoskit.spec.decode import BAD
from chaoskit.spec.problems import At, Problems, meant, quoted

Group: TypeAlias = Literal["faults", "targets", "probes"]

_FIND: dict[Group, Callable[[str], type[Any]]] = {
    "targets": registry.selector,
    "probes": registry.probe,
}
_ONE: dict[Group, str] = {"faults": "fault", "targets": "kind of target", "probes": "probe"}


def look_up(
    group: Group,
    name: str,
    at: At,
    problems: Problems,
    beside: Sequence[str] = (),
    on: str = "",
) -> type[Any]:
    """The class of that name, fit to be decoded; BAD when there is none, which is told at `at`.

    beside: other keys that may stand there, which may have been meant. on: the kind of target that
    a fault is on.
    """
    try:
        # What stands for actions in the journal is registered too, and is no name for a file.
        if registry.internal(group, name):
            raise KeyError(name)
        kind = registry.fault(name, on) if group == "faults" else _FIND[group](name)
        declared(kind)
    except KeyError:
        names = registry.names(group)
        like = meant(name, [*names, *beside])
        told = f"no {_ONE[group]} is called {quoted(name)}; there are: {', '.join(names)}{like}"
    except (ChaoskitError, TypeError) as error:
        told = str(error)
    else:
        return kind
    problems.add(at, told)
    return BAD  # type: ignore[no-any-return]
