"""Replacing a file that somebody else may be reading: whole or not at all, and what was there is kept."""

from __future__ import annotations

import contextlib
import os
import secrets

from ..failure import Failure
from . import source
from .source import Source

_MARK = b"\xef\xbb\xbf"
_MOST_BACKUPS = 100


def replace(path: str, before: Source, text: str) -> str:
    """Replace what a file says, and keep what it said as FILE.bak; returns the path of that.

    A file that has that name already is left alone, and another number is put behind it.

    Args:
        path: of the file; behind a symbolic link, the file is replaced, and the link stays.
        before: what has been read of it.
        text: what it is to say.

    Raises:
        Failure: it cannot be, or somebody else has changed the file meanwhile.
    """
    real = os.path.realpath(path)
    mark = _MARK if before.mark else b""
    try:
        if source.read(real).text != before.text:
            raise Failure(f"{path} has changed meanwhile, and was left alone", "run the command again")
        backup = _keep(real, mark + before.text.encode())
        temporary = f"{real}.{secrets.token_hex(4)}"
        _create(temporary, mark + text.encode(), real)
        try:
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync(os.path.dirname(real))
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    return backup


def _keep(path: str, data: bytes) -> str:
    """The path of a file beside another that has what that has: of a new one, unless one is there."""
    for number in range(1, _MOST_BACKUPS + 1):
        backup = f"{path}.bak{number if number > 1 else ''}"
        try:
            _create(backup, data, path)
        except FileExistsError:
            with contextlib.suppress(OSError), open(backup, "rb") as file:
                if file.read(len(data) + 1) == data:
                    return backup
        else:
            return backup
    raise Failure(f"{path} has {_MOST_BACKUPS} backups", "remove some of them")


def _create(path: str, data: bytes, like: str) -> None:
    """Make a file that is like another but for what it says; OSError if it exists or cannot be, and none is left."""
    status = os.stat(like)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            os.fchmod(stream.fileno(), status.st_mode & 0o7777)
            for name in os.listxattr(like):  # such as access control lists, and the context of SELinux
                with contextlib.suppress(OSError):  # it is not for us to set, or the kernel has set it
                    os.setxattr(stream.fileno(), name, os.getxattr(like, name))
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(path)
        raise


def _sync(folder: str) -> None:
    """Let what the files of a folder are called outlast a loss of power."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
