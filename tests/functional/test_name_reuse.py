"""A port's name follows from the attachment, so DEL and ADD use the same name one after the other.

To ovs-vswitchd a row that is replaced by one of the same name, before it has looked, is no change: it goes on with the
device of the old one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.processes import wait_for

KINDS = ["veth", "internal"]


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_packets_flow_when_an_attachment_is_renewed_before_ovs_vswitchd_has_noticed_its_end(
    private_node: Node, kind: str
) -> None:
    node = private_node
    peer = node.attached(ipam=node.host_local())
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    node.openvswitch.ovs_vswitchd.freeze()
    pod.delete().silent()
    adding = node.plugin.start(pod.environment("ADD"), pod.stdin("ADD"))
    try:
        # It has come as far as it can: it waits for ovs-vswitchd.
        wait_for("ADD sleeps", lambda: _waits(adding.pid))
    finally:
        node.openvswitch.ovs_vswitchd.thaw()
    adding.wait().ok()
    address = peer.addresses[0].partition("/")[0]
    pod.sandbox.run("ping", "-n", "-c", "2", "-W", "2", address)


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_packets_flow_each_time_an_attachment_is_renewed_without_a_pause(node: Node, kind: str) -> None:
    peer = node.attached(ipam=node.host_local())
    address = peer.addresses[0].partition("/")[0]
    pod = node.attachment(interface_type=kind, ipam=node.host_local())
    for _ in range(20):
        pod.add().ok()
        pod.sandbox.run("ping", "-n", "-c", "1", "-W", "2", address)
        pod.delete().silent()
    peer.delete().silent()
    node.assert_nothing_left()


def _waits(pid: int) -> bool:
    """Whether a process, or the child that it started (the one-file form has one), is in poll(2)."""
    process = Path(f"/proc/{pid}")
    children = [Path(f"/proc/{child}") for child in (process / f"task/{pid}/children").read_text().split()]
    return any("poll" in (folder / "wchan").read_text() for folder in (process, *children))
