"""Every key of the configuration, seen in the kernel and in Open vSwitch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ipam import static
from tests.support.node import Node
from tests.support.processes import run, wait_for

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


# Ports


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vlan", [0, 1, 4094])
def test_vlan_makes_an_access_port(node: Node, kind: str, vlan: int) -> None:
    pod = node.attached(interface_type=kind, vlan=vlan)
    port = node.port(pod)
    assert port["tag"] == vlan
    assert port["vlan_mode"] in ([], "access")
    assert port["trunks"] == []


def test_without_vlan_a_port_is_a_trunk_of_all_vlans(node: Node) -> None:
    port = node.port(node.attached())
    assert (port["tag"], port["trunks"], port["cvlans"]) == ([], [], [])
    assert port["vlan_mode"] in ([], "trunk")


@pytest.mark.parametrize("name", ["", "system", "veth"])
def test_these_interface_types_all_mean_veth(node: Node, name: str) -> None:
    pod = node.attached(interface_type=name)
    assert pod.sandbox.link("net1").kind == "veth"
    assert node.interface(pod)["type"] == ""


@pytest.mark.parametrize("mtu", [68, 1280, 9000, 65535])
def test_mtu_is_set_on_both_ends_of_a_veth(node: Node, mtu: int) -> None:
    pod = node.attached(mtu=mtu)
    assert node.host.link(node.port(pod)["name"]).mtu == mtu
    assert pod.sandbox.link("net1").mtu == mtu
    assert node.interface(pod)["mtu_request"] == []
    pod.check().silent()


@pytest.mark.parametrize("mtu", [68, 1280, 9000])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_mtu_of_a_port_of_open_vswitchs_own_is_requested_from_it(node: Node, kind: str, mtu: int) -> None:
    pod = node.attached(interface_type=kind, mtu=mtu)
    assert node.interface(pod)["mtu_request"] == mtu
    assert pod.sandbox.link("net1").mtu == mtu
    pod.check().silent()


def test_an_mtu_that_is_too_small_for_ipv6_is_an_error_that_leaves_nothing(node: Node) -> None:
    """Linux switches IPv6 off below 1280."""
    pod = node.attachment(mtu=1000, ipam=static("2001:db8:1::2/64"))
    error = pod.add().error(103)
    assert "its MTU is 1000" in error["msg"] and "at least 1280" in error["details"]
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_ofport_request_is_granted(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, ofport_request=4242)
    interface = node.interface(pod)
    assert (interface["ofport"], interface["ofport_request"]) == (4242, 4242)


def test_the_largest_ofport_is_granted(node: Node) -> None:
    assert node.interface(node.attached(ofport_request=65279))["ofport"] == 65279


def test_external_ids_are_added_to_ours(node: Node) -> None:
    pod = node.attached(external_ids={"team": "shop", "note": 'a "quoted" ünusual, value'})
    ids = node.port(pod)["external_ids"]
    assert (ids["team"], ids["note"]) == ("shop", 'a "quoted" ünusual, value')
    assert ids["contID"] == pod.container_id
    assert node.interface(pod)["external_ids"] == {}


def test_dns_of_the_configuration_is_in_the_result(node: Node) -> None:
    dns = {"nameservers": ["10.1.0.53"], "search": ["example.org"]}
    pod = node.attached(dns=dns)
    assert pod.result is not None and pod.result["dns"] == dns


# The way to the database


@pytest.mark.parametrize("prefix", ["unix:", ""])
def test_the_database_is_found_at_a_path_with_and_without_prefix(node: Node, prefix: str) -> None:
    pod = node.attached(socket_file=prefix + node.openvswitch.socket)
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_the_database_is_found_over_tcp(private_node: Node, address: str) -> None:
    control = private_node.openvswitch.folder / "ovsdb-server.ctl"
    run(["ovs-appctl", "-t", control, "ovsdb-server/add-remote", f"ptcp:6640:{address}"])
    wait_for("ovsdb-server listens", lambda: "6640" in private_node.host.run("ss", "-Hltn").stdout)
    pod = private_node.attached(socket_file=f"tcp:{address}:6640")
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    private_node.assert_nothing_left()


def test_without_socket_file_the_usual_place_is_taken(node: Node) -> None:
    """The plugin runs in a mount namespace whose /run holds our Open vSwitch at the usual place."""
    place = node.folder / "run"
    (place / "netns").mkdir(parents=True)
    (place / "openvswitch").symlink_to(node.openvswitch.folder)
    script = 'mount --rbind /run/netns "$0/netns" && mount --rbind "$0" /run && exec "$@"'
    wrapper = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(place))
    pod = node.attachment(socket_file=None)
    node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper).ok()
    assert node.interface(pod)["ofport"] > 0
    node.plugin.run(pod.environment("DEL"), pod.config, wrapper=wrapper).silent()
    node.assert_nothing_left()


# Time


def test_the_retry_keys_of_ovs_cni_are_accepted(node: Node) -> None:
    pod = node.attached(link_state_check_retries=5, link_state_check_interval=600)
    pod.delete().silent()


@pytest.mark.parametrize("timeout", [1, 2.5, 3600])
def test_timeout_takes_whole_and_broken_seconds(node: Node, timeout: float) -> None:
    node.attached(timeout=timeout).delete().silent()


# Logging


def test_log_file_gets_what_stderr_gets(node: Node) -> None:
    log = node.folder / "plugin.log"
    pod = node.attachment(log_file=str(log), nosuchkey=1)
    added = pod.add().ok()
    assert "nosuchkey" in added.stderr
    assert "nosuchkey" in log.read_text()
    before = log.read_text()
    pod.delete().silent()
    assert log.read_text().startswith(before)  # appended to, not written anew


def test_an_ipam_section_without_type_is_told(node: Node) -> None:
    pod = node.attachment(ipam={"tpye": "host-local"})
    assert "'ipam' has no 'type'" in pod.add().ok().stderr
    assert "'ipam' has no 'type'" not in pod.delete().stderr


def test_errors_are_in_the_log_file_too(node: Node) -> None:
    log = node.folder / "plugin.log"
    node.attachment(log_file=str(log), bridge="nosuchbridge").add().error(100)
    assert "nosuchbridge" in log.read_text()


def test_a_log_file_that_cannot_be_written_is_a_mistake_in_the_configuration_but_no_hindrance_to_del(
    node: Node,
) -> None:
    pod = node.attached(ipam=node.host_local())
    pod.config["log_file"] = "/no/such/folder/plugin.log"
    deleted = pod.delete().silent()
    assert "/no/such/folder/plugin.log" in deleted.stderr
    node.assert_nothing_left()
    error = pod.add().error(7)
    assert "log_file" in error["msg"] and "/no/such/folder/plugin.log" in error["msg"]
    node.assert_nothing_left()


@pytest.mark.parametrize(("level", "heard"), [("error", False), ("warning", True), ("info", True), ("debug", True)])
def test_log_level_says_how_much_is_heard(node: Node, level: str, heard: bool) -> None:
    added = node.attachment(log_level=level, nosuchkey=1).add().ok()
    assert ("nosuchkey" in added.stderr) is heard


# Unknown keys


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("vlam", "vlan"), ("bridgename", "bridge"), ("interfaceType", "interface_type"), ("socketfile", "socket_file")],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_one_and_ignored(node: Node, key: str, nearest: str) -> None:
    pod = node.attachment()
    pod.config[key] = 5
    added = pod.add().ok()
    (line,) = [line for line in added.stderr.splitlines() if key in line]
    assert line.lower().startswith("cni-ovs: warning: ") and nearest in line.replace(key, "")
    pod.delete().silent()


def test_a_key_that_resembles_nothing_is_reported_without_a_guess(node: Node) -> None:
    added = node.attachment(qqqqqqqqqqqqq=1).add().ok()
    assert "qqqqqqqqqqqqq" in added.stderr


def test_a_configuration_of_ovs_cni_works_unchanged(node: Node) -> None:
    """What its users write most often; only the socket differs from theirs."""
    config: dict[str, Any] = {
        "cniVersion": "0.4.0",
        "type": "ovs",
        "name": "mynet",
        "bridge": node.bridge,
        "vlan": 100,
        "mtu": 1450,
        "ipam": {"type": "static", "addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]},
        "socket_file": node.openvswitch.remote,
        "link_state_check_retries": 5,
        "link_state_check_interval": 600,
    }
    pod = node.attachment(cniVersion="0.4.0")
    pod.config = config
    pod.args = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=1f4b;MAC=02:00:00:00:00:05"
    added = pod.add().ok()
    assert added.stderr == ""
    assert node.port(pod)["tag"] == 100
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()
