"""ADD and DEL are killed at, or fail in, each of their system calls; then a runtime does what it does after that.

`--whole` tries every visible call, and each with every error; else some of them, evenly spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, TypeVar

import pytest

from tests.support import interference
from tests.support.interference import Call
from tests.support.node import Node
from tests.support.plugin import Attachment, Outcome

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]
IPAM = pytest.mark.parametrize("ipam", [False, True], ids=["no IPAM", "host-local"])
ERRORS = ("ENOMEM", "EPERM", "ENODEV", "EINTR", "EIO", "ENOSPC")
SOME = 24  # tries of each test without --whole
T = TypeVar("T")


class Matrix:
    """The tries of one test, each with an attachment of its own in the same sandbox."""

    def __init__(self, node: Node, kind: str, ipam: bool, whole: bool) -> None:
        """Tries nothing yet."""
        self.node = node
        self.whole = whole
        self._options: dict[str, Any] = {
            "interface_type": kind,
            "ipam": node.host_local() if ipam else None,
            "timeout": 5,
        }
        self._sandbox = node.sandbox()
        self.seen: Counter[str] = Counter()  # what became of the tries
        self.bad: list[str] = []

    def attachment(self) -> Attachment:
        """A new container, as far as a runtime is concerned."""
        if not self._sandbox.exists:
            self._sandbox = self.node.sandbox()
        return self.node.attachment(sandbox=self._sandbox, **self._options)

    def calls(self, command: str) -> list[Call]:
        """The calls of a command that nothing happens to, from the one that reads the configuration on.

        Before that the interpreter starts; it has done nothing yet, and cannot print JSON.
        """
        pod = self.attachment()
        if command == "DEL":
            pod.add().ok()
        outcome, calls = interference.record(pod, command)
        outcome.ok()
        pod.delete().silent()
        [first, *_] = [index for index, call in enumerate(calls) if call.line.startswith("read(0,")]
        assert len(calls) > first + 20, "strace saw little"
        return calls[first:]

    def chosen(self, tries: Sequence[T]) -> Sequence[T]:
        """All of them, or some."""
        return tries if self.whole else tries[:: max(1, len(tries) // SOME)]

    def one(self, what: str, act: Callable[[], str]) -> None:
        """One try, and the proof that it left nothing; goes on after a failure, but not for ever."""
        try:
            self.seen[act()] += 1
            self.node.assert_nothing_left()
        except AssertionError as error:
            self.bad.append(f"{what}: {error}")
            assert len(self.bad) < 5, "\n".join(self.bad)
            self.attachment().gc(**{"cni.dev/valid-attachments": []})

    def report(self, capsys: pytest.CaptureFixture[str], what: str) -> None:
        """Says how many tries there were, and fails when any left something."""
        with capsys.disabled():
            became = ", ".join(f"{count} {name}" for name, count in sorted(self.seen.items()))
            print(f"\n{what}: {self.seen.total()} tries ({became}), {len(self.bad)} left something")  # noqa: T201
        assert not self.bad, "\n".join(self.bad)
        assert self.seen.total() - self.seen["not reached"] >= SOME / 2


@pytest.fixture
def matrix(node: Node, kind: str, ipam: bool, request: pytest.FixtureRequest) -> Matrix:
    return Matrix(node, kind, ipam, request.config.getoption("--whole"))


def _delete(pod: Attachment) -> None:
    pod.delete().silent()


def _collect(pod: Attachment) -> None:
    """What a runtime does that has forgotten the container: its namespace goes, and it never calls DEL.

    A veth pair that no port belongs to, yet or any more, goes with the namespace.
    """
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    pod.sandbox.delete()


def _add_again(pod: Attachment) -> None:
    """What a runtime does that has forgotten the container and gives its name again. Its interface may be there."""
    outcome = pod.add()
    if outcome.exit_code != 0:
        outcome.error(102)
    pod.delete().silent()


RECOVERIES = {"ADD": [_delete, _collect, _add_again], "DEL": [_delete, _collect]}


@IPAM
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_command_is_killed_at_any_call(
    matrix: Matrix, capsys: pytest.CaptureFixture[str], command: str, kind: str, ipam: bool
) -> None:
    points = matrix.chosen(interference.around_visible(matrix.calls(command)))
    for point, recover in zip(points, cycle(RECOVERIES[command]), strict=False):

        def act(point: Call = point, recover: Callable[[Attachment], None] = recover) -> str:
            pod = matrix.attachment()
            if command == "DEL":
                pod.add().ok()
            happened = interference.killed(pod, command, point)
            recover(pod)
            return f"followed by {recover.__name__.strip('_')}" if happened else "not reached"

        matrix.one(f"{point}, then {recover.__name__}", act)
    matrix.report(capsys, f"{command} killed, {kind}, {'host-local' if ipam else 'no IPAM'}")


def _failures(matrix: Matrix, calls: Sequence[Call]) -> Sequence[tuple[Call, str]]:
    visible = [call for call in calls if call.visible]
    if matrix.whole:
        return [(call, error) for call in visible for error in ERRORS]
    return matrix.chosen(list(zip(visible, cycle(ERRORS), strict=False)))


def _judged(outcome: Outcome, failed: str) -> str:
    """What became of it; a failure has to be explained, unless it is that of writing the explanation."""
    if not failed:
        outcome.ok()
        return "not reached"
    if outcome.exit_code == 0:
        return "succeeded"
    if outcome.stdout == "" and (failed.startswith("write(") or "events=POLLOUT" in failed):
        return "without stdout"
    outcome.error()
    return "failed"


@IPAM
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_any_call_fails(
    matrix: Matrix, capsys: pytest.CaptureFixture[str], command: str, kind: str, ipam: bool
) -> None:
    for call, error in _failures(matrix, matrix.calls(command)):

        def act(call: Call = call, error: str = error) -> str:
            pod = matrix.attachment()
            if command == "DEL":
                pod.add().ok()
            outcome, failed = interference.failing(pod, command, call, error)
            assert outcome.seconds < 5 + 1, outcome
            became = _judged(outcome, failed)
            if command == "ADD" and outcome.exit_code == 0:
                pod.result = outcome.result
                pod.check().silent()
                pod.delete().silent()
            if command == "DEL" and outcome.exit_code != 0:
                pod.delete().silent()  # a runtime tries again
            return became

        matrix.one(f"{error} in {call}", act)
    matrix.report(capsys, f"{command} with a failing call, {kind}, {'host-local' if ipam else 'no IPAM'}")
