"""Which containers are meant: nothing that the file did not name is among them."""

from __future__ import annotations

from typing import Any

import pytest

from chaoskit.docker.match import ContainerMatch

WEB: dict[str, Any] = {
    "Id": "ab" * 32,
    "Names": ["/web"],
    "Image": "registry.example:5000/shop/web:1.2",
    "ImageID": "sha256:" + "cafe" * 16,
    "Labels": {"app": "web", "bare": ""},
    "NetworkSettings": {"Networks": {"front": {}}},
}
"""As a daemon's list tells of it."""
DB = WEB | {"Id": "cd" * 32, "Names": ["/web/db", "/db"], "Image": "docker.io/library/postgres"}
"""What `web` has a link to: that gives it a name more."""


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("name", "web", True),
        ("name", "w?b", True),
        ("name", "we", False),
        ("label", "app=web", True),
        ("label", "app", True),
        ("label", "app=we", False),
        ("label", "bare=", True),
        ("label", ("app", "bare"), True),
        ("label", ("app", "other"), False),
        ("image", "registry.example:5000/shop/web", True),
        ("image", "registry.example:5000/shop/web:1.2", True),
        ("image", "registry.example:5000/shop/web:1", False),
        ("image", "registry.example", False),
        ("image", "web", False),
        ("image", "cafecafecafe", True),
        ("image", "sha256:cafe", True),
        ("image", "cafe", False),  # An image may well be called so.
        ("image", "sha256:beef", False),
        ("network", "front", True),
        ("network", "fro", False),
        ("id", "abab", True),
        ("id", "ba", False),
    ],
)
def test_a_key_means_no_more_than_it_says(key: str, value: Any, meant: bool) -> None:
    assert ContainerMatch(**{key: value}).matches(WEB) is meant


def test_a_link_is_no_name() -> None:
    assert not ContainerMatch(name="web*").matches(DB)
    assert ContainerMatch(name="db").matches(DB)


def test_an_image_of_the_usual_place_needs_no_address() -> None:
    assert ContainerMatch(image="postgres").matches(DB)
    assert ContainerMatch(image="postgres:latest").matches(DB | {"Image": "postgres:latest"})
    assert not ContainerMatch(image="gres").matches(DB)


def test_several_keys_mean_and() -> None:
    assert ContainerMatch(name="web", label="app=web").matches(WEB)
    assert not ContainerMatch(name="web", label="app=db").matches(WEB)
