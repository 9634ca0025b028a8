"""ADD, DEL and GC are killed at, or fail in, each of their system calls; then a runtime does what it does after that.

`--whole` tries every visible call, with everything that a runtime may do then, and with every error; else some of them,
evenly spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any, TypeVar

import pytest

from tests.support import interference
from tests.support.interference import Call
from tests.support.node import Node
from tests.support.plugin import Attachment, Outcome

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal", "tap"]
# With everything that Open vSwitch, its bridge and the container can have besides.
LIMITED_AND_CHECKED = {
    "bandwidth": {"ingressRate": 10_000_000, "egressRate": 10_000_000},
    "macspoofchk": True,
    "ipspoofchk": True,
}
GUARDED = ", limited and checked"
ERRORS = ("ENOMEM", "EPERM", "ENODEV", "EINTR", "EIO", "ENOSPC")
SOME = 6  # tries of each test without --whole
T = TypeVar("T")


class Matrix:
    """The tries of one test, each with an attachment of its own in the same sandbox."""

    def __init__(self, node: Node, kind: str, ipam: bool, whole: bool) -> None:
        """Tries nothing yet."""
        self.node = node
        self.whole = whole
        self._options: dict[str, Any] = {
            "interface_type": kind.removesuffix(GUARDED),
            "ipam": node.host_local() if ipam else None,
            "timeout": 5,
            **(LIMITED_AND_CHECKED if kind.endswith(GUARDED) else {}),
        }
        self._rules = node.openvswitch.flows(node.bridge)
        self._sandbox = node.sandbox()
        self.seen: Counter[str] = Counter()  # what became of the tries
        self.bad: list[str] = []

    def attachment(self) -> Attachment:
        """A new container, as far as a runtime is concerned."""
        if not self._sandbox.exists:
            self._sandbox = self.node.sandbox()
        return self.node.attachment(sandbox=self._sandbox, **self._options)

    def attached(self) -> Attachment:
        """The same, and ADD has succeeded."""
        pod = self.attachment()
        pod.add().ok()
        return pod

    def calls(self, scenario: Scenario) -> list[Call]:
        """The calls of a command that nothing happens to, from the one that reads the configuration on.

        Before that the interpreter starts; it has done nothing yet, and cannot print JSON.
        """
        pod = scenario.prepare(self)
        outcome, calls = interference.record(pod, scenario.command)
        assert outcome.exit_code == scenario.exit_code, outcome
        _delete(pod)
        self.node.assert_nothing_left()
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
            assert self.node.openvswitch.flows(self.node.bridge) == self._rules, "OpenFlow rules"
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


def _delete_and_collect(pod: Attachment) -> None:
    """A runtime that calls GC calls it again; DEL of an attachment without addresses does not look for notes."""
    _delete(pod)
    _collect(pod)


def _to_be_collected(matrix: Matrix) -> Attachment:
    pod = matrix.attached()
    pod.config["cni.dev/valid-attachments"] = []
    return pod


def _refused_by_the_kernel(matrix: Matrix) -> Attachment:
    pod = matrix.attachment()
    pod.config["ipam"]["routes"] = [{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}]
    return pod


def _beside_a_stale_port(matrix: Matrix) -> Attachment:
    options: dict[str, Any] = {"ipam": matrix.node.host_local(), "timeout": 5}
    stale = matrix.node.attached(**options)
    matrix.node.vanish(stale)
    return matrix.attachment()


@dataclass(frozen=True)
class Scenario:
    """A command, what is there before it, what a runtime may do when it was killed, and how it ends if it was not."""

    command: str
    prepare: Callable[[Matrix], Attachment]
    recoveries: tuple[Callable[[Attachment], None], ...]
    exit_code: int = 0


SCENARIOS = {
    "ADD": Scenario("ADD", Matrix.attachment, (_delete, _collect, _add_again)),
    "DEL": Scenario("DEL", Matrix.attached, (_delete, _collect)),
    "GC": Scenario("GC", _to_be_collected, (_delete_and_collect, _collect)),
    "ADD that undoes": Scenario("ADD", _refused_by_the_kernel, (_delete, _collect), exit_code=1),
    "ADD that sweeps": Scenario("ADD", _beside_a_stale_port, (_collect,)),
    "DEL that sweeps": Scenario("DEL", _beside_a_stale_port, (_collect,)),
}
NEED_IPAM = {"ADD that undoes", "ADD that sweeps", "DEL that sweeps"}
CASES = [
    pytest.param(
        *(name, kind, ipam),
        id=f"{name}-{kind}-{'host-local' if ipam else 'no IPAM'}",
        marks=[pytest.mark.userspace] if kind == "tap" else [],
    )
    for name in SCENARIOS
    for kind in (*KINDS, f"veth{GUARDED}", f"internal{GUARDED}")
    for ipam in (False, True)
    if (ipam or name not in NEED_IPAM) and (kind == "veth" or not name.endswith("sweeps"))
    if ipam or not kind.endswith(GUARDED)
]


@pytest.fixture
def matrix(node: Node, kind: str, ipam: bool, request: pytest.FixtureRequest) -> Matrix:
    return Matrix(node, kind, ipam, request.config.getoption("--whole"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "kind", "ipam"), CASES)
def test_a_command_is_killed_at_any_call(
    matrix: Matrix, capsys: pytest.CaptureFixture[str], name: str, kind: str, ipam: bool
) -> None:
    scenario = SCENARIOS[name]
    points = interference.around_visible(matrix.calls(scenario))
    tries = (
        list(product(points, scenario.recoveries))
        if matrix.whole
        else list(zip(matrix.chosen(points), cycle(scenario.recoveries), strict=False))
    )
    for point, recover in tries:

        def act(point: Call = point, recover: Callable[[Attachment], None] = recover) -> str:
            pod = scenario.prepare(matrix)
            happened = interference.killed(pod, scenario.command, point, scenario.exit_code)
            recover(pod)
            return f"followed by {recover.__name__.strip('_')}" if happened else "not reached"

        matrix.one(f"{point}, then {recover.__name__}", act)
    matrix.report(capsys, f"{name} killed, {kind}, {'host-local' if ipam else 'no IPAM'}, {len(points)} points")


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


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "kind", "ipam"), [case for case in CASES if case.values[0] in ("ADD", "DEL", "GC")])
def test_any_call_fails(matrix: Matrix, capsys: pytest.CaptureFixture[str], name: str, kind: str, ipam: bool) -> None:
    scenario = SCENARIOS[name]
    for call, error in _failures(matrix, matrix.calls(scenario)):

        def act(call: Call = call, error: str = error) -> str:
            pod = scenario.prepare(matrix)
            outcome, failed = interference.failing(pod, scenario.command, call, error)
            assert outcome.seconds < 5 + 1, outcome
            became = _judged(outcome, failed)
            if scenario.command == "ADD" and outcome.exit_code == 0:
                pod.result = outcome.result
                pod.check().silent()
                pod.delete().silent()
            if scenario.command != "ADD" and outcome.exit_code != 0:
                pod.run(scenario.command).silent()  # a runtime tries again
            return became

        matrix.one(f"{error} in {call}", act)
    matrix.report(capsys, f"{name} with a failing call, {kind}, {'host-local' if ipam else 'no IPAM'}")
