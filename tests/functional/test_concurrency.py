"""Many containers come and go at the same time (contract point 15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.node import Node
from tests.support.plugin import Attachment, Outcome

pytestmark = [pytest.mark.contract(15), pytest.mark.one_target]


def _all(pods: Sequence[Attachment], command: Callable[[Attachment], Outcome], *, at_once: int = 16) -> None:
    with ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(command, pods))
    failed = [outcome for outcome in outcomes if outcome.exit_code != 0]
    assert not failed, f"{len(failed)} of {len(outcomes)} failed, the first: {failed[0]}"


@pytest.mark.timeout(180)
def test_64_containers_come_and_go_16_at_a_time_in_three_rounds(node: Node) -> None:
    pods = [
        node.attachment(
            interface_type="internal" if number % 8 == 7 else "veth", ipam=node.host_local("10.10.0.0/16"), vlan=5
        )
        for number in range(64)
    ]
    for _ in range(3):
        _all(pods, Attachment.add)
        ports = node.ports()
        assert len(ports) == 64
        assert len({pod.addresses[0] for pod in pods}) == 64
        ofports = {
            row["ofport"] for row in node.openvswitch.rows("Interface") if row["name"] in {p["name"] for p in ports}
        }
        assert len(ofports) == 64 and all(isinstance(ofport, int) and ofport > 0 for ofport in ofports)
        assert pods[0].sandbox.pings(pods[-1].addresses[0])
        assert pods[7].sandbox.pings(pods[33].addresses[0])
        _all(pods, Attachment.delete)
        node.assert_nothing_left()


def test_attaching_and_detaching_at_the_same_time_does_not_disturb(node: Node) -> None:
    """Half of the containers leave while the other half comes."""
    leaving = [node.attachment(ipam=node.host_local()) for _ in range(12)]
    coming = [node.attachment(ipam=node.host_local()) for _ in range(12)]
    _all(leaving, Attachment.add)
    mixed = [pod for pair in zip(leaving, coming, strict=True) for pod in pair]
    _all(mixed, lambda pod: pod.delete() if pod in leaving else pod.add())
    _all(coming, Attachment.check)
    node.assert_nothing_left(keep=coming)
    _all(coming, Attachment.delete)
    node.assert_nothing_left()


def test_of_two_adds_of_the_same_attachment_at_once_at_most_one_wins_and_del_removes_all(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: pod.run("ADD"), range(2)))
    winners = [outcome for outcome in outcomes if outcome.exit_code == 0]
    assert len(winners) == 1, outcomes
    pod.result = winners[0].result
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


def test_an_interface_is_deleted_by_two_dels_at_once(node: Node) -> None:
    pods = [node.attached(ipam=node.host_local()) for _ in range(4)]
    _all([pod for pod in pods for _ in range(2)], Attachment.delete)
    node.assert_nothing_left()
