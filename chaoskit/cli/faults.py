"""`chaoskit faults`: what can be broken, what each fault needs and how it comes back."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from chaoskit import registry
from chaoskit.cli.common import add_json
from chaoskit.errors import ChaoskitError
from chaoskit.model.fault import Fault
from chaoskit.model.units import Share, Unit
from chaoskit.report.stream import say, say_json, width
from chaoskit.spec.declared import Declared, declared

SUMMARY = "List the faults: what each does, to what, what it needs and how it is undone."
EXAMPLES = """\
  chaoskit faults
  chaoskit faults pause
  chaoskit faults --json"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="FAULT", nargs="*", help="only these")
    add_json(parser)


def run(args: Namespace) -> int:
    from chaoskit.errors import InputError
    from chaoskit.report.text import finish

    names = registry.names("faults")
    if unknown := [name for name in args.name if name not in names]:
        raise InputError([f"there is no fault {name!r}: {', '.join(names)}" for name in unknown])
    faults = [told for name in args.name or names for told in _faults(name)]
    if args.json:
        say_json({"schema": 1, "kind": "faults", "faults": faults})
    else:
        say(finish((line for fault in faults for line in _lines(fault)), width(sys.stdout)))
    return 0


def _faults(name: str) -> list[dict[str, Any]]:
    """Once for each thing that a fault of that name is: on a process it may not be what it is on a
    container."""
    try:
        return [_fault(name, kind, targets) for kind, targets in registry.kinds_of(name).items()]
    except ChaoskitError as error:
        return [{"name": name, "problem": str(error)}]


def _fault(name: str, kind: type[Fault[Any]], targets: Sequence[str]) -> dict[str, Any]:
    example = _example(kind)
    return {
        "name": name,
        "summary": first_line(kind),
        "targets": list(targets),
        "needs": first_line(kind.needs),
        "way_back": _way_back(example),
        "ends": _ends(example),
        "fields": [_field(field) for field in declared(kind)],
    }


def first_line(kind: type) -> str:
    """The first sentence of its docstring, which may run over several lines."""
    paragraph = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")


def _example(kind: type[Fault[Any]]) -> Fault[Any]:
    """One with its defaults; None stands where the file must say something."""
    fault = object.__new__(kind)
    for field in declared(kind):
        object.__setattr__(fault, field.name, None if field.required else field.default)
    return fault


def _way_back(fault: Fault[Any]) -> str:
    try:
        return fault.way_back() or "none by default: it is one way"
    except Exception:  # Somebody's way_back looks at a field that has no default.
        return "depends on its fields"


def _ends(fault: Fault[Any]) -> str:
    try:
        return fault.ends.value
    except Exception:
        return "as its fields say"


def _field(field: Declared) -> dict[str, Any]:
    return {
        "name": field.key,
        "kind": ", ".join(dict.fromkeys(_kinds(field.hint))),
        "required": field.required,
        "default": None if field.required else _plain(field.default),
        "doc": field.doc,
    }


def _kinds(hint: Any) -> Iterator[str]:
    """What an annotation asks for, in words: `duration`, `text`, `number`."""
    if units := [unit for unit in getattr(hint, "__metadata__", ()) if isinstance(unit, Unit)]:
        yield units[0].value
    elif get_origin(hint) is Literal:
        yield " or ".join(str(value) for value in get_args(hint))
    elif get_origin(hint) in (tuple, list):
        yield from (f"list of {kind}" for kind in _kinds(get_args(hint)[0]))
    elif arguments := get_args(hint):
        for argument in arguments:
            yield from _kinds(argument)
    elif isinstance(hint, type) and hint not in (type(None), Share):
        simple = {str: "text", int: "number", float: "number", bool: "true or false"}
        yield simple.get(hint, hint.__name__.lower())


def _plain(value: Any) -> Any:
    if value == ():
        return None  # A list that is empty when nothing is said.
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _lines(fault: Mapping[str, Any]) -> Iterator[str]:
    yield f"{fault['name']}  {fault.get('summary', fault.get('problem'))}"
    if "problem" in fault:
        return
    yield f"  on      {', '.join(fault['targets']) or 'nothing that is known here'}"
    yield f"  needs   {fault['needs']}"
    yield f"  undo    {fault['way_back']}"
    yield f"  ends without chaoskit {fault['ends']}"
    for field in fault["fields"]:
        must = "required" if field["required"] else ""
        if field["default"] not in (None, "", False):
            must = f"default {field['default']}"
        told = ", ".join(filter(None, [field["kind"], must]))
        yield f"    {field['name']}: {field['doc'] or told}" + (
            f" ({told})" if field["doc"] else ""
        )
    yield ""
