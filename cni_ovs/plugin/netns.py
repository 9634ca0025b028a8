"""Network namespaces: opening one by its path, and working inside it for a moment.

A socket belongs for ever to the namespace it was created in, so the plugin enters a namespace only to create a
socket or to write a file below /proc/sys/net, and leaves at once.
"""

from __future__ import annotations

import os

from .errors import INVALID_ENVIRONMENT, CniError
from .netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

OWN = "/proc/self/ns/net"
_CLONE_NEWNET = 0x40000000  # linux/sched.h


def _setns(fd: int) -> None:
    if hasattr(os, "setns"):
        os.setns(fd, _CLONE_NEWNET)
        return
    # Python 3.11 has no os.setns.
    import ctypes  # noqa: PLC0415 - costs start-up time, see above

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def is_own(path: str) -> bool:
    """Whether the path is the namespace that this process runs in. False if there is no such file."""
    try:
        own, other = os.stat(OWN), os.stat(path)
    except OSError:
        return False
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


class Namespace:
    """An open network namespace.

    Use it as a context manager to work inside::

        with namespace:
            ...  # this process is in the namespace

    Args:
        path: such as /run/netns/NAME or /proc/PID/ns/net.

    Raises:
        CniError: INVALID_ENVIRONMENT, when the path cannot be opened or is no network namespace.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            # O_NONBLOCK: the path comes from outside, and opening a FIFO would wait for ever.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with self:
                pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            hint = "it must be the path of a network namespace, such as /run/netns/NAME"
            if isinstance(error, PermissionError):
                hint = "the plugin must run as root"
            raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS {path!r} cannot be entered: {reason}", hint) from error

    def open_netlink(self, watch: int = 0) -> Netlink:
        """A netlink socket of this namespace, with the notifications that Netlink describes."""
        with self:
            return Netlink(watch)

    def __enter__(self) -> None:
        _setns(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _setns(self._own)


def write_sysctl(key: str, value: str) -> None:
    """Write `value` to a file below /proc/sys/net of the namespace this process is in, unless it is there already.

    Reading first matters: where /proc/sys is read-only (a plugin inside a container) a value that is right needs
    no write.

    Args:
        key: such as `ipv6/conf/eth0/disable_ipv6`.
        value: without a newline.

    Raises:
        OSError: there is no such key, or it may not be written.
    """
    fd = os.open("/proc/sys/net/" + key, os.O_RDONLY | os.O_CLOEXEC)
    try:
        current = os.read(fd, 256)
    finally:
        os.close(fd)
    if current.strip() == value.encode():
        return
    fd = os.open("/proc/sys/net/" + key, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_sysctl(key: str) -> str:
    """The value of a file below /proc/sys/net of the namespace this process is in, without its newline.

    Raises:
        OSError: there is no such key.
    """
    fd = os.open("/proc/sys/net/" + key, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 256).decode().strip()
    finally:
        os.close(fd)
