"""Ports whose containers are gone without a DEL: ADD and DEL of the same network remove them, and touch no others."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target


def _restart(node: Node) -> None:
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.start_ovs_vswitchd()


def _claimed(node: Node, name: str, *, seconds_ago: int = 0) -> None:
    """Somebody has begun to remove the port."""
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:contStale={int(time.time()) - seconds_ago}")


def _names(node: Node) -> set[str]:
    return {row["name"] for row in node.ports()}


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("restarted", [False, True], ids=["running on", "restarted"])
def test_a_stale_veth_and_its_address_go_with_the_next_command_of_the_network(
    private_node: Node, command: str, restarted: bool
) -> None:
    node = private_node
    stale, living = (node.attached(ipam=node.host_local()) for _ in range(2))
    node.vanish(stale)
    if restarted:
        _restart(node)
    _assert_swept(node, command, stale, living)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_stale_internal_port_and_its_address_go_when_ovs_vswitchd_has_made_a_new_device(
    private_node: Node, command: str
) -> None:
    """As after a reboot. Before that, nothing in the database tells it from one that lives."""
    node = private_node
    stale, living = (node.attached(interface_type=kind, ipam=node.host_local()) for kind in ("internal", "veth"))
    name = node.port(stale)["name"]
    stale.sandbox.delete()
    _restart(node)
    wait_for("there is a new device", lambda: node.openvswitch.row("Interface", name)["ifindex"])
    _assert_swept(node, command, stale, living)


def _assert_swept(node: Node, command: str, stale: Attachment, living: Attachment) -> None:
    further = []
    if command == "ADD":
        further.append(node.attached(ipam=node.host_local()))
    else:
        node.attachment(ipam=node.host_local()).delete().silent()
    node.assert_nothing_left(keep=[living, *further])
    stale.delete().silent()  # the runtime finds its record again
    living.check().silent()


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_stale_port_goes_with_gc(node: Node, kind: str) -> None:
    stale, living = (node.attached(interface_type=kind, ipam=node.host_local()) for _ in range(2))
    stale.sandbox.delete()
    living.gc(**{"cni.dev/valid-attachments": [{"containerID": living.container_id, "ifname": "net1"}]}).silent()
    node.assert_nothing_left(keep=[living])


@pytest.mark.userspace
def test_a_living_internal_port_is_kept_although_ovs_vswitchd_has_made_another_device_for_it(
    private_node: Node,
) -> None:
    """What a restart does to it on the userspace datapath; its CHECK says so. Its DEL is a matter of the runtime."""
    node = private_node
    pod = node.attached(interface_type="internal")
    name = node.port(pod)["name"]
    _restart(node)
    node.attached(interface_type="veth")
    assert name in _names(node)


def test_all_of_many_stale_ports_go_with_a_few_commands(node: Node) -> None:
    stale = [node.attached(ipam=node.host_local()) for _ in range(9)]
    node.vanish(*stale)
    new = [node.attached(ipam=node.host_local()) for _ in range(3)]
    node.finish_sweep(keep=new)
    node.assert_nothing_left(keep=new)


def test_a_port_whose_namespace_is_there_is_kept_whatever_open_vswitch_says_of_it(node: Node) -> None:
    """Somebody has removed the device of a container that lives: its DEL will come, or an administrator mends it."""
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    node.host.ip("link", "delete", name)
    node.wait_until_noticed(name)
    other = node.attached()
    assert name in _names(node)
    assert set(pod.addresses) <= set(node.addresses_given_out())
    other.delete().silent()
    assert name in _names(node)


def test_a_veth_whose_device_is_there_is_kept(node: Node) -> None:
    """Of a container whose namespace lives, under another path than the recorded one."""
    pod = node.attached()
    name = node.port(pod)["name"]
    node.openvswitch.vsctl("set", "Port", name, "external_ids:contNetns=/run/netns/no-such")
    node.openvswitch.vsctl("--no-wait", "set", "Interface", name, "type=none-such")
    node.wait_until_noticed(name)
    other = node.attached()
    assert {name, node.port(other)["name"]} == _names(node)


@pytest.mark.parametrize("path", ["", "relative/path", "/no-such-folder/netns/x", "/proc/self/ns/net/x"], ids=repr)
def test_a_namespace_that_only_cannot_be_reached_is_not_gone(node: Node, path: str) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    node.vanish(pod)
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:contNetns='{path}'")
    node.attached()
    assert name in _names(node)


def test_a_file_that_is_no_namespace_any_more_is_gone(node: Node) -> None:
    """What a bind mount under /run/netns leaves behind when it is unmounted, or the folder survives a reboot."""
    pod = node.attached()
    name = node.port(pod)["name"]
    node.vanish(pod)
    Path(pod.sandbox.path).touch()
    try:
        node.attached()
    finally:
        os.unlink(pod.sandbox.path)
    assert name not in _names(node)


@pytest.mark.parametrize(
    "change", ["owner=somebody", "owner=ovs-cni.network.kubevirt.io", "contNetwork=another"], ids=str
)
def test_a_port_of_another_owner_or_network_is_never_touched(node: Node, change: str) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    node.vanish(pod)
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:{change}")
    node.attached()
    node.attachment().delete().silent()
    assert node.openvswitch.row("Port", name)


def test_a_port_that_nobody_owns_is_never_touched(node: Node) -> None:
    """Its name is like ours."""
    node.openvswitch.vsctl("--no-wait", "add-port", node.bridge, "cni0123456789ab")
    node.wait_until_noticed("cni0123456789ab")
    node.attached().delete().silent()
    assert "cni0123456789ab" in node.openvswitch.port_names(node.bridge)


def test_the_port_stays_until_ipam_has_returned_its_address(node: Node) -> None:
    ipam = node.scripted_ipam(DEL="""echo '{"cniVersion": "1.0.0", "code": 11, "msg": "later"}'; exit 1""")
    keys: dict[str, Any] = {"ipam": {"type": ipam.type}, "cni_path": str(ipam.folder)}
    pod = node.attached(**keys)
    name = node.port(pod)["name"]
    node.vanish(pod)
    other = node.attachment(**keys)
    assert "later" in other.add().ok().stderr
    assert name in _names(node)
    ipam.act()
    _claimed(node, name, seconds_ago=3601)
    node.attachment(**keys).add().ok()
    assert name not in _names(node)


def test_what_another_command_is_removing_is_left_to_it(node: Node) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    node.vanish(pod)
    _claimed(node, name)
    node.attached()
    assert name in _names(node)
    _claimed(node, name, seconds_ago=3601)
    node.attached()
    assert name not in _names(node)


def test_an_add_of_the_same_name_waits_until_the_address_is_returned_and_the_port_is_gone(private_node: Node) -> None:
    """The container was started anew under its old name, as podman does after a reboot, while we clean up after it."""
    node = private_node
    other = node.attached(ipam=node.host_local())
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    node.vanish(pod)
    _claimed(node, name)
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    adding = pod.start("ADD")
    assert not adding.ends_within(0.5)
    node.openvswitch.ovs_vswitchd.freeze()
    node.openvswitch.vsctl("--no-wait", "del-port", name)
    assert not adding.ends_within(0.5), "to ovs-vswitchd the new port would be the old one"
    node.openvswitch.ovs_vswitchd.thaw()
    pod.result = adding.wait().result
    assert node.port(pod)["external_ids"].get("contStale") is None
    assert pod.sandbox.pings(other.addresses[0])


def test_a_del_waits_until_the_address_is_returned(node: Node) -> None:
    """Or the ADD after it could be given that address, and lose it."""
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    _claimed(node, name)
    deleting = pod.start("DEL")
    assert not deleting.ends_within(0.5)
    node.openvswitch.vsctl("del-port", name)
    deleting.wait().silent()
    node.assert_nothing_left()


def test_nonsense_in_a_claim_harms_nobody(node: Node) -> None:
    stale = node.attached()
    name = node.port(stale)["name"]
    node.vanish(stale)
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:contStale={'9' * 5000}")
    pod = node.attached()
    pod.delete().silent()
    assert name not in _names(node)


@pytest.mark.userspace  # on the kernel's datapath it keeps its device, and nobody suspects it
def test_a_path_of_a_process_that_has_ended_does_not_prove_that_an_internal_port_is_stale(private_node: Node) -> None:
    """Another process may be in its namespace still."""
    node = private_node
    pod = node.attached(interface_type="internal")
    name = node.port(pod)["name"]
    node.openvswitch.vsctl("set", "Port", name, "external_ids:contNetns=/proc/4194304/ns/net")
    _restart(node)
    wait_for("there is a new device", lambda: node.openvswitch.row("Interface", name)["ifindex"])
    node.attached()
    assert name in _names(node)
