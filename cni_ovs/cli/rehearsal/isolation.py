"""Keeping a process away from the machine: network namespaces of its own, and file systems that it cannot change.

All functions raise OSError when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import struct

from cni_ovs.plugin import netns

# linux/sched.h, linux/mount.h, linux/fcntl.h
_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MOUNT_SETATTR, _MOUNT_ATTR_RDONLY, _MS_PRIVATE = 442, 0x1, 1 << 18
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MS_NOSUID, _MS_NODEV = 2, 4

_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(returned: int) -> None:
    if returned != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespaces:
    """Two new network namespaces; this thread is in that which plays the host.

    Attributes:
        container: a file descriptor of the other.
        names: "host" and "container", by inode.
    """

    def __init__(self) -> None:
        _check(_LIBC.unshare(_CLONE_NEWNET))
        self.container = os.open(netns.OWN, os.O_RDONLY)
        _check(_LIBC.unshare(_CLONE_NEWNET))
        self.names = {os.fstat(self.container).st_ino: "container", os.stat(netns.OWN).st_ino: "host"}


def protect(folder: str, covered: str | None) -> None:
    """Let this process see every file system read-only but /proc, and an empty folder of its own.

    Nothing of that is on the machine's file systems, so nothing of it can remain there.

    Args:
        folder: its own; the one that it is in must be there, and looks empty otherwise.
        covered: another folder that looks empty, and can be written to, with the same owner and mode.
    """
    status = os.stat(covered) if covered is not None else None
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _set_attributes("/", _AT_RECURSIVE, set_=_MOUNT_ATTR_RDONLY, propagation=_MS_PRIVATE)
    _set_attributes("/proc", 0, clear=_MOUNT_ATTR_RDONLY)  # sysctls are files there, those of the namespace
    _mount_empty(os.path.dirname(folder), 0o700, os.geteuid())
    if covered is not None and status is not None:
        os.makedirs(covered, exist_ok=True)  # either may be in the other
        _mount_empty(covered, status.st_mode & 0o7777, status.st_uid)
    os.makedirs(folder, 0o700)


def _set_attributes(path: str, flags: int, set_: int = 0, clear: int = 0, propagation: int = 0) -> None:
    attributes = struct.pack("QQQQ", set_, clear, propagation, 0)
    _check(_LIBC.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, len(attributes)))


def _mount_empty(path: str, mode: int, user: int) -> None:
    options = f"size=1m,mode={mode:o},uid={user}".encode()
    _check(_LIBC.mount(b"tmpfs", path.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options))
