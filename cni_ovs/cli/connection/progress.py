"""A progress bar for what takes seconds: on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..stopping import Stop

_REFRESH_SECONDS = 0.1


class Bar:
    """A bar that goes away in the end. It has no thread of its own: whoever waits calls `tick`.

    Args:
        console: where it is shown, and what is printed meanwhile.
        stop: what `tick` ends at.
        shown: whether at all.
    """

    def __init__(self, console: Console, stop: Stop, *, shown: bool) -> None:
        self._stop = stop
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(30),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._progress.add_task("", total=None)
        self._begun = self._refreshed = 0.0

    def begin(self, text: str, seconds: float) -> None:
        """Something begins that takes about so long; SystemExit as of `tick`."""
        self._stop.check()
        self._begun = time.monotonic()
        self._progress.reset(self._task, description=text, total=seconds)
        self._progress.refresh()

    def tick(self) -> None:
        """Time has passed.

        Raises:
            SystemExit: somebody wants us to stop.
        """
        self._stop.check()
        now = time.monotonic()
        if now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            self._progress.update(self._task, completed=now - self._begun)
            self._progress.refresh()

    def say(self, text: Text) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
