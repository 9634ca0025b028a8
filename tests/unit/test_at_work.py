"""Signs that an ADD is at work: put up by real processes, which end, are killed, or leave a child with it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cni_ovs.plugin import at_work
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import NAME_TAKEN, CniError
from tests.support.plugin import REPOSITORY
from tests.unit.tools import within

NAME = "cni0123456789ab"

# Puts up the sign, as user ARGV[1], hands it to a child that sleeps ARGV[2] seconds, and dies.
LEAVES_A_CHILD = """
import os, sys
os.setuid(int(sys.argv[1]))
from cni_ovs.plugin import at_work
from cni_ovs.plugin.deadline import Deadline
sign = at_work.begin(sys.argv[3], Deadline(1))
os.set_inheritable(sign.fileno(), True)
os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", sys.argv[2]])
os.kill(os.getpid(), 9)
"""


@contextmanager
def orphan(seconds: float, user: int = 0) -> Iterator[None]:
    """A child that has the sign for so long, and whose parent is dead."""
    command = [sys.executable, "-c", LEAVES_A_CHILD, str(user), str(seconds), NAME]
    subprocess.run(command, cwd=REPOSITORY, check=False, timeout=10)
    yield
    time.sleep(seconds)  # the next test uses the name again


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
        assert caught.value.code == NAME_TAKEN
        first.close()
        second = at_work.begin(NAME, Deadline(5))
        assert second is not None
        second.close()


def test_the_sign_of_a_killed_one_is_up_until_its_child_ends() -> None:
    with within(10), orphan(1):
        assert 0.5 < taken_down() < 3


def test_a_child_that_hangs_keeps_nobody_for_more_than_half_of_the_time() -> None:
    with within(10), orphan(3):
        assert 0.4 < taken_down(1) < 0.9
        assert at_work.begin(NAME, Deadline(1)) is None


def test_the_next_one_waits_for_the_child_of_a_killed_one() -> None:
    with within(10), orphan(1):
        sign = at_work.begin(NAME, Deadline(8))
        assert sign is not None
        sign.close()


def test_a_sign_of_another_user_is_none() -> None:
    with within(10), orphan(1, user=65534):
        assert taken_down() < 0.1
        assert at_work.begin(NAME, Deadline(1)) is None
