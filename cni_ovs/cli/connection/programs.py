"""Programs that run in a container's network namespace, and of which nothing remains, however this process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO

from .. import children, kernel

Tick = Callable[[], None]  # called now and then while something is waited for
_LONGEST_OUTPUT = 4 << 20


class Program:
    """A program in a network namespace. It must be started by the only thread: it ends with the thread.

    Args:
        netns: path of the namespace; everything else is as on the host.
        argv: the command line.

    Raises:
        OSError: the namespace has gone, or there is no such program.
    """

    def __init__(self, netns: str, argv: Sequence[str]) -> None:
        # Files in memory: nothing has to be read while it runs, and no file remains.
        self._out, self._err = _memory(), _memory()
        with kernel.inside(netns):
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,  # Ctrl-C is for us, who end it
                preexec_fn=partial(children.end_with, os.getpid()),  # noqa: PLW1509 - there is but one thread
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return _read(self._out)

    @property
    def complaint(self) -> str:
        """The last line of what it has printed to stderr, in short."""
        return (_read(self._err).strip().splitlines() or [""])[-1][:200]

    def wait(self, seconds: float, tick: Tick) -> bool:
        """Wait until it ends; False if it does not in this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
                return True
            tick()
        return False

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()
        self._err.close()


@contextlib.contextmanager
def running(netns: str, *argv: str) -> Iterator[Program]:
    """A program that is ended when it is not needed any more."""
    program = Program(netns, argv)
    try:
        yield program
    finally:
        program.kill()


def _memory() -> IO[bytes]:
    return os.fdopen(os.memfd_create("cni-ovs-output"), "w+b", buffering=0)


def _read(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), _LONGEST_OUTPUT, 0).decode(errors="replace")
