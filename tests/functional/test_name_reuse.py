"""A port's name follows from the attachment, so DEL and ADD use the same name one after the other.

To ovs-vswitchd a row that is replaced by one of the same name, before it has looked, is no change: it goes on with the
device of the old one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.processes import wait_for

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


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
    """Whether a process is in poll(2)."""
    return "poll" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.contract(13)
@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("namespace", ["gone", "there"])
def test_what_an_add_without_a_del_left_behind_is_replaced(node: Node, kind: str, namespace: str) -> None:
    """The container got another namespace under the same id, as after a restart of the node."""
    peer = node.attached(ipam=node.host_local())
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    before = pod.sandbox
    if namespace == "gone":
        before.delete()
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    added = pod.add().ok()
    assert "left behind" in added.stderr
    assert node.port(pod)["external_ids"]["contNetns"] == pod.netns
    pod.sandbox.run("ping", "-n", "-c", "2", "-W", "2", peer.addresses[0])
    if namespace == "there":
        assert list(before.links()) == ["lo"]
    pod.delete().silent()
    peer.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(13)
@pytest.mark.one_target
def test_a_port_of_our_name_that_belongs_to_somebody_else_is_left_alone(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    node.openvswitch.vsctl("--no-wait", "set", "Port", name, "external_ids:contID=another")
    stranger = node.sandbox()
    pod.netns, pod.sandbox = stranger.path, stranger
    assert name in pod.add().error(102)["msg"]
    assert node.openvswitch.row("Port", name)["external_ids"]["contID"] == "another"
    assert node.host.link(name).kind == "veth"
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:contID={pod.container_id}")
    pod.delete().silent()
    node.assert_nothing_left()
