"""Network namespaces: opening one by its path, and working inside it for a moment.

A socket belongs for ever to the namespace it was created in, so the plugin enters a namespace only to create a
socket or to write a file below /proc/sys/net, and leaves at once.
"""

from __future__ import annotations

import posix
from errno import EAGAIN, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from fcntl import ioctl

from .errors import INVALID_ENVIRONMENT, CniError
from .netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

OWN = "/proc/self/ns/net"
SHORTAGE = (EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM)  # of something, which may pass
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
# Told of every key and value that `write_sysctl` writes; `cni-ovs explain` sets it.
sysctl_observer: Callable[[str, str], None] | None = None


def is_own(path: str) -> bool:
    """Whether the path is the namespace that this process runs in. False if there is no such file."""
    try:
        own, other = posix.stat(OWN), posix.stat(path)
    except OSError:
        return False
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


def is_gone(path: str) -> bool:
    """Whether the namespace that had this path is provably gone: nothing is there, or no namespace.

    That it cannot be reached from here, because the folder that should have it is missing or closed, proves nothing;
    nor does a symbolic link that leads nowhere, perhaps into such a folder.
    """
    if not path.startswith("/"):
        return False
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except FileNotFoundError:
        folder = "/proc" if path.startswith("/proc/") else path.rpartition("/")[0] or "/"
        return posix.access(folder, posix.F_OK) and not _is_link(path)
    except (OSError, ValueError):
        return False
    try:
        return not _is_network_namespace(fd)
    finally:
        posix.close(fd)


def _is_link(path: str) -> bool:
    try:
        posix.readlink(path)
    except OSError:
        return False
    return True


def _is_network_namespace(fd: int) -> bool:
    try:
        return ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False  # no namespace at all


class Namespace:
    """An open network namespace.

    Use it as a context manager to work inside::

        with namespace:
            ...  # this process is in the namespace

    Args:
        path: such as /run/netns/NAME or /proc/PID/ns/net.

    Raises:
        CniError: INVALID_ENVIRONMENT, when the path cannot be opened, is no network namespace, or (on
            entering it) when this process may not.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._netlink: Netlink | None = None
        try:
            self._own = posix.open(OWN, posix.O_RDONLY | posix.O_CLOEXEC)
            # O_NONBLOCK: the path comes from outside, and opening a FIFO would wait for ever.
            try:
                self.fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
                if not _is_network_namespace(self.fd):
                    posix.close(self.fd)
                    raise OSError(EINVAL, "it is no network namespace")
            except (OSError, ValueError):
                posix.close(self._own)
                raise
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    @property
    def netlink(self) -> Netlink:
        """A netlink socket of this namespace. It is opened when it is first asked for: that takes a while."""
        if self._netlink is None:
            self._netlink = self.open_netlink()
        return self._netlink

    def open_netlink(self, watch: int = 0) -> Netlink:
        """Another one, with the notifications that Netlink describes."""
        with self:
            return Netlink(watch)

    def close(self) -> None:
        """Close it, where more than one are opened; this one is not used any more."""
        if self._netlink is not None:
            self._netlink.close()
        posix.close(self.fd)
        posix.close(self._own)

    def __enter__(self) -> None:
        from .setns import setns  # noqa: PLC0415 - DEL needs this file, but seldom this

        try:
            setns(self.fd, _CLONE_NEWNET)
        except OSError as error:
            raise self._refused(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .setns import setns  # noqa: PLC0415

        try:
            setns(self._own, _CLONE_NEWNET)
        except OSError:
            # There was no memory, say. All that follows, and undoing too, would be done in the container's namespace.
            setns(self._own, _CLONE_NEWNET)

    def _refused(self, error: OSError | ValueError) -> CniError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "it must be the path of a network namespace, such as /run/netns/NAME"
        if isinstance(error, PermissionError):
            hint = "the plugin must run as root"
        return CniError(INVALID_ENVIRONMENT, f"CNI_NETNS {self.path!r} cannot be entered: {reason}", hint)


def open_if_there(path: str) -> Namespace | None:
    """The namespace of a path; None if there is none any more.

    Raises:
        CniError: INVALID_ENVIRONMENT, when we are short of something, which says nothing of the namespace.
    """
    try:
        return Namespace(path)
    except CniError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in SHORTAGE:
            raise
        return None


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
    fd = posix.open("/proc/sys/net/" + key, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        current = posix.read(fd, 256)
    finally:
        posix.close(fd)
    if current.strip() == value.encode():
        return
    if sysctl_observer is not None:
        sysctl_observer(key, value)
    fd = posix.open("/proc/sys/net/" + key, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, value.encode())
    finally:
        posix.close(fd)


def read_sysctl(key: str) -> str:
    """The value of a file below /proc/sys/net of the namespace this process is in, without its newline.

    Raises:
        OSError: there is no such key.
    """
    fd = posix.open("/proc/sys/net/" + key, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 256).decode().strip()
    finally:
        posix.close(fd)
