"""The helper's reading and writing of DNS messages, against any input."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.faults.dns import Dns
from chaoskit.helpers import dns
from chaoskit.model.params import freeze, thaw

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
NAME = st.lists(LABEL, max_size=3).map(".".join)
KIND = st.integers(0, 65535)


@given(NAME, KIND)
def test_a_question_is_read_as_it_was_written(name: str, kind: int) -> None:
    query = dns.ask(name, kind)
    assert dns.question(query) == (name, kind, len(query))
    # What comes after the question is none of it.
    assert dns.question(query + b"\0\0\x29\x10\0\0\0\0\0\0\0") == (name, kind, len(query))


@given(st.binary(max_size=80))
def test_anything_may_come(data: bytes) -> None:
    for told in (data, dns.ask("a.example")[:12] + data):
        found = dns.question(told)
        assert found is None or len(told) >= found[2]
        dns.Verdict(told, ["*"], {"wrong": "192.0.2.1"})


def test_what_is_no_plain_question_is_passed_on() -> None:
    query = dns.ask("a.example")
    response, update = (bytes([*query[:2], flags, *query[3:]]) for flags in (0x81, 0x28))
    two = query[:4] + b"\0\2" + query[6:]
    pointer = query[:12] + b"\xc0\x0c\0\1\0\1"
    for told in (response, update, two, pointer, query[:-1], b""):
        verdict = dns.Verdict(told, ["*"], {"failing": "nxdomain"})
        assert (verdict.made, verdict.silent, verdict.late) == (None, False, 0.0)


@given(NAME, st.ip_addresses(), st.sampled_from([dns.A, dns.AAAA, 16, 33, 65]))
def test_an_answer_tells_the_address_to_who_asks_for_its_kind(
    name: str, address: Any, kind: int
) -> None:
    query = dns.ask(name, kind, 0x1234)
    told = dns.answer(query, address=str(address))
    assert told[:2] == b"\x12\x34" and told[2:4] == b"\x81\x80"
    questions, answers, authority, more = struct.unpack("!HHHH", told[4:12])
    assert (questions, authority, more) == (1, 0, 0)
    assert told[12:].startswith(query[12:])
    fits = kind == (dns.A if address.version == 4 else dns.AAAA)
    assert answers == fits
    if fits:
        record = told[len(query) :]
        pointer, its_kind, its_class, lives, size = struct.unpack("!HHHIH", record[:12])
        assert (pointer, its_kind, its_class, lives) == (0xC00C, kind, 1, 0)
        assert ipaddress.ip_address(record[12:]) == address and size == len(record) - 12


@pytest.mark.parametrize(("how", "code"), [("nxdomain", 3), ("servfail", 2)])
def test_an_error_is_told_as_one(how: str, code: int) -> None:
    query = dns.ask("a.example")
    made = dns.Verdict(query, ["a.example"], {"failing": how}).made
    assert made is not None and made[3] & 0x0F == code and made[6:8] == b"\0\0"
    assert made[12:] == query[12:]


def test_recursion_is_desired_where_it_was() -> None:
    query = dns.ask("a.example")
    undesired = query[:2] + b"\0" + query[3:]
    assert dns.answer(query)[2] == 0x81 and dns.answer(undesired)[2] == 0x80


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("api.example", ["api.example"], ["a.api.example", "api.example.com", "xapi.example"]),
        ("API.Example.", ["api.example"], ["api.exampl"]),
        ("*.internal", ["a.internal", "a.b.internal"], ["internal", "ainternal", "a.internal.x"]),
        ("*", ["a", "a.b", ""], []),
    ],
)
def test_whom_a_pattern_means(pattern: str, names: list[str], others: list[str]) -> None:
    assert all(dns.meant(name, [pattern]) for name in names)
    assert not any(dns.meant(name, [pattern]) for name in others)


GOOD: list[dict[str, Any]] = [
    {"names": ("api.example",)},
    {"names": ("*.internal", "*", "_srv.example.")},
    {"names": ("a",), "address": "2001:db8::1"},
    {"names": ("a",), "answer": "slow", "delay": 0.5},
    {"names": ("a",), "answer": "failing", "how": "silence"},
    {"names": ("a",), "answer": "failing"},
]


@pytest.mark.parametrize("keys", GOOD)
def test_what_a_file_may_say(keys: dict[str, Any]) -> None:
    fault = Dns(**keys)
    assert fault.problems() == []
    assert thaw(Dns, freeze(fault)) == fault


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"names": ()}, "names"),
        ({"names": ("a b",)}, "names"),
        ({"names": ("a*.b",)}, "names"),
        ({"names": ("a..b",)}, "names"),
        ({"names": ("",)}, "names"),
        ({"names": ("a",), "address": "nowhere"}, "address"),
        ({"names": ("a",), "answer": "slow"}, "answer"),
        ({"names": ("a",), "delay": 1.0}, "delay"),
        ({"names": ("a",), "answer": "slow", "delay": 1.0, "address": "192.0.2.1"}, "address"),
        ({"names": ("a",), "how": "silence"}, "how"),
    ],
)
def test_what_a_file_may_not_say(keys: dict[str, Any], where: str) -> None:
    assert [key for key, _ in Dns(**keys).problems()] == [where]
