"""The time that one command has, and the only place where the plugin waits.

Every wait goes through `Deadline.wait`, so nothing waits without a bound, and a SIGTERM ends a wait (and only a
wait: between two waits the work is never torn apart, so undo always knows what was made).
"""

from __future__ import annotations

import select
import time

from .errors import TRY_AGAIN_LATER, CniError

READABLE = select.POLLIN
WRITABLE = select.POLLOUT


class Deadline:
    """A point in time, and optionally file descriptors that become readable when we are told to stop.

    Args:
        seconds: from now.
        stop: what becomes readable when we are told to stop (main.py); nothing, to wait regardless of that.
    """

    def __init__(self, seconds: float, stop: tuple[int, ...] = ()) -> None:
        self._seconds = seconds
        self._start = time.monotonic()
        self._stop = stop

    def limit(self, seconds: float) -> None:
        """Move the end to `seconds` after the start (the configuration's `timeout` is known only once it is read)."""
        self._seconds = seconds

    def remaining(self) -> float:
        """Seconds left; 0.0 if none."""
        return max(0.0, self._start + self._seconds - time.monotonic())

    def shorter(self, seconds: float) -> Deadline:
        """A deadline that ends after `seconds`, or with this one if that is earlier."""
        return Deadline(min(seconds, self.remaining()), self._stop)

    def unstoppable(self, seconds: float) -> Deadline:
        """A deadline for undoing: it has time of its own and no signal ends it."""
        return Deadline(seconds)

    def wait(self, doing: str, *watched: tuple[int, int]) -> list[tuple[int, int]]:
        """Wait until one of the file descriptors is ready.

        Args:
            doing: what we wait for, as in "waiting for ovsdb-server"; goes into the error.
            watched: pairs of a file descriptor and READABLE or WRITABLE.

        Returns:
            The ready ones, as pairs of file descriptor and events (as select.poll returns them).

        Raises:
            CniError: TRY_AGAIN_LATER, when the time is over or a signal asked us to stop.
        """
        poll = select.poll()
        for fd, events in watched:
            poll.register(fd, events)
        for fd in self._stop:
            poll.register(fd, READABLE)
        left = self.remaining()
        # Rounded up, so that the last millisecond is slept and not spun through. Once it is over nothing is ready any
        # more, or something that is always ready would keep us for ever.
        ready = poll.poll(int(left * 1000) + 1) if left else []
        if any(fd in self._stop for fd, _ in ready):
            raise CniError(TRY_AGAIN_LATER, f"stopped by a signal while {doing}")
        if not ready and not self.remaining():
            seconds = round(self._seconds, 1 if self._seconds >= 0.1 else 3)
            raise CniError(TRY_AGAIN_LATER, f"timed out after {seconds:g} s while {doing}")
        return ready
