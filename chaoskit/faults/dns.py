"""Name servers that answer wrongly, late or not at all, for some names.

Two cells: a helper process in the target's network that answers, and a table of rules that leads to
it what is asked of the name servers in the target's configuration. The rules change each packet by
itself and keep nothing in mind, so that questions on sockets which are open already are led there
too, and go to the name server again as soon as the table is gone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chaoskit.capabilities import HasResolver
from chaoskit.errors import ChaoskitError, Gone
from chaoskit.faults.own_table import UNARMED, Table, time_left
from chaoskit.helpers import dns as helper
from chaoskit.model.fault import Change, Ends, Fault
from chaoskit.model.units import Duration, Json

LONGEST = 3600.0
"""Seconds that an answer may be late: nobody waits so long."""
NOBODY = "192.0.2.1"
"""An address that is only used in examples, so that nobody has it."""
_SOON = 2.0
"""Seconds in which the helper answers a question of ours, on a busy machine too."""
_SILENT = 0.3
"""Seconds without an answer that count as none."""
_HELPER = "helper:"
_NAME = re.compile(r"\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


@dataclass(frozen=True)
class Dns(Fault[HasResolver]):
    """Answer wrongly, late or with an error when it asks for some names; all other names are told
    as before.

    What a program has kept of earlier answers stays with it, and questions by TLS or HTTPS are not
    seen. Nothing that is answered meanwhile may be kept: it lives for 0 seconds.
    """

    names: tuple[str, ...] = field(
        metadata={"doc": "`api.example`, `*.internal` (all below it), `*` (all)"}
    )
    answer: Literal["wrong", "slow", "failing"] = field(
        default="wrong", metadata={"doc": "what it is told"}
    )
    address: str | None = field(
        default=None,
        metadata={"doc": f"the wrong address, of IPv4 or IPv6; {NOBODY}, which nobody has, if not "
                         "said. Of the other kind, and of everything else, it is told that there "
                         "is none"},
    )  # fmt: skip
    delay: Duration | None = field(
        default=None, metadata={"above": 0, "max": LONGEST, "doc": "how slow it is"}
    )
    how: Literal["nxdomain", "servfail", "silence"] | None = field(
        default=None,
        metadata={"doc": "how it fails: there is no such name (nxdomain, if not said), the name "
                         "server has a problem (servfail), or no answer (silence)"},
    )  # fmt: skip
    name = "dns"
    needs = HasResolver
    settle = 2.0
    examples = (
        {"names": ["api.example", "*.internal"]},
        {"names": ["*.internal"], "answer": "slow", "delay": "300ms"},
        {"names": ["*"], "answer": "failing", "how": "servfail"},
    )

    def problems(self) -> list[tuple[str, str]]:
        found = [] if self.names else [("names", "names nothing")]
        for name in self.names:
            if not _NAME.fullmatch(name) or ".." in name:
                found.append(("names", f"{name!r} is no name, as api.example, *.internal or *"))
        for key, belongs in (("address", "wrong"), ("delay", "slow"), ("how", "failing")):
            if getattr(self, key) is not None and self.answer != belongs:
                found.append((key, f"only goes with `answer: {belongs}`"))
        if self.answer == "slow" and self.delay is None:
            found.append(("answer", "how slow? say `delay`"))
        if self.address is not None:
            try:
                ipaddress.ip_address(self.address)
            except ValueError:
                found.append(("address", f"{self.address!r} is no address of IPv4 or IPv6"))
        return found

    @property
    def ends(self) -> Ends:
        return Ends.BY_ITSELF

    def way_back(self) -> str:
        return "its name servers are asked again; our rules and our helper process are gone"

    def privileges(self, target: HasResolver) -> tuple[str, ...]:
        return ("root, to enter its network namespace",)

    def remarks(self, target: HasResolver) -> tuple[str, ...]:
        return (
            f"of what it asks {', '.join(target.resolvers())}: not of other name servers, and not "
            "by TLS or HTTPS",
            *target.network_remarks(),
        )

    def refuse(self, target: HasResolver) -> str | None:
        ends = [{"resolver": one, "port": 1} for one in target.resolvers()]
        return target.network_cannot(_table(ends, 60.0).text())

    def changes(self, target: HasResolver) -> Iterator[Change]:
        try:
            key = target.network_key()
        except Gone:
            return
        mark = f"{target.mark}-dns"
        yield Change(f"{_HELPER}{mark}", None, mark)
        yield Change(key, None, target.mark)

    def look(self, target: HasResolver, change: Change) -> Json:
        if mark := _helper(change):
            return mark if target.answering(mark) else None
        return target.table(change.key)

    def make(self, target: HasResolver, change: Change) -> None:
        if mark := _helper(change):
            target.answer_names(mark, {"names": list(self.names), "answer": self._told()})
            return
        plan = target.answering(f"{target.mark}-dns")
        if plan is None:
            raise ChaoskitError("the helper that is to answer has ended")
        target.put_table(change.key, _table(plan["ends"], time_left(target.binding)).text())

    def unmake(self, target: HasResolver, change: Change) -> None:
        if mark := _helper(change):
            target.end_answering(mark)
        else:
            target.drop_table(change.key)

    def keep(self, target: HasResolver, changes: Sequence[Change]) -> None:
        """Without its helper nobody would answer for any name at all: then the step is over."""
        if changes and not target.answering(f"{target.mark}-dns"):
            with contextlib.suppress(Gone):  # The target has ended, and the helper with it.
                target.network_key()
                raise ChaoskitError("the helper that answers has ended")

    def took(self, target: HasResolver, changes: Sequence[Change]) -> bool:
        """The helper lives, the table leads all name servers to it, and a question of ours is
        answered so."""
        plan = target.answering(f"{target.mark}-dns")
        tables = [change for change in changes if not _helper(change)]
        if plan is None or not tables:
            return False
        resolvers = [end["resolver"] for end in plan["ends"]]
        try:
            found = target.table_contents(tables[-1].key)
        except ChaoskitError:
            return False  # There is no such table, or no such network any more.
        if not _table(plan["ends"], 60.0).is_whole(found):
            return False
        if not set(target.resolvers()) <= set(resolvers):
            return False
        answers = [self._answered(target, resolver) for resolver in resolvers]
        return True in answers and False not in answers

    def _told(self) -> dict[str, Json]:
        match self.answer:
            case "wrong":
                return {"wrong": self.address or NOBODY}
            case "slow":
                return {"slow": self.delay}
        return {"failing": self.how or "nxdomain"}

    def _answered(self, target: HasResolver, resolver: str) -> bool | None:
        """Whether a question is answered as it should be; None where no question can be sent, which
        is so for the target too."""
        address = str(self._told().get("wrong", ""))
        name = re.sub(r"\*", "chaoskit", self.names[0]).removesuffix(".").lower()
        query = helper.ask(name, helper.AAAA if ":" in address else helper.A)
        match self.answer, self.how:
            case "slow", _:
                assert self.delay is not None
                wait, expected = min(self.delay * 0.8, _SILENT), None
            case "failing", "silence":
                wait, expected = _SILENT, None
            case "failing", how:
                wait, expected = _SOON, helper.answer(query, helper.CODES[how or "nxdomain"])
            case _:
                wait, expected = _SOON, helper.answer(query, address=address)
        try:
            return target.ask_resolver(resolver, query, wait) == expected
        except Gone:
            raise
        except OSError:
            return None


def _helper(change: Change) -> str:
    """The mark of the helper, if the cell is that."""
    return change.key.removeprefix(_HELPER) if change.key.startswith(_HELPER) else ""


def _table(ends: Sequence[Mapping[str, Any]], seconds: float) -> Table:
    """The rules that lead to each end what is asked of its name server, and back what it answers,
    as if that had answered."""
    made = Table()
    made.arm(seconds)
    rules = [f"meta mark {helper.SOCKET_MARK:#x} return", UNARMED]
    for end in ends:
        server, port = str(end["resolver"]).partition("%")[0], end["port"]
        family, loopback = ("ip6", "::1") if ":" in server else ("ip", "127.0.0.1")
        for kind in ("udp", "tcp"):
            rules += [
                f"{family} daddr {server} {kind} dport {helper.PORT} notrack "
                f"{family} daddr set {loopback} {kind} dport set {port} return",
                f"{family} saddr {loopback} {kind} sport {port} notrack "
                f"{family} saddr set {server} {kind} sport set {helper.PORT} return",
            ]
    made.chain("questions", rules, "output", "route")
    return made
