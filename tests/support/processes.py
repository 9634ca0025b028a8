"""Starting programs with a bound on their time, and waiting for conditions with a bound."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, within `timeout` seconds; its output is in the answer.

    With `check`, an exit code other than 0 is an AssertionError that shows what the program wrote.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        input="" if stdin is None else stdin,
        env=None if env is None else dict(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        words = " ".join(str(word) for word in argv)
        raise AssertionError(f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(what: str, condition: Callable[[], T], *, timeout: float = 10, interval: float = 0.01) -> T:
    """Polls until `condition()` is true and returns its value; AssertionError naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout} s: {what} (last seen: {value!r})")
        time.sleep(interval)


def alive(pid: int) -> bool:
    """True while the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def ends(pid: int, *, timeout: float) -> None:
    """Waits until a process is gone."""
    wait_for(f"process {pid} ends", lambda: not alive(pid), timeout=timeout)


def keep() -> bool:
    """True when KEEP=1 asks that Open vSwitch, namespaces and folders outlive the tests, for a post-mortem."""
    return os.environ.get("KEEP", "") not in ("", "0")
