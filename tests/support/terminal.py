"""Running the command in a terminal, of which there is none in a test."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from tests.support.cli import Cli


def in_terminal(cli: Cli, *words: str, timeout: float = 60) -> str:
    """What the command prints to a terminal of 80 columns; it must succeed."""
    master, slave = pty.openpty()
    environment = {**cli.environment, "TERM": "xterm-256color", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(cli.command(*words), env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    printed = b""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                printed += os.read(master, 1 << 16)
            except OSError:  # nobody has the other side any more
                break
    os.close(master)
    assert process.wait(5) == 0, printed
    return printed.decode()
