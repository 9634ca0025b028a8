"""Log lines on stderr and, if configured, in a file.

The `logging` package costs as much start-up time as the rest of the plugin together (docs/design.md), so this is
the little of it that a short-lived process needs.
"""

from __future__ import annotations

import posix
import select
import time

# How long a runtime may take to make room in the pipe that is our stderr.
_UNREAD_MS = 100

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("debug", "info", "warning", "error")

# Told of level and text of every message, whatever the lowest level is; `cni-ovs explain` sets it.
observer: Callable[[str, str], None] | None = None


class _Log:
    threshold = 1
    file: int | None = None
    unread = False  # nobody reads our stderr


def configure(level: str, path: str | None) -> None:
    """Set the lowest level to write, and the file to write to besides stderr.

    Args:
        level: one of LEVELS.
        path: an absolute path, created with mode 0600 if missing; symbolic links are not followed, because the
            folder may belong to somebody else. None: stderr only.

    Raises:
        OSError: the file cannot be opened.
    """
    _Log.threshold = LEVELS.index(level)
    if path is not None and _Log.file is None:
        # O_NONBLOCK: opening a FIFO without a reader must not stop us.
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
        _Log.file = posix.open(path, flags, 0o600)


def _write(level: int, text: str) -> None:
    if observer is not None:
        observer(LEVELS[level], text)
    if level < _Log.threshold:
        return
    line = f"{LEVELS[level]}: {text}\n"
    pass_on(("cni-ovs: " + line).encode(errors="backslashreplace"))
    if _Log.file is not None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            posix.write(_Log.file, f"{stamp} [{posix.getpid()}] {line}".encode(errors="backslashreplace"))
        except OSError:
            pass  # a full disk neither


def pass_on(data: bytes) -> None:
    """Write to stderr as it is, or drop it when nobody reads there: that is no reason to fail or to wait."""
    while data and not _Log.unread:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        try:
            if not poll.poll(_UNREAD_MS):
                _Log.unread = True
                return
            # A pipe that is ready takes this much without blocking.
            data = data[posix.write(2, data[: select.PIPE_BUF]) :]
        except OSError:
            _Log.unread = True


def debug(text: str) -> None:
    """Say what is being done."""
    _write(0, text)


def info(text: str) -> None:
    """Say something that an operator may want to know."""
    _write(1, text)


def warning(text: str) -> None:
    """Say that something is wrong, although the command goes on."""
    _write(2, text)


def error(text: str) -> None:
    """Say why the command fails."""
    _write(3, text)
