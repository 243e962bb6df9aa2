"""Which container chaoskit is in, told by what is mounted into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaoskit.docker.client import where
from chaoskit.targets.docker_protect import mounted_into_us

ID = "4f" * 32
DOCKER = (
    f"742 728 8:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 a rw\n"
    f"743 728 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 a rw\n"
)
PODMAN = (
    f"9 8 0:25 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
)
HOST = f"29 1 8:1 / / rw - ext4 /dev/a rw\n30 29 8:1 /srv/{ID} /srv rw - ext4 a rw\n"


@pytest.mark.parametrize(("mounts", "ids"), [(DOCKER, {ID}), (PODMAN, {ID}), (HOST, set())])
def test_the_container_we_are_in(mounts: str, ids: set[str], tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(mounts)
    assert mounted_into_us(str(tmp_path / "mountinfo")) == ids


def test_without_mounts_to_see_there_is_none(tmp_path: Path) -> None:
    assert mounted_into_us(str(tmp_path / "nothing")) == set()


def test_where_the_certificates_are_does_not_depend_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = where("tcp://127.0.0.1:2376", {"DOCKER_CERT_PATH": "certs"})
    assert place.tls == str(tmp_path / "certs")
