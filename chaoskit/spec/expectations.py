"""What a check expects, in the units of what its probe reads."""

from __future__ import annotations

from typing import Any

from chaoskit.model.expect import MATCHERS, Condition, Expectation
from chaoskit.model.probe import Probe
from chaoskit.model.units import PARSERS, WANTED, Duration, Regex, Unit
from chaoskit.spec.decode import BAD, Decoder
from chaoskit.spec.nodes import Listing, Node, Scalar, Table, describe
from chaoskit.spec.patterns import json_path_problem
from chaoskit.spec.problems import meant, quoted

_WILD = " *"


class Expectations:
    """Reads the `expect` of one check, for one kind of probe."""

    def __init__(self, decoder: Decoder, probe: type[Probe]) -> None:
        self._decoder = decoder
        self._readings = probe.readings
        self._main = probe.main
        self._conditions: list[Condition] = []
        self._sound = True

    def read(self, node: Node) -> Expectation | Any:
        """The expectation, or BAD."""
        if isinstance(node, Scalar) and node.broken:
            return BAD
        if not isinstance(node, Table):
            return self._decoder.wrong(node, "a mapping of readings to what each must be")
        within = None
        for key, (at, child) in node.entries.items():
            if key == "within":
                within = self._decoder.value(Duration, child)
            elif f"{key}{_WILD}" in self._readings and not self._is_plain(key, child):
                self._completed(key, child)
            elif key in self._readings:
                self._reading(key, self._readings[key], child)
            elif key in MATCHERS:
                self._matcher(self._main, self._readings[self._main], key, child)
            else:
                names = [name.removesuffix(_WILD) for name in self._readings]
                like = meant(key, [*names, *MATCHERS, "within"])
                told = "" if like else f"; it reads {', '.join(names)}"
                self._decoder.problems.add(at, f"the probe reads no {quoted(key)}{told}{like}")
                self._sound = False
        if not self._sound or within is BAD:
            return BAD
        if not self._conditions:
            return self._decoder.bad(node, "expects nothing: say what the reading must be")
        return Expectation(tuple(self._conditions), within)

    def _is_plain(self, key: str, node: Node) -> bool:
        """Whether a reading that has completed names too is meant by itself."""
        return key in self._readings and not (
            isinstance(node, Table) and any(name not in MATCHERS for name in node.entries)
        )

    def _completed(self, kind: str, node: Node) -> None:
        """`json: {"$.ok": true}`: each name in the mapping completes the reading's own."""
        unit = self._readings[f"{kind}{_WILD}"]
        if not isinstance(node, Table) or not node.entries:
            self._bad(node, f"expected names with what each must be, found {describe(node)}")
            return
        for name, (at, child) in node.entries.items():
            if kind == "json" and (told := json_path_problem(name)):
                self._sound = False
                self._decoder.problems.add(at, f"{quoted(name)} is no JSON path: {told}")
                continue
            full = name.lower() if kind == "headers" else name
            self._reading(f"{kind} {full}", unit, child)

    def _reading(self, reading: str, unit: Unit, node: Node) -> None:
        if not isinstance(node, Table):
            self._matcher(reading, unit, "equals", node)
        elif not node.entries:
            self._bad(node, "expects nothing: say what the reading must be")
        else:
            for key, (at, child) in node.entries.items():
                if key in MATCHERS:
                    self._matcher(reading, unit, key, child)
                    continue
                self._sound = False
                like = meant(key, MATCHERS)
                told = "" if like else f"; there are: {', '.join(MATCHERS)}"
                self._decoder.problems.add(at, f"unknown matcher {quoted(key)}{told}{like}")

    def _matcher(self, reading: str, unit: Unit, matcher: str, node: Node) -> None:
        if isinstance(node, Scalar) and node.broken:
            self._sound = False
            return
        value: Any
        match matcher:
            case "matches" | "contains" if unit in PARSERS:
                self._bad(node, f"{reading} is {WANTED[unit]}: compare it with below or above")
                return
            case "matches":
                value = self._decoder.value(Regex, node)
            case "contains":
                value = self._word(node)
            case "between":
                value, unit = self._between(unit, node)
            case "equals" if unit not in PARSERS and unit is not Unit.NUMBER:
                value = self._any(node)
            case _:
                value, unit = self._quantity(unit, node)
        if value is BAD:
            self._sound = False
        else:
            self._conditions.append(Condition(reading, unit, matcher, value))

    def _between(self, unit: Unit, node: Node) -> tuple[Any, Unit]:
        if not isinstance(node, Listing) or len(node.items) != 2:
            return self._decoder.wrong(node, "the lowest and the highest, as [1, 10]"), unit
        (low, unit_of_low), (high, unit_of_high) = (self._quantity(unit, i) for i in node.items)
        if BAD in (low, high):
            return BAD, unit
        if unit_of_low is not unit_of_high:
            return self._decoder.bad(node, "the two are different kinds of quantities"), unit
        if low > high:
            return self._decoder.bad(node, "the lowest comes first"), unit
        return [low, high], unit_of_low

    def _quantity(self, unit: Unit, node: Node) -> tuple[Any, Unit]:
        """A number in the reading's unit, and that unit. What is only known to be a number or a
        text (a command's output, a metric) may be compared with any quantity."""
        from typing import Annotated

        if unit in PARSERS:
            return self._decoder.value(Annotated[float, unit], node), unit
        if isinstance(node, Scalar) and isinstance(node.value, str):
            for own, parse in PARSERS.items():
                try:
                    return parse(node.value), own
                except ValueError:
                    continue
        return self._decoder.value(float, node), unit

    def _word(self, node: Node) -> Any:
        if isinstance(node, Scalar) and node.value not in (None, ""):
            return self._any(node)
        return self._decoder.wrong(node, "what is looked for")

    def _any(self, node: Node) -> Any:
        """Any JSON value without mappings in it: those are matchers."""
        if isinstance(node, Listing):
            items = [self._any(item) for item in node.items]
            return BAD if BAD in items else items
        return self._decoder.value(Any, node)

    def _bad(self, node: Node, message: str) -> None:
        self._sound = False
        if not (isinstance(node, Scalar) and node.broken):
            self._decoder.bad(node, message)
