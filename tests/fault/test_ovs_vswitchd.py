"""ovs-vswitchd is stopped, gone, or started anew."""

from __future__ import annotations

import pytest

from tests.support.node import Node

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


@pytest.mark.contract(14, 27)
@pytest.mark.parametrize("kind", KINDS)
def test_add_ends_within_its_timeout_and_leaves_nothing_while_ovs_vswitchd_stands_still(
    private_node: Node, kind: str
) -> None:
    """By SIGSTOP: it holds its socket and its lock, but does nothing."""
    pod = private_node.attachment(interface_type=kind, ipam=private_node.host_local(), timeout=2)
    private_node.openvswitch.ovs_vswitchd.freeze()
    outcome = pod.add()
    outcome.error(11)
    assert outcome.seconds < 4
    private_node.assert_nothing_left()
    private_node.openvswitch.ovs_vswitchd.thaw()
    pod.add().ok()
    pod.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(14, 27)
@pytest.mark.parametrize("kind", KINDS)
def test_add_ends_within_its_timeout_and_leaves_nothing_while_ovs_vswitchd_is_gone(
    private_node: Node, kind: str
) -> None:
    pod = private_node.attachment(interface_type=kind, ipam=private_node.host_local(), timeout=2)
    private_node.openvswitch.ovs_vswitchd.kill()
    outcome = pod.add()
    outcome.error(11)
    assert outcome.seconds < 4
    private_node.assert_nothing_left()


@pytest.mark.contract(14)
def test_the_retry_keys_bound_the_wait_for_ovs_vswitchd(private_node: Node) -> None:
    pod = private_node.attachment(link_state_check_retries=10, link_state_check_interval=400, timeout=30)
    private_node.openvswitch.ovs_vswitchd.freeze()
    outcome = pod.add()
    outcome.error(11)
    assert 3 < outcome.seconds < 8
    private_node.assert_nothing_left()


@pytest.mark.contract(23)
def test_status_notices_within_a_second_that_ovs_vswitchd_stands_still(private_node: Node) -> None:
    pod = private_node.attachment()
    private_node.openvswitch.ovs_vswitchd.freeze()
    outcome = pod.status()
    assert "ovs-vswitchd" in outcome.error(50)["msg"]
    assert outcome.seconds < 1
    private_node.openvswitch.ovs_vswitchd.thaw()
    pod.status().silent()


@pytest.mark.contract(23)
def test_status_notices_that_ovs_vswitchd_is_gone_and_does_not_keep_it_from_coming_back(private_node: Node) -> None:
    pod = private_node.attachment()
    private_node.openvswitch.ovs_vswitchd.kill()
    outcome = pod.status()
    assert "ovs-vswitchd" in outcome.error(50)["msg"]
    assert outcome.seconds < 1
    private_node.openvswitch.start_ovs_vswitchd()
    pod.status().silent()
    pod.add().ok()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_del_works_while_ovs_vswitchd_stands_still(private_node: Node, kind: str) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    private_node.openvswitch.ovs_vswitchd.freeze()
    outcome = pod.delete().silent()
    assert outcome.seconds < 5
    assert private_node.ports() == []
    assert private_node.addresses_given_out() == []
    private_node.openvswitch.ovs_vswitchd.thaw()
    private_node.assert_nothing_left()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crash", [False, True], ids=["orderly", "crash"])
def test_del_removes_everything_after_a_restart_of_ovs_vswitchd(private_node: Node, kind: str, crash: bool) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local())
    daemon = private_node.openvswitch.ovs_vswitchd
    daemon.kill() if crash else daemon.stop()
    private_node.openvswitch.start_ovs_vswitchd()
    pod.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(15)
def test_a_veth_goes_on_working_after_a_restart_of_ovs_vswitchd(private_node: Node) -> None:
    first, second = (private_node.attached(ipam=private_node.host_local()) for _ in range(2))
    private_node.openvswitch.ovs_vswitchd.kill()
    private_node.openvswitch.start_ovs_vswitchd()
    assert first.sandbox.pings(second.addresses[0])
    first.check().silent()
    second.delete().silent()
    first.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.userspace
@pytest.mark.contract(21)
def test_check_notices_that_ovs_vswitchd_made_a_new_tap_for_an_internal_port(private_node: Node) -> None:
    """Of the userspace datapath: after a restart the device in the container is dead (it no longer exists there)."""
    pod = private_node.attached(interface_type="internal", ipam=private_node.host_local())
    private_node.openvswitch.ovs_vswitchd.kill()
    private_node.openvswitch.start_ovs_vswitchd()
    pod.check().error(106)
    pod.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(23)
@pytest.mark.one_target
def test_a_bridge_that_ovs_vswitchd_cannot_make_is_told_at_once(private_node: Node) -> None:
    """A bridge of a datapath type that there is not, as the kernel's where its module is missing."""
    node = private_node
    name = f"{node.bridge}x"
    node.openvswitch.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=none-such", check=False)
    pod = node.attachment(bridge=name, ipam=node.host_local())
    outcome = pod.add()
    error = outcome.error(11)
    assert name in error["msg"]
    assert "datapath_type=netdev" in error["details"]
    assert outcome.seconds < 2
    assert name in pod.status().error(50)["msg"]
    node.openvswitch.vsctl("--no-wait", "del-br", name)
    pod.delete().silent()
    node.assert_nothing_left()
