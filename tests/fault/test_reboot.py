"""After a reboot: Open vSwitch has every port of before, the devices and namespaces are gone, paths are stale."""

from __future__ import annotations

import pytest

from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]


def _reboot(node: Node, *pods: Attachment) -> None:
    """Daemons crash, every namespace and device vanishes, and the daemons start on the same database."""
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.ovsdb_server.kill()
    for pod in pods:
        pod.sandbox.delete()
    for name, link in node.host.links().items():
        if link.kind == "veth":
            node.host.run("ip", "link", "delete", name, check=False)
    wait_for("all veths are gone", lambda: all(link.kind != "veth" for link in node.host.links().values()), timeout=10)
    node.openvswitch.start_ovsdb_server()
    node.openvswitch.start_ovs_vswitchd()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("netns", ["stale", "empty", "taken by another"])
def test_del_after_a_reboot_removes_everything(private_node: Node, kind: str, netns: str) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    _reboot(private_node, pod)
    assert len(private_node.ports()) == 1
    path = {"stale": pod.netns, "empty": "", "taken by another": private_node.sandbox().path}[netns]
    pod.delete(CNI_NETNS=path).silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_container_is_attached_again_after_a_reboot_and_a_del(private_node: Node, kind: str) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    _reboot(private_node, pod)
    pod.delete().silent()
    pod.sandbox = private_node.sandbox()
    pod.netns, pod.result = pod.sandbox.path, None
    pod.add().ok()
    pod.check().silent()
    pod.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(24)
def test_gc_after_a_reboot_removes_everything(private_node: Node) -> None:
    pods = [private_node.attached(interface_type=kind, ipam=private_node.host_local()) for kind in KINDS]
    _reboot(private_node, *pods)
    pods[0].gc(**{"cni.dev/valid-attachments": []}).silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(18)
def test_new_attachments_work_beside_ports_of_before_the_reboot_and_remove_them(private_node: Node) -> None:
    old = [private_node.attached(interface_type=kind, ipam=private_node.host_local()) for kind in KINDS]
    _reboot(private_node, *old)
    first, second = (private_node.attached(ipam=private_node.host_local()) for _ in range(2))
    assert first.sandbox.pings(second.addresses[0])
    private_node.assert_nothing_left(keep=[first, second])
    for pod in (*old, first, second):
        pod.delete().silent()
    private_node.assert_nothing_left()
