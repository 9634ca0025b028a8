"""The time that a command has, and its waits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_ovs.plugin.deadline import READABLE, WRITABLE, Deadline
from cni_ovs.plugin.errors import CniError
from tests.unit.tools import within

REPOSITORY = Path(__file__).parents[2]


class Pipe:
    """A pipe; both ends are closed at the end of the test."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read)
        os.close(self.write)


def wait_until_it_ends(deadline: Deadline, fd: int, events: int) -> int:
    """Wait again and again, as everybody does who needs more than there is; returns how often, at the deadline."""
    rounds = 0
    with within(4):
        while True:
            rounds += 1
            try:
                deadline.wait("waiting for nothing", (fd, events))
            except CniError as error:
                if error.code != 11 or "waiting for nothing" not in error.msg or "timed out" not in error.msg:
                    raise
                return rounds


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """An empty pipe."""
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def stop() -> Iterator[Pipe]:
    """The pipe that a signal is written to."""
    made = Pipe()
    yield made
    made.close()


def test_the_time_runs_out() -> None:
    deadline = Deadline(0.05)
    assert 0 < deadline.remaining() <= 0.05
    time.sleep(0.06)
    assert deadline.remaining() == 0.0


def test_a_limit_counts_from_the_start() -> None:
    deadline = Deadline(100)
    time.sleep(0.02)
    deadline.limit(10)
    assert 9 < deadline.remaining() <= 9.98
    deadline.limit(0.01)
    assert deadline.remaining() == 0.0
    deadline.limit(100)
    assert deadline.remaining() > 99


@pytest.mark.parametrize(("seconds", "expected"), [(1, 1), (100, 5), (0, 0), (-1, 0)])
def test_a_shorter_deadline_never_ends_later(seconds: float, expected: float) -> None:
    assert Deadline(5).shorter(seconds).remaining() == pytest.approx(expected, abs=0.2)


def test_a_wait_ends_with_the_deadline_and_says_what_it_waited_for(pipe: Pipe) -> None:
    start = time.monotonic()
    with pytest.raises(CniError, match=r"timed out after 0.2 s while reading") as caught:
        Deadline(0.1999).wait("reading", (pipe.read, READABLE))
    assert 0.1 < time.monotonic() - start < 1
    assert caught.value.code == 11


def test_a_wait_sleeps_until_the_end_and_does_not_spin(pipe: Pipe) -> None:
    before = time.process_time()
    assert wait_until_it_ends(Deadline(0.3), pipe.read, READABLE) <= 3
    assert time.process_time() - before < 0.1


def test_a_wait_returns_what_is_ready(pipe: Pipe) -> None:
    os.write(pipe.write, b"x")
    deadline = Deadline(5)
    assert deadline.wait("reading", (pipe.read, READABLE)) == [(pipe.read, READABLE)]
    assert deadline.wait("writing", (pipe.write, WRITABLE)) == [(pipe.write, WRITABLE)]
    both = deadline.wait("both", (pipe.read, READABLE), (pipe.write, WRITABLE))
    assert sorted(both) == sorted([(pipe.read, READABLE), (pipe.write, WRITABLE)])


def test_a_wait_returns_as_soon_as_something_is_ready() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(["sh", "-c", "sleep 0.1; echo"], stdout=theirs.fileno()):
        start = time.monotonic()
        assert Deadline(10).wait("waiting for a line", (ours.fileno(), READABLE))
        assert 0.05 < time.monotonic() - start < 5


def test_a_closed_peer_ends_a_wait() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        ((fd, _),) = Deadline(5).wait("reading", (ours.fileno(), READABLE))
        assert fd == ours.fileno()


def test_a_source_that_is_always_ready_does_not_outlast_the_deadline(pipe: Pipe) -> None:
    start = time.monotonic()
    wait_until_it_ends(Deadline(0.2), pipe.write, WRITABLE)
    assert time.monotonic() - start < 2


def test_a_signal_ends_a_wait_and_comes_before_everything_else(pipe: Pipe, stop: Pipe) -> None:
    os.write(stop.write, b"\x0f")
    os.write(pipe.write, b"x")
    deadline = Deadline(5, (stop.read,))
    for waiting in (deadline, deadline.shorter(1)):
        for _ in range(2):  # it is not forgotten
            with pytest.raises(CniError) as caught:
                waiting.wait("reading", (pipe.read, READABLE))
            assert caught.value.code == 11
            assert "signal" in caught.value.msg and "reading" in caught.value.msg


def test_undoing_has_time_of_its_own_and_no_signal_ends_it(pipe: Pipe, stop: Pipe) -> None:
    os.write(stop.write, b"\x0f")
    os.write(pipe.write, b"x")
    undoing = Deadline(0, (stop.read,)).unstoppable(5)
    assert undoing.remaining() > 4
    assert undoing.wait("undoing", (pipe.read, READABLE)) == [(pipe.read, READABLE)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_stdin_is_read_ends_the_plugin_with_an_error(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cni_ovs.plugin"],
        cwd=REPOSITORY,
        env={"CNI_COMMAND": "STATUS"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin and process.stdout
            process.stdin.write(b"{")
            process.stdin.flush()
            _wait_until_it_polls(process.pid)
            process.send_signal(number)
            assert process.wait(10) == 1
            answer = process.stdout.read()
        finally:
            process.kill()
    assert b'"code": 11' in answer and b"stopped by a signal" in answer


def _wait_until_it_polls(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/wchan").read_text().startswith(("do_poll", "do_sys_poll", "poll_schedule")):
            return
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "S" and Path(f"/proc/{pid}/syscall").read_text().startswith("7 "):  # poll, on x86-64
            return
        time.sleep(0.01)
    time.sleep(0.5)  # neither file says it on this kernel
