"""Processes that are never touched, whatever a file says, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath

from chaoskit.errors import Gone
from chaoskit.matching import of_chaoskit, self_and_ancestors
from chaoskit.procfs import Process

_SESSION = "it keeps people's sessions on this machine"
_CONTAINERS = "it manages containers that the plan does not name"
_SYSTEM = "the system itself hangs on it"

_COMM = 15
"""Characters of a command's name that the kernel keeps."""

_BY_NAME = {
    name[:_COMM]: reason
    for reason, names in (
        (_SYSTEM, (
            "systemd", "(sd-pam)", "init", "openrc-init", "runit", "s6-svscan", "elogind",
            "dbus-daemon", "dbus-broker", "dbus-broker-launch", "udevd", "polkitd",
            "NetworkManager", "agetty", "getty",
        )),
        (_SESSION, (
            "sshd", "sshd-session", "sshd-auth", "dropbear", "mosh-server", "login", "su", "sudo",
            "gdm", "gdm3", "gdm-session-worker", "gdm-wayland-session", "gdm-x-session", "sddm",
            "sddm-helper", "lightdm", "Xorg", "X", "Xwayland", "gnome-session-binary",
            "gnome-shell", "kwin_wayland", "kwin_x11", "plasmashell", "sway", "weston", "Hyprland",
            "tmux: server", "tmux", "screen", "SCREEN",
        )),
        (_CONTAINERS, (
            "dockerd", "docker-proxy", "containerd", "containerd-shim", "containerd-shim-runc-v2",
            "podman", "conmon", "rootlesskit", "buildkitd", "crio", "kubelet", "k3s",
            "k3s-server", "k3s-agent", "runc", "crun", "lxc-start", "lxd", "incusd",
        )),
    )
    for name in names
}  # fmt: skip


def why_protected(tree: Sequence[Process], allowed_users: Sequence[str]) -> str | None:
    """Why this process, with all below it, must not be touched; None when it may.

    allowed_users: whose processes the file allows, beside those of whoever runs chaoskit.
    """
    own = self_and_ancestors()
    for index, process in enumerate(tree):
        try:
            reason = _reason(process, own, allowed_users)
        except Gone:
            continue
        except PermissionError:
            reason = "it may not be looked at"
        if reason:
            return reason if index == 0 else f"process {process.pid} below it: {reason}"
    return None


def _reason(process: Process, own: set[int], allowed_users: Sequence[str]) -> str | None:
    if process.pid == 1:
        return "pid 1 is what everything else hangs on"
    if process.kernel_thread():
        return "it is a kernel thread"
    if process.pid in own or of_chaoskit(process):
        return "it is chaoskit itself, or what chaoskit runs in"
    if runs_chaoskit(process.cmdline()):
        return "it is chaoskit, at work on something else"
    name = process.name()
    known = _BY_NAME.get(name) or (_SYSTEM if name.startswith("systemd-") else None)
    if known:
        return f"{name} is protected: {known}"
    user, uid = process.user(), process.uid()
    if uid == os.geteuid():
        return None
    if not {user, str(uid)} & set(allowed_users):
        return f"it is {user}'s: `allow-users: [{user}]` in the blast radius would allow it"
    if not _may_signal(process):
        return f"it is {user}'s, and only {user} or root may touch it"
    return None


def runs_chaoskit(words: Sequence[str]) -> bool:
    """Whether it is a chaoskit command: a runner that is killed leaves its undo to others."""
    if not words:
        return False
    if PurePath(words[0]).name.startswith("python"):
        words = words[1:]
        if words[:2] == ["-m", "chaoskit"]:
            return True
    return bool(words) and PurePath(words[0]).name == "chaoskit"


def _may_signal(process: Process) -> bool:
    try:
        os.kill(process.pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError as error:
        raise Gone(f"process {process.pid} has ended") from error
    return True
