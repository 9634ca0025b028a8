"""Tools of the unit tests: an invocation without a process, a bound on time, and a peer that speaks over a socket."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cni_ovs.plugin import protocol
from cni_ovs.plugin.deadline import Deadline

Json = dict[str, Any]

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NOWHERE = "/nonexistent/cni-ovs"
NO_SOCKET = f"{NOWHERE}/db.sock"
NO_NETNS = f"{NOWHERE}/netns"
ENVIRONMENT = {
    "CNI_CONTAINERID": "unit-test-container",
    "CNI_NETNS": NO_NETNS,
    "CNI_IFNAME": "net1",
    "CNI_PATH": NOWHERE,
}
CONFIG: Json = {"cniVersion": "1.1.0", "name": "unit-test", "type": "ovs", "bridge": "br1", "socket_file": NO_SOCKET}


@dataclass(frozen=True)
class Outcome:
    """What an invocation answered."""

    exit_code: int
    stdout: str

    def error(self, *codes: int) -> Json:
        """The error, in the form that the specification demands, with one of these codes."""
        assert self.exit_code == 1
        assert self.stdout.endswith("\n") and "\n" not in self.stdout[:-1]
        error = json.loads(self.stdout)
        assert set(error) in ({"cniVersion", "code", "msg"}, {"cniVersion", "code", "msg", "details"})
        assert error["cniVersion"] in VERSIONS
        assert type(error["code"]) is int
        assert error["msg"] and isinstance(error["msg"], str)
        assert isinstance(error.get("details", ""), str)
        assert error["code"] in codes, error
        return dict(error)

    def silent(self) -> None:
        """Success without a word."""
        assert (self.exit_code, self.stdout) == (0, "")


def refuse_to_read() -> bytes:
    """A stdin that must not be read."""
    pytest.fail("stdin was read")


def handle(
    environment: Mapping[str, str], stdin: object | bytes | Callable[[], bytes] = refuse_to_read, seconds: float = 5
) -> Outcome:
    """Carry out an invocation with exactly this environment; stdin is bytes, their source, or a configuration."""
    if isinstance(stdin, bytes):
        data = stdin
        read: Callable[[], bytes] = lambda: data  # noqa: E731
    elif callable(stdin):
        read = stdin
    else:
        text = json.dumps(stdin).encode()
        read = lambda: text  # noqa: E731
    return Outcome(*protocol.handle(environment, read, Deadline(seconds)))


def invoke(command: str, stdin: object | bytes | Callable[[], bytes] = CONFIG, **changes: str | None) -> Outcome:
    """Carry out a command in a complete environment; `changes` are other variables, None for absent ones.

    The namespace, the database socket and CNI_PATH lead nowhere, so nothing on this machine is changed.
    """
    variables = {"CNI_COMMAND": command, **ENVIRONMENT, **changes}
    return handle({key: value for key, value in variables.items() if value is not None}, stdin)


class _StillRunning(BaseException):
    """Raised where the code is that should have ended; no `except Exception` stops it."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail what is still running after that time, wherever it is. For the main thread only."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _StillRunning

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _StillRunning:
        raise AssertionError(f"still running after {seconds} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Peer:
    """Somebody who listens on a Unix socket, takes one connection, and says what `talk` says.

    `talk` runs in a thread; what it raises fails the test, except that it may find the connection closed.
    """

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._folder = tempfile.TemporaryDirectory(prefix="cni-ovs-")  # short: a socket's path has at most 107 bytes
        self.path = str(Path(self._folder.name) / "db.sock")
        self.address = f"unix:{self.path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Peer:
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(10)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, if nobody came
        self._thread.join(10)
        self._listener.close()
        self._folder.cleanup()
        assert not self._thread.is_alive(), "the peer has not ended"
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(10)
            try:
                self._talk(connection)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                self._error = error


class Requests:
    """Reads JSON messages from a connection one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._text = ""

    def next(self) -> Json | None:
        """The next message; None when the other side has closed the connection."""
        while True:
            try:
                message, end = json.JSONDecoder().raw_decode(self._text)
            except ValueError:
                data = self._connection.recv(1 << 16)
                if not data:
                    assert not self._text, f"cut off: {self._text!r}"
                    return None
                self._text += data.decode("ascii")
                continue
            self._text = self._text[end:]
            assert isinstance(message, dict)
            return message
