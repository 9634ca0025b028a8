"""Many attachments on one bridge, many commands at once, some killed at a random moment; afterwards nothing is left.

100 attachments, and with `--whole` 1,000.
"""

from __future__ import annotations

import pytest

from tests.support.load import AT_ONCE, Load
from tests.support.node import Node


@pytest.mark.one_target
@pytest.mark.timeout(1200)
def test_many_attachments_with_random_kills_leave_nothing(
    private_node: Node, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    node = private_node
    before = {table: len(node.openvswitch.rows(table)) for table in ("Port", "Interface", "QoS", "Queue", "Mirror")}
    flows = node.openvswitch.flows(node.bridge)
    load = Load(node, 1000 if request.config.getoption("--whole") else 100)
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
