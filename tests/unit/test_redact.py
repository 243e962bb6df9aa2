"""Secrets are taken out of all that is written, in every shape that they are written in."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoskit.model.redact import Redactor

SECRET = 'p@ss "w/örd"\\\n+1'


@pytest.mark.parametrize(
    "shape",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_shape(shape: str) -> None:
    redacted = Redactor({"TOKEN": SECRET}).text(f"before {shape} after")
    assert "${TOKEN}" in redacted
    assert redacted.startswith("before ") and redacted.endswith(" after")
    for piece in ("p@ss", "p%40ss", "w/", "w%2F", base64.b64encode(SECRET.encode()).decode()[:8]):
        assert piece not in redacted


def test_a_secret_in_a_secret() -> None:
    redactor = Redactor({"SHORT": "abc", "LONG": "xabcx"})
    assert redactor.text("abc xabcx") == "${SHORT} ${LONG}"


def test_json_is_redacted_with_its_keys() -> None:
    value = {"a": ["s3cret", 5, None, True], "s3cret": {"b": "x s3cret y"}, "t": ("s3cret",)}
    assert Redactor({"T": "s3cret"}).json(value) == {
        "a": ["${T}", 5, None, True],
        "${T}": {"b": "x ${T} y"},
        "t": ["${T}"],
    }


def test_without_secrets_nothing_changes() -> None:
    for redactor in (Redactor(), Redactor({}), Redactor({"EMPTY": ""})):
        assert redactor.text("some text") == "some text"
        assert redactor.json({"a": "b"}) == {"a": "b"}


@given(st.text(min_size=1), st.text(), st.text())
def test_no_secret_is_left(secret: str, before: str, after: str) -> None:
    redacted = Redactor({"\ue000": secret}).text(before + secret + after)
    assert "\ue000" in redacted
    if not set(secret) & set("${}\ue000"):
        # What the pieces around it make up together with the name is not the secret told.
        assert secret not in redacted.replace("${\ue000}", "\ue000")
