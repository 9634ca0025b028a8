"""Signs that an ADD is at work: a listening socket each, with an abstract address that is made from the port's name.

Such an address is no file (unix(7)): it goes with the last process that has the socket, however that ends. The IPAM
plugin inherits it from ADD. If ADD is killed, the plugin goes on, and may give an address after the DEL that follows;
nobody would return that.
"""

from __future__ import annotations

import _struct
import posix
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from . import log
from .deadline import READABLE, Deadline
from .errors import NAME_TAKEN, CniError

# The runtime waits for us, and an IPAM plugin that was left alone may hang.
_SECONDS = 5.0
_INSTANT = 0.001
_TRIES = 3
_BACKLOG = 64  # how many may wait for the end; nobody is ever accepted
_UCRED = "iII"  # linux/socket.h: process, user and group


def begin(port_name: str, deadline: Deadline) -> socket | None:
    """Put up the sign; closing it takes it down. None, where the IPAM plugin of an earlier ADD hangs.

    Raises:
        CniError: NAME_TAKEN, when an ADD of the same attachment is at work: each would undo what the other has done.
    """
    for _ in range(_TRIES):
        sign = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            sign.bind(_address(port_name))
            sign.listen(_BACKLOG)
            return sign
        except OSError:
            sign.close()
        door, process = _find(port_name)
        if door is None:
            continue  # it has just been taken down
        if _is_alive(process):
            door.close()
            raise CniError(NAME_TAKEN, "another ADD of this attachment is at work", f"it is process {process}")
        if not _wait(door, process, deadline):
            break
    return None


def wait_for_end(port_name: str, deadline: Deadline) -> None:
    """Wait until nobody is at work on an attachment any more: at most five seconds, and half of the time."""
    door, process = _find(port_name)
    if door is not None:
        _wait(door, process, deadline)


def _address(port_name: str) -> str:
    return f"\0cni-ovs-add-{port_name}"


def _find(port_name: str) -> tuple[socket | None, int]:
    """A connection to whoever has the sign, and the process that has put it up; None if there is no sign of ours."""
    door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    door.setblocking(False)
    try:
        door.connect(_address(port_name))
        process, user, _ = _struct.unpack(_UCRED, door.getsockopt(SOL_SOCKET, SO_PEERCRED, _struct.calcsize(_UCRED)))
    except OSError:
        door.close()
        return None, 0
    if user != posix.geteuid():  # anybody may take such an address
        door.close()
        return None, 0
    return door, process


def _wait(door: socket, process: int, deadline: Deadline) -> bool:
    """Wait until the last process that has the sign is gone, which breaks the connection; False if it was too long."""
    try:
        deadline.shorter(min(_SECONDS, deadline.remaining() / 2)).wait(
            f"waiting for the ADD of process {process} or its IPAM plugin", (door.fileno(), READABLE)
        )
    except CniError as error:
        log.warning(f"{error.msg}; going on all the same")
        return False
    finally:
        door.close()
    return True


def _is_alive(process: int) -> bool:
    try:
        handle = posix.pidfd_open(process)
    except (OSError, ValueError):
        return False  # gone, or in a PID namespace that we do not see
    try:
        Deadline(_INSTANT).wait("looking whether a process has ended", (handle, READABLE))
        return False
    except CniError:
        return True
    finally:
        posix.close(handle)
