"""After a reboot: Open vSwitch has every port of before, the devices and namespaces are gone, paths are stale."""

from __future__ import annotations

import pytest

from tests.support.node import Node

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("netns", ["stale", "empty", "taken by another"])
def test_del_after_a_reboot_removes_everything(private_node: Node, kind: str, netns: str) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    private_node.reboot(pod)
    assert len(private_node.ports()) == 1
    path = {"stale": pod.netns, "empty": "", "taken by another": private_node.sandbox().path}[netns]
    pod.delete(CNI_NETNS=path).silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_container_is_attached_again_after_a_reboot_and_a_del(private_node: Node, kind: str) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    private_node.reboot(pod)
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
    private_node.reboot(*pods)
    pods[0].gc(**{"cni.dev/valid-attachments": []}).silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(18)
def test_new_attachments_work_beside_ports_of_before_the_reboot_and_remove_them(private_node: Node) -> None:
    old = [private_node.attached(interface_type=kind, ipam=private_node.host_local()) for kind in KINDS]
    private_node.reboot(*old)
    first, second = (private_node.attached(ipam=private_node.host_local()) for _ in range(2))
    assert first.sandbox.pings(second.addresses[0])
    private_node.finish_sweep(keep=[first, second])
    private_node.assert_nothing_left(keep=[first, second])
    for pod in (*old, first, second):
        pod.delete().silent()
    private_node.assert_nothing_left()
