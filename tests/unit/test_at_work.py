"""Signs that an ADD is at work: put up by real processes, which end, are killed, or leave a child with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cni_ovs.plugin import at_work
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import TRY_AGAIN_LATER, CniError
from tests.support.plugin import REPOSITORY
from tests.support.processes import ends
from tests.unit.tools import within

NAME = "cni0123456789ab"

# Puts up the sign, as user ARGV[1], hands it to a child that sleeps ARGV[2] seconds, and dies.
LEAVES_A_CHILD = """
import os, sys
from cni_ovs.plugin import at_work
from cni_ovs.plugin.deadline import Deadline
os.setuid(int(sys.argv[1]))
sign = at_work.begin(sys.argv[3], Deadline(1))
os.set_inheritable(sign.fileno(), True)
print(os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", sys.argv[2]]), flush=True)
os.kill(os.getpid(), 9)
"""


@contextmanager
def orphan(seconds: float, user: int = 0) -> Iterator[None]:
    """A child that has the sign for so long, and whose parent is dead."""
    command = [sys.executable, "-c", LEAVES_A_CHILD, str(user), str(seconds), NAME]
    with tempfile.TemporaryFile("w+") as said:  # a pipe would be the child's too
        assert (
            subprocess.run(command, cwd=REPOSITORY, stdout=said, check=False, timeout=10).returncode == -signal.SIGKILL
        )
        said.seek(0)
        child = int(said.read())
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        ends(child, timeout=5)


def taken_down(seconds: float = 10) -> float:
    """Waits for the end; returns how long it took."""
    started = time.monotonic()
    at_work.wait_for_end(NAME, Deadline(seconds))
    return time.monotonic() - started


def test_without_a_sign_nobody_waits() -> None:
    assert taken_down() < 0.1


def test_a_second_one_is_refused_as_long_as_the_first_is_at_work() -> None:
    with within(5):
        first = at_work.begin(NAME, Deadline(5))
        assert first is not None
        with pytest.raises(CniError) as caught:
            at_work.begin(NAME, Deadline(5))
        assert caught.value.code == TRY_AGAIN_LATER
        assert str(os.getpid()) in caught.value.details
        at_work.end(first)
        second = at_work.begin(NAME, Deadline(5))
        assert second is not None
        at_work.end(second)


def test_any_number_of_others_are_refused() -> None:
    """Nobody accepts their connections, which fill a queue."""
    with within(20):
        sign = at_work.begin(NAME, Deadline(5))
        assert sign is not None
        sign.listen(8)
        for _ in range(20):
            with pytest.raises(CniError):
                at_work.begin(NAME, Deadline(5))
        assert at_work.is_add_alive(NAME)
        assert taken_down() < 1
        at_work.end(sign)
        assert not at_work.is_add_alive(NAME)


def test_what_inherits_the_sign_of_one_that_has_ended_is_no_add() -> None:
    with within(10):
        sign = at_work.begin(NAME, Deadline(5))
        assert sign is not None
        inherited = os.dup(sign.fileno())
        at_work.end(sign)
        assert not at_work.is_add_alive(NAME)
        assert taken_down() < 0.1
        assert at_work.begin(NAME, Deadline(5)) is None
        os.close(inherited)


def test_the_sign_of_a_killed_one_is_up_until_its_child_ends() -> None:
    with within(10), orphan(1):
        assert 0.3 < taken_down() < 3


def test_a_child_that_hangs_keeps_nobody_for_more_than_half_of_the_time() -> None:
    with within(10), orphan(3):
        assert 0.4 < taken_down(1) < 0.9
        assert at_work.begin(NAME, Deadline(1)) is None


def test_the_next_one_waits_for_the_child_of_a_killed_one() -> None:
    with within(10), orphan(1):
        assert not at_work.is_add_alive(NAME)
        started = time.monotonic()
        sign = at_work.begin(NAME, Deadline(8))
        assert sign is not None
        assert time.monotonic() - started > 0.3
        at_work.end(sign)


def test_a_sign_of_another_user_is_none() -> None:
    with within(10), orphan(1, user=65534):
        assert taken_down() < 0.1
        assert at_work.begin(NAME, Deadline(1)) is None
