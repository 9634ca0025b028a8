"""CNI contract, section "CHECK" (points 21 and 22): what is a difference, and what later plugins may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ipam import static
from tests.support.node import Node
from tests.support.plugin import Attachment

VERSIONS_WITH_CHECK = ["0.4.0", "1.0.0", "1.1.0"]
KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


def _attached(node: Node, kind: str = "veth", **keys: Any) -> Attachment:
    ipam = static(
        "10.1.0.2/24",
        "2001:db8:1::2/64",
        gateways=("10.1.0.1", "2001:db8:1::1"),
        routes=({"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.1.0.3"}, {"dst": "2001:db8:2::/48"}),
    )
    return node.attached(**{"interface_type": kind, "vlan": 5, "mtu": 1400, "ipam": ipam, **keys})


@pytest.mark.contract(22)
@pytest.mark.parametrize("version", VERSIONS_WITH_CHECK)
@pytest.mark.parametrize("kind", KINDS)
def test_check_succeeds_right_after_add(node: Node, version: str, kind: str) -> None:
    pod = node.attached(cniVersion=version, interface_type=kind, ipam=node.host_local(), vlan=5, mtu=1400)
    pod.check().silent()
    pod.delete().silent()


@pytest.mark.one_target
@pytest.mark.contract(22)
def test_check_succeeds_without_ipam(node: Node) -> None:
    node.attached().check().silent()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_without_prev_result_is_a_configuration_error(node: Node) -> None:
    pod = node.attached()
    pod.result = None
    assert "prevResult" in pod.check().error(7)["msg"]


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_of_a_namespace_that_is_gone_is_an_error_of_the_environment(node: Node) -> None:
    pod = node.attached()
    pod.sandbox.delete()
    assert pod.netns in pod.check().error(4)["msg"]


# What differs (21). Each gets the attachment, breaks one thing, and returns texts that the message must contain


def _port_name(node: Node, pod: Attachment) -> str:
    return str(node.port(pod)["name"])


def _port_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    name = _port_name(node, pod)
    node.openvswitch.vsctl("--no-wait", "del-port", name)
    return (name,)


def _on_another_bridge(node: Node, pod: Attachment) -> tuple[str, ...]:
    uuid = node.port(pod)["_uuid"]
    other = node.add_bridge()
    node.openvswitch.vsctl(
        "--", "remove", "Bridge", node.bridge, "ports", uuid, "--", "add", "Bridge", other, "ports", uuid
    )
    return (node.bridge,)


def _bridge_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.openvswitch.delete_bridge(node.bridge)
    return ()


def _other_vlan(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.openvswitch.vsctl("set", "Port", _port_name(node, pod), "tag=6")
    return ("5", "6")


def _no_vlan(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.openvswitch.vsctl("clear", "Port", _port_name(node, pod), "tag")
    return ("5",)


def _other_vlan_mode(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.openvswitch.vsctl("set", "Port", _port_name(node, pod), "vlan_mode=native-untagged")
    return ("native-untagged",)


def _trunks(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.openvswitch.vsctl("set", "Port", _port_name(node, pod), "trunks=7,8")
    return ("7", "8")


def _host_end_down(node: Node, pod: Attachment) -> tuple[str, ...]:
    node.host.ip("link", "set", _port_name(node, pod), "down")
    return ("interface",)  # the host end is down, and the container's has lost its carrier: either may be reported


def _host_end_mtu(node: Node, pod: Attachment) -> tuple[str, ...]:
    name = _port_name(node, pod)
    node.host.ip("link", "set", name, "mtu", "1300")
    return (name, "1400", "1300")


def _host_end_mac(node: Node, pod: Attachment) -> tuple[str, ...]:
    name = _port_name(node, pod)
    node.host.ip("link", "set", name, "address", "02:00:00:00:00:99")
    return (name, "02:00:00:00:00:99")


def _container_end_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("link", "delete", "net1")
    return ()  # both ends are gone, and ovs-vswitchd may have noticed: either may be reported


def _container_end_down(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("link", "set", "net1", "down")
    return ("net1",)


def _container_mtu(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("link", "set", "net1", "mtu", "1300")
    return ("net1", "1400", "1300")


def _container_mac(node: Node, pod: Attachment) -> tuple[str, ...]:
    before = pod.sandbox.link("net1").mac
    pod.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:00:98")
    return ("net1", before, "02:00:00:00:00:98")


def _address_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("address", "delete", "10.1.0.2/24", "dev", "net1")
    return ("10.1.0.2/24",)


def _ipv6_address_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("address", "delete", "2001:db8:1::2/64", "dev", "net1")
    return ("2001:db8:1::2/64",)


def _route_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("route", "delete", "192.168.0.0/16")
    return ("192.168.0.0/16",)


def _ipv6_route_removed(node: Node, pod: Attachment) -> tuple[str, ...]:
    pod.sandbox.ip("-6", "route", "delete", "2001:db8:2::/48")
    return ("2001:db8:2::/48",)


Break = Callable[[Node, Attachment], tuple[str, ...]]

EVERYWHERE: list[Break] = [
    *(_port_removed, _on_another_bridge, _bridge_removed, _other_vlan, _no_vlan, _other_vlan_mode, _trunks),
    *(_container_end_down, _container_mac, _address_removed, _ipv6_address_removed, _route_removed),
    _ipv6_route_removed,
]
VETH_ONLY: list[Break] = [_host_end_down, _host_end_mtu, _host_end_mac, _container_end_removed, _container_mtu]


@pytest.mark.one_target
@pytest.mark.contract(21)
@pytest.mark.parametrize(
    ("kind", "break_it"),
    [("veth", action) for action in EVERYWHERE + VETH_ONLY] + [("internal", action) for action in EVERYWHERE],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_check_says_which_thing_differs(node: Node, kind: str, break_it: Break) -> None:
    pod = _attached(node, kind)
    pod.check().silent()
    texts = break_it(node, pod)
    error = pod.check().error(106)
    for text in texts:
        assert text in error["msg"] + error.get("details", ""), error
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_finds_a_port_that_ovs_vswitchd_refuses_now(node: Node) -> None:
    pod = _attached(node)
    name = node.port(pod)["name"]
    node.host.ip("link", "delete", name)
    node.openvswitch.vsctl("set", "Interface", name, "external_ids:touched=1")  # waits until ovs-vswitchd has seen it
    pod.check().error(106)
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_finds_an_alternative_name_of_an_internal_port_that_is_gone(node: Node) -> None:
    pod = _attached(node, "internal")
    name = node.port(pod)["name"]
    pod.sandbox.ip("link", "property", "del", "dev", name, "altname", "net1")
    assert "net1" in pod.check().error(106)["msg"]


# What is allowed (21)


@pytest.mark.one_target
@pytest.mark.contract(21)
@pytest.mark.parametrize("kind", KINDS)
def test_check_allows_what_later_plugins_and_multus_do(node: Node, kind: str) -> None:
    pod = _attached(node, kind)
    assert pod.result is not None
    pod.sandbox.ip("route", "add", "172.16.0.0/12", "via", "10.1.0.7")
    pod.sandbox.ip("address", "add", "10.5.0.2/24", "dev", "net1")
    pod.sandbox.ip("route", "replace", "default", "via", "10.1.0.7")
    pod.check().silent()
    pod.sandbox.ip("route", "delete", "default")
    pod.check().silent()


@pytest.mark.one_target
@pytest.mark.contract(21)
@pytest.mark.parametrize("kind", KINDS)
def test_check_allows_a_mac_that_was_changed_and_reported_in_prev_result(node: Node, kind: str) -> None:
    """As the `tuning` plugin does, chained after us."""
    pod = _attached(node, kind)
    assert pod.result is not None
    pod.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:00:97")
    pod.container_interface["mac"] = "02:00:00:00:00:97"
    pod.check().silent()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_allows_interfaces_and_addresses_that_later_plugins_added(node: Node) -> None:
    pod = _attached(node)
    assert pod.result is not None
    pod.result["interfaces"].append({"name": "other0", "mac": "02:00:00:00:00:96", "sandbox": pod.netns})
    pod.result["ips"].append({"address": "10.66.0.2/24", "interface": 2})
    pod.check().silent()


@pytest.mark.contract(21)
def test_check_runs_ipams_check_and_passes_its_error_on(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = node.attached(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    pod.check().silent()
    assert ipam.calls == ["ADD", "CHECK"]
    ipam.act(CHECK=ipam.refuse(77, "the lease is gone"))
    assert "the lease is gone" in pod.check().error(77)["msg"]
    ipam.act()
    pod.delete().silent()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_of_host_local_finds_a_lost_address_file(node: Node) -> None:
    pod = node.attached(cniVersion="1.0.0", ipam=node.host_local())
    (file,) = list(node.address_files.glob("*/10.*"))
    file.unlink()
    pod.check().error()


@pytest.mark.one_target
@pytest.mark.contract(21)
def test_check_changes_nothing(node: Node) -> None:
    pod = _attached(node)
    database = node.openvswitch.folder / "conf.db"
    before = (database.stat().st_size, pod.sandbox.links(), pod.sandbox.routes(), pod.sandbox.addresses("net1"))
    pod.check().silent()
    assert (database.stat().st_size, pod.sandbox.links(), pod.sandbox.routes(), pod.sandbox.addresses("net1")) == before
