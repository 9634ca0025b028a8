"""Which internal ports of the userspace datapath still have their device, wherever it is.

Such a device is a tap that lives as long as ovs-vswitchd has it open, or until the network namespace goes that it was
moved into. The kernel says of an open tap how it is called, in whatever namespace it is, and says "" when the tap is
gone (proc(5), /proc/PID/fdinfo; drivers/net/tun.c).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from . import database

_PROGRAM = "ovs-vswitchd"
_TYPES = ("internal", "tap")
_SECONDS = 0.5
_UCRED = struct.Struct("iII")  # linux/socket.h: process, user and group


def alive(address: str, state: database.OpenVSwitch) -> set[str] | None:
    """The names of the taps that are there.

    Args:
        address: of the database; its ovs-vswitchd has a control socket beside it.
        state: what is in it.

    Returns:
        None if it cannot be known: ovs-vswitchd is not to be seen from here, or one of its taps was renamed.
    """
    found = {name for pid in _processes(address) for name in _names(pid) if name}
    bridges = [bridge.name for bridge in state.bridges if bridge.datapath_type == "netdev"]
    known = {interface.name for _, port in state.ports() for interface in port.interfaces if interface.type in _TYPES}
    if not bridges or not set(bridges) <= found:
        return None  # each bridge has a tap of its own, so these are not all
    return found if found <= known | set(bridges) | {"ovs-netdev"} else None


def _processes(address: str) -> list[int]:
    """The ovs-vswitchd that serve a local database, as this process sees their numbers; none if there is none."""
    if not address.startswith("unix:"):
        return []
    found = []
    for path in Path(address[5:]).parent.glob(f"{_PROGRAM}.*.ctl"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as control:
            control.settimeout(_SECONDS)
            control.connect(str(path))  # nobody listens where one was killed
            process, *_ = _UCRED.unpack(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            found.append(process)
    return found


def _names(pid: int) -> list[str]:
    names = []
    with contextlib.suppress(OSError):  # it may not be looked at: then the bridges' are missing too
        for descriptor in os.listdir(f"/proc/{pid}/fdinfo"):
            with contextlib.suppress(FileNotFoundError):  # just closed
                text = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(errors="replace")
                names += [line[4:].strip() for line in text.splitlines() if line.startswith("iff:")]
    return names
