"""The device-information file, by which a runtime learns of a device that is no network interface.

Source: the Network Plumbing Working Group's Device Information Specification 1.1.0. Its capability CNIDeviceInfoFile
gives us the path, unique for each attachment.
"""

from __future__ import annotations

import posix
from errno import EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO

from . import jsontext, log
from .errors import IO_FAILURE, CniError

VERSION = "1.1.0"
GONE = (
    ENOENT,
    ENOTDIR,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENXIO,
)  # no file is there, or something else than one that ADD makes
_S_IFMT, _S_IFREG = 0o170000, 0o100000  # linux/stat.h
_SIZE = 64 << 10  # more than any of ours has


def vhost_user(mode: str, path: str) -> bytes:
    """What the file says of a vhost-user device.

    Args:
        mode: "server" where the container's program makes the socket, and "client" where the host does.
        path: of the socket.
    """
    said = {"type": "vhost-user", "version": VERSION, "vhost-user": {"mode": mode, "path": path}}
    return jsontext.encode(said).encode()


def write(path: str, content: bytes) -> None:
    """Write the file, whole or not at all, and its folder, if that is missing. One that is there stays as it is.

    Raises:
        CniError: IO_FAILURE.
    """
    folder = path.rpartition("/")[0] or "/"
    try:
        _make_folder(folder)
        # Without a name until it is complete; so nothing is left of it if we are killed.
        fd = posix.open(folder, posix.O_TMPFILE | posix.O_WRONLY | posix.O_CLOEXEC, 0o644)
        try:
            posix.write(fd, content)
            # With `src_dir_fd`, which a whole path does not need, Python calls linkat(2); link(2) would not follow.
            posix.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
        finally:
            posix.close(fd)
    except OSError as error:
        if error.errno == EEXIST:
            # A device plugin's, which the runtime has copied there; the specification lets us write only where none is.
            log.warning(f"device-information file {path!r} is there already, and is left as it is")
            return
        raise CniError(
            IO_FAILURE,
            f"device-information file {path!r} cannot be written: {error.strerror}",
            "the runtime asks for it in 'runtimeConfig.CNIDeviceInfoFile'",
        ) from error


def remove(path: str, name: str) -> None:
    """Remove the file of a vhost-user device whose socket has this name, if it is there. Another's stays.

    Raises:
        CniError: IO_FAILURE.
    """
    try:
        if _names_socket(_read(path), name):
            posix.unlink(path)
    except ValueError:
        pass  # no path can be so
    except OSError as error:
        if error.errno not in GONE:
            what = f"device-information file {path!r} cannot be removed: {error.strerror}"
            raise CniError(IO_FAILURE, what, "remove it, or make its folder writable") from error


def _names_socket(content: bytes, name: str) -> bool:
    try:
        said = jsontext.decode(content)
    except ValueError:
        return False
    device = said.get("vhost-user") if isinstance(said, dict) else None
    path = device.get("path") if isinstance(device, dict) else None
    return isinstance(path, str) and path.rpartition("/")[2] == name


def _read(path: str) -> bytes:
    if posix.lstat(path).st_mode & _S_IFMT != _S_IFREG:
        return b""  # opening a device may do something
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOFOLLOW)
    try:
        return posix.read(fd, _SIZE)
    finally:
        posix.close(fd)


def _make_folder(path: str) -> None:
    try:
        posix.mkdir(path, 0o755)
    except FileNotFoundError:
        _make_folder(path.rpartition("/")[0])
        posix.mkdir(path, 0o755)
    except FileExistsError:
        pass
