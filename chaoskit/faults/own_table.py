"""A table of our own for nft: its text, and whether what is there now is all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaoskit.clock import now
from chaoskit.model.binding import Binding
from chaoskit.nft import Contents

EARLY = -300
"""The priority of our chains: before everybody else's, and before addresses are translated."""
ARMED = "armed"
"""The set by whose elements the rules have any force. The kernel takes them out when their time
is over, whoever is left then."""
UNARMED = f"meta nfproto != @{ARMED} return"
"""The rule that goes before those that have force only as long."""
FOREVER = 24 * 3600.0
"""Seconds that rules have force at most when nobody says less."""


@dataclass(slots=True)
class Table:
    """Sets and chains, in the order in which they are made."""

    parts: list[str] = field(default_factory=list)
    hooks: dict[str, str] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)

    def chain(self, name: str, rules: Sequence[str], hook: str = "", kind: str = "filter") -> None:
        """hook: where it hangs, if anywhere."""
        self.hooks[name], self.chains[name] = hook, list(rules)
        if hook:
            hook = f"type {kind} hook {hook} priority {EARLY}; policy accept;"
        self.parts.append("\n  ".join([f"chain {name} {{", hook, *rules]) + "\n}")

    def set(self, name: str, kind: str, flags: str, elements: Iterable[str]) -> None:
        found = ", ".join(elements)
        inside = f"elements = {{ {found} }}" if found else ""
        self.parts.append(f"set {name} {{\n  type {kind}\n  flags {flags}\n  {inside}\n}}")

    def arm(self, seconds: float) -> None:
        """Give what comes after `UNARMED` its force, for so long."""
        left = max(1, round(seconds))
        families = ("ipv4", "ipv6")
        self.set(ARMED, "nf_proto", "timeout", [f"{name} timeout {left}s" for name in families])

    def text(self) -> str:
        return "\n".join(self.parts)

    def is_whole(self, found: Contents) -> bool:
        """Whether that is all of it and has its force: a chain that somebody has emptied does
        nothing, and neither does a table that sleeps."""
        return (
            not found.asleep
            and found.hooks == self.hooks
            and found.rules == {name: len(rules) for name, rules in self.chains.items()}
            and found.elements.get(ARMED) == 2
        )


def time_left(binding: Binding) -> float:
    """Seconds that rules of this run have force at most."""
    return FOREVER if binding.ends_at is None else max(1.0, binding.ends_at - now())
