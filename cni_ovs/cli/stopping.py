"""Ending in order when a signal comes, for commands that take a while."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """Makes SIGINT, SIGTERM and SIGHUP end what is done within it in order: at the next `check`, and not anywhere.

    An exception out of a signal handler could come between the start of a program and its being known, and is lost
    where Python calls what must not fail.

    Attributes:
        fd: becomes readable with such a signal, for the plugin's Deadline.
    """

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, Any] = {}
        self.fd, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def check(self) -> None:
        """Raise SystemExit, with the exit code that a shell would give, if there was such a signal."""
        if self._number:
            raise SystemExit(128 + self._number)

    def __enter__(self) -> Stop:
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_end)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = number
