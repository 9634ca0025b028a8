"""Open vSwitch's ports of type tap in a container; what they share with internal ports is tested with those."""

from __future__ import annotations

import pytest

from tests.support.node import Node
from tests.support.processes import wait_for

pytestmark = [pytest.mark.one_target, pytest.mark.userspace]


def test_a_tap_keeps_its_name_and_has_the_asked_one_as_an_alternative(node: Node) -> None:
    pod = node.attached(interface_type="tap", ipam=node.host_local())
    name = node.port(pod)["name"]
    link = pod.sandbox.link("net1")
    assert (link.name, link.altnames, link.up, link.kind) == (name, ("net1",), True, "tun")
    assert name not in node.host.links()
    assert node.interface(pod)["type"] == "tap"


def test_every_key_of_a_port_works_with_a_tap(node: Node) -> None:
    ipam = node.host_local("10.10.0.0/16", "fd00:10::/64")
    first, second = (
        node.attached(
            interface_type="tap",
            vlan=7,
            mtu=1400,
            ofport_request=number,
            external_ids={"team": "shop"},
            ipam=ipam,
            runtimeConfig={"mac": f"02:00:00:00:00:0{number}"},
        )
        for number in (8, 9)
    )
    other = node.attached(interface_type="tap", vlan=6, ipam=ipam)
    link, interface = first.sandbox.link("net1"), node.interface(first)
    assert (link.mac, link.mtu) == ("02:00:00:00:00:08", 1400)
    assert first.container_interface == {
        "name": "net1",
        "mac": link.mac,
        "mtu": 1400,
        "sandbox": first.netns,
    }
    assert (interface["mtu_request"], interface["ofport"]) == (1400, 8)
    assert node.port(first)["external_ids"]["team"] == "shop"
    assert len(second.addresses) == 2
    for address in second.addresses:
        assert first.sandbox.pings(address)
    assert not first.sandbox.pings(other.addresses[0], timeout=1)
    for pod in (first, second, other):
        pod.check().silent()
        pod.delete().silent()
    node.assert_nothing_left()


def test_a_second_add_is_refused_and_the_first_attachment_goes_on(node: Node) -> None:
    pod, other = (node.attached(interface_type="tap", ipam=node.host_local()) for _ in range(2))
    again = node.attachment(
        sandbox=pod.sandbox, container_id=pod.container_id, interface_type="tap", ipam=node.host_local()
    )
    again.add().error(102)
    assert pod.sandbox.pings(other.addresses[0])


def test_gc_removes_a_tap_and_keeps_another(node: Node) -> None:
    gone, kept = (node.attached(interface_type="tap", ipam=node.host_local()) for _ in range(2))
    kept.gc(**{"cni.dev/valid-attachments": [{"containerID": kept.container_id, "ifname": "net1"}]}).silent()
    node.assert_nothing_left(keep=[kept])
    gone.delete().silent()
    kept.check().silent()


def test_a_namespace_that_is_gone_does_not_keep_del_from_removing_everything(node: Node) -> None:
    pod = node.attached(interface_type="tap", ipam=node.host_local())
    pod.sandbox.delete()
    pod.delete().silent()
    node.assert_nothing_left()


def test_after_a_restart_of_ovs_vswitchd_check_says_so_and_the_container_can_be_attached_anew(
    private_node: Node,
) -> None:
    node = private_node
    peer, pod = (node.attached(interface_type=kind, ipam=node.host_local()) for kind in ("veth", "tap"))
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.start_ovs_vswitchd()
    pod.check().error(106)
    pod.delete().silent()
    pod.result = None
    pod.add().ok()
    assert pod.sandbox.pings(peer.addresses[0])
    for attachment in (pod, peer):
        attachment.delete().silent()
    node.assert_nothing_left()


def test_a_stale_tap_and_its_address_go_when_ovs_vswitchd_has_made_a_new_device(private_node: Node) -> None:
    node = private_node
    stale = node.attached(interface_type="tap", ipam=node.host_local())
    name = node.port(stale)["name"]
    stale.sandbox.delete()
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.start_ovs_vswitchd()
    wait_for("there is a new device", lambda: node.openvswitch.row("Interface", name)["ifindex"])
    new = node.attached(ipam=node.host_local())
    node.assert_nothing_left(keep=[new])


def test_a_bridge_with_the_kernels_datapath_is_refused_before_anything_is_made(node: Node) -> None:
    """The row says `system`, as where the kernel has no Open vSwitch module; ovs-vswitchd goes on with the old one."""
    node.openvswitch.vsctl("--no-wait", "set", "Bridge", node.bridge, "datapath_type=system")
    ipam = node.scripted_ipam()
    pod = node.attachment(
        cniVersion="1.0.0", interface_type="tap", timeout=3, ipam=ipam.config, cni_path=str(ipam.folder)
    )
    error = pod.add().error(7)
    assert "'interface_type' 'tap'" in error["msg"] and "datapath_type=system" in error["msg"]
    assert "veth or internal" in error["details"]
    assert ipam.calls == []
    node.assert_nothing_left()
