"""Secrets in what the journal must keep to undo by: references go in, the same values come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chaoskit.errors import ChaoskitError
from chaoskit.journal import cells
from chaoskit.model.params import freeze_value, shown
from chaoskit.undo import _with_secrets


def back(value: Any, secrets: dict[str, str], **more: str) -> Any:
    """Through the journal, as JSON on a disk, and made again."""
    return _with_secrets(json.loads(json.dumps(freeze_value(value, secrets))), secrets | more)


def test_a_reference_says_which_secrets_it_takes() -> None:
    secrets = {"USER": "bob", "TOKEN": "hunter2", "OTHER": "unused"}
    assert freeze_value("--as bob --token hunter2 bob", secrets) == {
        "secret": "--as ${USER} --token ${TOKEN} ${USER}",
        "names": ["USER", "TOKEN"],
    }
    assert freeze_value("nothing secret", secrets) == "nothing secret"
    assert freeze_value("bob", {}) == "bob"
    assert freeze_value("bob", {"EMPTY": ""}) == "bob"


def test_wherever_it_stands() -> None:
    secrets = {"TOKEN": "hunter2"}
    value = {
        "role": {"cmdline": "x hunter2 y", "port": 80, "user": None},
        "peers": ["hunter2", "1:2:3", ["hunter2"]],
        "flag": True,
        "share": 0.5,
    }
    assert "hunter2" not in json.dumps(freeze_value(value, secrets))
    assert back(value, secrets) == value


def test_a_secret_in_a_secret_asks_for_the_longer_one_only() -> None:
    secrets = {"SHORT": "abc", "LONG": "xabcx"}
    assert freeze_value("-xabcx-", secrets) == {"secret": "-${LONG}-", "names": ["LONG"]}
    assert back("xabcx abc", secrets) == "xabcx abc"
    # Also where both begin at the same place.
    assert freeze_value("xabcx", {"SHORT": "xabc", "LONG": "xabcx"}) == {
        "secret": "${LONG}",
        "names": ["LONG"],
    }


def test_a_secret_in_the_name_of_another_spoils_no_reference() -> None:
    """What is put in for one is not searched for the other, either way."""
    for secrets in ({"TOKEN": "hunter2", "S": "K"}, {"S": "K", "TOKEN": "hunter2"}):
        assert back("hunter2 and K", secrets) == "hunter2 and K"
    quoting = {"A": "${B}", "B": "secret-b"}
    assert back("the secret-b of ${B}", quoting) == "the secret-b of ${B}"


def test_two_names_of_one_value_are_one_reference() -> None:
    assert back("same", {"A": "same", "B": "same"}) == "same"


def test_a_reference_that_nobody_made_stays_as_it_is() -> None:
    assert back("echo ${HOME} $HOME $$", {"TOKEN": "hunter2"}, HOME="/x") == "echo ${HOME} $HOME $$"
    assert back("${HOME}hunter2", {"TOKEN": "hunter2"}, HOME="/x") == "${HOME}hunter2"


NAMES = st.text("ABCDE_", min_size=1, max_size=3)
SECRETS = st.dictionaries(NAMES, st.text("ABab$\\{}.|^é\n", min_size=1, max_size=6), max_size=4)


@given(SECRETS, st.data())
def test_what_comes_out_is_what_went_in(secrets: dict[str, str], data: st.DataObject) -> None:
    pieces = st.sampled_from([*secrets.values(), "a", "--", "\\1", "$"])
    text = "".join(data.draw(st.lists(pieces, max_size=6)))
    # A text that names a secret in this very form and holds its value as well is told no apart.
    assume(not any(f"${{{name}}}" in text for name in secrets))
    frozen = freeze_value(text, secrets)
    assert _with_secrets(json.loads(json.dumps(frozen)), secrets) == text
    held = [secret for secret in secrets.values() if secret in text]
    assert bool(held) == isinstance(frozen, dict)


@given(st.text(min_size=4), st.text(), st.text())
def test_no_value_is_kept(secret: str, before: str, after: str) -> None:
    frozen = freeze_value(before + secret + after, {"N": secret})
    assert isinstance(frozen, dict) and frozen["names"] == ["N"]
    pieces = str(frozen["secret"]).split("${N}")
    assert not any(secret in piece for piece in pieces)


def test_a_variable_that_is_missing_is_named() -> None:
    frozen = freeze_value({"a": ["hunter2", "bob"]}, {"TOKEN": "hunter2", "USER": "bob"})
    with pytest.raises(ChaoskitError, match=r"needs the variable TOKEN again: --var TOKEN="):
        _with_secrets(frozen, {"USER": "bob"})
    with pytest.raises(ChaoskitError, match="the variable USER again"):
        _with_secrets(frozen, {"TOKEN": "hunter2"})


def test_people_are_shown_the_reference() -> None:
    frozen = freeze_value({"a": ["x hunter2", 5], "b": None}, {"TOKEN": "hunter2"})
    assert shown(frozen) == {"a": ["x ${TOKEN}", 5], "b": None}
    record = {
        "kind": "change", "cell": 1, "step": "1", "fault": "f", "params": {}, "target": {},
        "key": freeze_value("link hunter2", {"TOKEN": "hunter2"}), "was": None,
        "put": {"attributes": {"body": freeze_value("hunter2", {"TOKEN": "hunter2"})}},
    }  # fmt: skip
    left = cells([record])[0].left()
    assert (left.key, left.was) == ("link ${TOKEN}", None)
    assert left.put == {"attributes": {"body": "${TOKEN}"}}
