"""Signs that an ADD, or a GC, is at work on an attachment: a listening socket each, with an abstract address.

Such an address is made from the port's name, and is no file (unix(7)): it goes with the last process that has the
socket, however that ends. The IPAM plugin inherits it from ADD. If ADD is killed, the plugin goes on, and may give an
address after the DEL that follows; nobody would return that.
"""

from __future__ import annotations

import _struct
import posix
import time
from _socket import AF_UNIX, SHUT_RDWR, SO_PEERCRED, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from errno import EAGAIN

from . import log
from .deadline import READABLE, Deadline
from .errors import TRY_AGAIN_LATER, CniError

# The runtime waits for us, and an IPAM plugin that was left alone may hang.
SECONDS = 5.0
_TRIES = 3
_PAUSE = 0.001  # between two tries: longer than what lies between bind and listen
_BACKLOG = 4096  # visitors, also those that have gone: nobody is ever accepted
_UCRED = _struct.Struct("iII")  # linux/socket.h: process, user and group


def begin(port_name: str, deadline: Deadline) -> socket | None:
    """Put up the sign; `end` takes it down. None, if that cannot be done; ADD does its work all the same.

    Raises:
        CniError: TRY_AGAIN_LATER, when another command is at work on the same attachment: each would undo what the
            other does.
    """
    for _ in range(_TRIES):
        sign = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            sign.bind(_address(port_name))
            sign.listen(_BACKLOG)
            return sign
        except OSError:
            sign.close()
        visit = _Visit(port_name)
        if visit.is_add_alive():
            visit.close()
            raise CniError(
                TRY_AGAIN_LATER,
                "another ADD of this attachment, or a GC that removes it, is at work",
                f"it is process {visit.process}",
            )
        if visit.found:
            visit.wait(deadline)
        else:
            time.sleep(_PAUSE)  # somebody has just bound it, or has left it to a child (see `end`)
    log.info("another ADD of this attachment would not see that this one is at work")
    return None


def end(sign: socket) -> None:
    """Take the sign down, also for a process that has inherited it: what an IPAM plugin leaves running is no ADD."""
    sign.shutdown(SHUT_RDWR)
    sign.close()


def is_add_alive(port_name: str) -> bool:
    """Whether an ADD is at work on an attachment; its IPAM plugin alone does not count."""
    visit = _Visit(port_name)
    visit.close()
    return visit.is_add_alive()


def wait_for_end(port_name: str, deadline: Deadline) -> None:
    """Wait until nobody is at work on an attachment any more: at most five seconds, and half of the time."""
    visit = _Visit(port_name)
    if visit.found:
        visit.wait(deadline)


class _Visit:
    """A connection to whoever has the sign of an attachment.

    Attributes:
        found: whether there is a sign.
        process: who has put it up; 0 if that is not known (it is in another PID namespace, or has too many visitors).
    """

    def __init__(self, port_name: str) -> None:
        self.found = False
        self.process = 0
        self._crowded = False
        self._door: socket | None = None
        try:
            self._door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
            self._door.setblocking(False)
            self._door.connect(_address(port_name))
            credentials = self._door.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size)
        except OSError as error:
            self._crowded = error.errno == EAGAIN
        else:
            self.process, user, _ = _UCRED.unpack(credentials)
            self.found = user == posix.geteuid()  # anybody may take such an address
        if not self.found:
            self.close()

    def is_add_alive(self) -> bool:
        """Whether the process that has put up the sign lives."""
        if self._crowded:
            return True
        try:
            fd = posix.open(f"/proc/{self.process}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return False
        try:
            state = posix.read(fd, 4096).rpartition(b")")[2].split()[:1]
        except OSError:  # it has just ended
            return False
        finally:
            posix.close(fd)
        return self.found and state not in ([b"Z"], [b"X"])

    def wait(self, deadline: Deadline) -> None:
        """Wait until the last process that has the sign is gone, which breaks the connection. Then close it."""
        if self._door is None:
            return
        try:
            deadline.shorter(min(SECONDS, deadline.remaining() / 2)).wait(
                f"waiting for the ADD of process {self.process} or its IPAM plugin", (self._door.fileno(), READABLE)
            )
        except CniError as error:
            log.warning(error.msg)
        finally:
            self.close()

    def close(self) -> None:
        """End the visit."""
        if self._door is not None:
            self._door.close()


def _address(port_name: str) -> str:
    return f"\0cni-ovs-add-{port_name}"
