"""The process edge: environment, stdin, stdout, signals and the exit code.

No other file touches these; what goes to stderr goes through log.py.
"""

from __future__ import annotations

import gc
import posix
import sys

# `signal` would import `enum` (docs/design.md); typeshed knows only `signal`.
from _signal import SIGHUP, SIGINT, SIGTERM, set_wakeup_fd, signal  # type: ignore[import-not-found]

from cni_ovs import __version__

from . import protocol
from .config import DEFAULT_TIMEOUT
from .deadline import READABLE, WRITABLE, Deadline
from .errors import IO_FAILURE, CniError

# A configuration is a few hundred bytes; Kubernetes allows 1 MiB for an object.
_LARGEST_CONFIG = 4 << 20
# What the kernel passes on is bytes. What is no text among them comes back as it was when a variable is passed on.
_ANY_BYTES = (sys.getfilesystemencoding(), "surrogateescape")
# For a runtime that reads slowly. A result fits into a pipe, so nearly always nothing is waited for.
_STDOUT_SECONDS = 1.0


def main() -> None:
    """Carry out the invocation that the environment describes, and end the process."""
    gc.disable()  # a short life makes little garbage, and looking for it takes time
    _occupy_standard_streams()
    environment = {key.decode(*_ANY_BYTES): value.decode(*_ANY_BYTES) for key, value in posix.environ.items()}
    if not environment.get("CNI_COMMAND"):
        versions = ", ".join(protocol.SUPPORTED_VERSIONS)
        about = f"CNI ovs plugin (cni-ovs) {__version__}, CNI protocol versions supported: {versions}\n"
        posix.write(2, about.encode())
        _end(0)
    # From here on nothing but the result can reach stdout: whatever writes to file descriptor 1 writes to stderr.
    stdout = posix.dup(1)
    posix.dup2(2, 1)
    deadline = Deadline(DEFAULT_TIMEOUT, (stop_on_signals(),))
    stdin: list[bytes] = []

    def read() -> bytes:
        stdin.append(_read_stdin(deadline))
        return stdin[0]

    code, text = protocol.handle(environment, read, deadline)
    try:
        _write(stdout, text.encode())
    except (OSError, CniError):
        if code == 0 and environment["CNI_COMMAND"] == "ADD":
            # Nobody has the result, so to the runtime this ADD failed. Nothing may remain of it.
            again = {**environment, "CNI_COMMAND": "DEL"}
            protocol.handle(again, lambda: stdin[0], Deadline(DEFAULT_TIMEOUT))
        code = 1
    _end(code)


def _write(stdout: int, data: bytes) -> None:
    while data:
        Deadline(_STDOUT_SECONDS).wait("writing the result", (stdout, WRITABLE))
        data = data[posix.write(stdout, data) :]


def _end(code: int) -> None:
    """End at once: the interpreter's own tidying up takes longer than the rest of a DEL."""
    posix._exit(code)


def _occupy_standard_streams() -> None:
    """Let no file that we open become stdin, stdout or stderr because a runtime has closed these."""
    for fd, flags in ((0, posix.O_WRONLY), (1, posix.O_RDONLY), (2, posix.O_WRONLY)):
        try:
            posix.fstat(fd)
        except OSError:
            # The wrong way round for stdin and stdout: using them is then the error that it should be.
            posix.open("/dev/null", flags)


def stop_on_signals() -> int:
    """Make signals readable from a pipe instead of letting them kill us; returns its read end, for Deadline."""
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (SIGTERM, SIGINT, SIGHUP):
        signal(number, lambda *_: None)
    return read_end


def _read_stdin(deadline: Deadline) -> bytes:
    """Everything on stdin."""
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            deadline.wait("reading the network configuration from stdin", (0, READABLE))
            part = posix.read(0, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > _LARGEST_CONFIG:
                raise CniError(IO_FAILURE, f"the network configuration on stdin is larger than {_LARGEST_CONFIG} bytes")
    except OSError as error:
        raise CniError(IO_FAILURE, f"the network configuration cannot be read from stdin: {error.strerror}") from error
