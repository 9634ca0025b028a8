"""Many attachments on one bridge, many commands at once, some killed at a random moment; afterwards nothing is left.

150 attachments, and with `--whole` 1,000.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.node import Node
from tests.support.plugin import Attachment

AT_ONCE = 32
PER_SANDBOX = 10
KILLED = 0.05  # of the commands


class Load:
    """The attachments, and what became of the commands."""

    def __init__(self, node: Node, count: int) -> None:
        """Attaches nothing yet."""
        self.random = random.Random()
        self.killed = 0
        self.errors: list[str] = []
        sandboxes = [node.sandbox() for _ in range(count // PER_SANDBOX)]
        self.pods = [
            node.attachment(
                sandbox=sandbox,
                ifname=f"net{number}",
                interface_type="internal" if number == 0 else "veth",
                ipam=node.host_local("10.10.0.0/16"),
                timeout=60,
            )
            for sandbox in sandboxes
            for number in range(PER_SANDBOX)
        ]

    def run(self, work: Callable[[Attachment], None], pods: Sequence[Attachment]) -> tuple[float, float]:
        """Does it for each, many at once; returns how many per second, among the first tenth and the last tenth."""
        ended: list[float] = []

        def one(pod: Attachment) -> None:
            try:
                work(pod)
            except AssertionError as error:
                self.errors.append(f"{work.__name__}: {error}")
            ended.append(time.monotonic())

        started = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, pods))
        tenth = len(pods) // 10
        return tenth / (ended[tenth - 1] - started), tenth / (ended[-1] - ended[-tenth - 1])

    def _killed(self, pod: Attachment, command: str) -> bool:
        """Perhaps runs a command and kills it at a random moment; True if it did, or was too late for that."""
        if self.random.random() >= KILLED:
            return False
        running = pod.start(command)
        if not running.ends_within(self.random.random() * 0.5):
            running.signal(signal.SIGKILL)
            self.killed += 1
            running.wait()
        else:
            running.wait().ok()
        return True

    def add(self, pod: Attachment) -> None:
        """ADD; if it was killed, DEL and another ADD, as a runtime does."""
        if self._killed(pod, "ADD"):
            pod.delete().silent()
        pod.add().ok()

    def check(self, pod: Attachment) -> None:
        """CHECK."""
        pod.check().silent()

    def delete(self, pod: Attachment) -> None:
        """DEL; if it was killed, another one."""
        self._killed(pod, "DEL")
        pod.delete().silent()


@pytest.mark.one_target
@pytest.mark.timeout(1200)
def test_many_attachments_with_random_kills_leave_nothing(
    private_node: Node, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    node = private_node
    before = {table: len(node.openvswitch.rows(table)) for table in ("Port", "Interface", "QoS", "Queue", "Mirror")}
    flows = node.openvswitch.flows(node.bridge)
    load = Load(node, 1000 if request.config.getoption("--whole") else 150)
    added = load.run(load.add, load.pods)
    assert not load.errors, load.errors[:5]
    assert len(node.ports()) == len(load.pods)
    addresses = {pod.addresses[0] for pod in load.pods if pod.result}
    assert len(addresses) == len(load.pods), "an address was given twice"
    first, last = load.pods[0], load.pods[-1]
    assert first.sandbox.pings(last.addresses[0], timeout=20)
    checked = load.run(load.check, load.pods)
    pods = load.random.sample(load.pods, len(load.pods))
    deleted = load.run(load.delete, pods)
    with capsys.disabled():
        rates = ", ".join(
            f"{name} {start:.0f}/s at the start and {end:.0f}/s at the end"
            for name, (start, end) in (("ADD", added), ("CHECK", checked), ("DEL", deleted))
        )
        print(  # noqa: T201 - the figures are a part of what the test is for
            f"\n{len(pods)} attachments, {AT_ONCE} at a time: {rates}; {load.killed} killed, {len(load.errors)} errors"
        )
    assert not load.errors, load.errors[:5]
    assert load.killed
    node.assert_nothing_left()
    after = {table: len(node.openvswitch.rows(table)) for table in before}
    assert after == before
    assert node.openvswitch.flows(node.bridge) == flows
