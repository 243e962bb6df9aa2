"""Processes that are never touched, whatever a file says, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence

from chaoskit.errors import Gone
from chaoskit.matching import of_chaoskit, self_and_ancestors
from chaoskit.procfs import Process

_SESSION = "it keeps people's sessions on this machine"
_CONTAINERS = "it manages containers that the plan does not name"
_SYSTEM = "the system itself hangs on it"

_BY_NAME = {
    **dict.fromkeys(
        ("systemd", "init", "openrc-init", "runit", "s6-svscan", "launchd", "dbus-daemon",
         "dbus-broker", "udevd", "systemd-udevd", "polkitd", "NetworkManager", "agetty", "getty"),
        _SYSTEM,
    ),
    **dict.fromkeys(
        ("sshd", "sshd-session", "login", "su", "sudo", "gdm", "gdm3", "sddm", "lightdm", "Xorg",
         "Xwayland", "gnome-shell", "kwin_wayland", "plasmashell", "tmux: server", "tmux",
         "screen", "SCREEN", "mosh-server", "dropbear"),
        _SESSION,
    ),
    **dict.fromkeys(
        ("dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "docker-proxy",
         "conmon", "podman", "crio", "kubelet", "runc", "crun", "lxc-start", "lxd", "incusd"),
        _CONTAINERS,
    ),
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
    name = process.name()
    known = _BY_NAME.get(name) or (_SYSTEM if name.startswith("systemd-") else None)
    if known:
        return f"{name} is protected: {known}"
    user, uid = process.user(), process.uid()
    if uid != os.geteuid() and not {user, str(uid)} & set(allowed_users):
        return f"it is {user}'s: `allow-users: [{user}]` in the blast radius would allow it"
    return None
