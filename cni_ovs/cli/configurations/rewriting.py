"""Replacing a file that somebody else may be reading: whole or not at all, and what was there is kept."""

from __future__ import annotations

import os
import secrets

from ..failure import Failure
from . import source
from .source import Source

_MARK = b"\xef\xbb\xbf"


def replace(path: str, before: Source, text: str) -> str:
    """Replace what a file says, and keep what it said as FILE.bak; returns the path of that.

    Args:
        path: of the file; behind a symbolic link, the file is replaced, and the link stays.
        before: what has been read of it.
        text: what it is to say.

    Raises:
        Failure: it cannot be, or somebody else has changed the file meanwhile.
    """
    real = os.path.realpath(path)
    backup = f"{real}.bak"
    mark = _MARK if before.mark else b""
    try:
        if source.read(real).text != before.text:
            raise Failure(f"{path} has changed meanwhile, and was left alone", "run the command again")
        status = os.stat(real)
        _put(backup, mark + before.text.encode(), status)
        _put(real, mark + text.encode(), status)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    return backup


def _put(path: str, data: bytes, status: os.stat_result) -> None:
    """Put a file in its place at once, with owner and mode of another."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
                os.fchmod(stream.fileno(), status.st_mode & 0o7777)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    finally:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
