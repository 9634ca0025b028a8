"""Running one command of a plugin as a process, as a runtime does, and what the kernel says that it cost."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TIMEOUT = 60  # seconds; a plugin that takes longer is killed, and has failed


@dataclass(frozen=True)
class Outcome:
    """What a process did. `seconds` are from its start to its end; `cpu` includes the children that it waited for."""

    exit_code: int
    seconds: float
    cpu: float
    stdout: bytes
    stderr: bytes

    @property
    def result(self) -> bytes:
        """What it printed when it succeeded."""
        return self.stdout if self.exit_code == 0 else b""

    @property
    def complaint(self) -> str | None:
        """What it printed when it failed, else None."""
        if self.exit_code == 0:
            return None
        text = " ".join((self.stdout or self.stderr).decode(errors="replace").split())
        return f"exit code {self.exit_code}: {text}"


class Process:
    """A running process, in the namespace that the caller is in.

    Its streams are files in memory: a pipe would have to be emptied while it runs, which would take a part of its time
    on a machine with few cores.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], stdin: bytes) -> None:
        """Starts it, with exactly this environment."""
        self._streams = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
        os.pwrite(self._streams[0], stdin, 0)
        actions = [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(self._streams)]
        self.started = time.perf_counter()
        self._pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
        self.pidfd = os.pidfd_open(self._pid)  # readable when it has ended

    def wait(self) -> Outcome:
        """Waits until it has ended, and kills it when that takes too long."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(TIMEOUT * 1000):
            os.kill(self._pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._pid, 0)
        seconds = time.perf_counter() - self.started
        stdout, stderr = (os.pread(stream, 1 << 20, 0) for stream in self._streams[1:])
        for fd in (self.pidfd, *self._streams):
            os.close(fd)
        return Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, stdout, stderr)


def run_at_once(starts: Sequence[tuple[list[str], Mapping[str, str], bytes]], in_flight: int) -> list[Outcome]:
    """Runs all of these, `in_flight` of them at any time; the outcomes are in the order of the arguments."""
    outcomes: dict[int, Outcome] = {}
    running: dict[int, tuple[int, Process]] = {}
    poll = select.poll()
    waiting = iter(enumerate(starts))
    while len(outcomes) < len(starts):
        while len(running) < in_flight and (entry := next(waiting, None)) is not None:
            number, arguments = entry
            process = Process(*arguments)
            poll.register(process.pidfd, select.POLLIN)
            running[process.pidfd] = (number, process)
        # When nothing ends for so long, wait() kills what hangs.
        for pidfd in [fd for fd, _ in poll.poll(TIMEOUT * 1000)] or list(running):
            number, process = running.pop(pidfd)
            poll.unregister(pidfd)
            outcomes[number] = process.wait()
    return [outcomes[number] for number in range(len(starts))]
