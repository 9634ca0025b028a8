"""What the kinds of device look like in the kernel and in Open vSwitch, and that packets pass between them."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from tests.support.ipam import static
from tests.support.iperf import mbits
from tests.support.node import INTERNAL_KINDS, Node
from tests.support.plugin import Attachment

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]
TAPS, TAP_AND_VETH = (pytest.param(("tap", kind), marks=pytest.mark.userspace) for kind in ("tap", "veth"))


def _pods(node: Node, *kinds: str) -> list[Attachment]:
    return [node.attached(interface_type=kind, ipam=node.host_local()) for kind in kinds]


# What they look like


@pytest.mark.one_target
def test_a_veth_is_a_pair_with_both_ends_up_and_a_silent_host_end(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    host, container = node.host.link(name), pod.sandbox.link("net1")
    assert (host.kind, container.kind) == ("veth", "veth")
    assert host.up and container.up
    assert host.mac != container.mac
    assert container.altnames == ()
    assert node.host.addresses(name, link_local=True) == []
    assert node.host.sysctl(f"net/ipv6/conf/{name}/accept_ra") == "0"


@pytest.mark.one_target
def test_an_internal_port_keeps_its_name_and_has_the_asked_one_as_an_alternative(node: Node) -> None:
    pod = node.attached(interface_type="internal", ipam=node.host_local())
    name = node.port(pod)["name"]
    link = pod.sandbox.link("net1")
    assert (link.name, link.altnames, link.up) == (name, ("net1",), True)
    assert name not in node.host.links()
    assert json.loads(pod.sandbox.run("ip", "-j", "link", "show", "net1").stdout)[0]["ifname"] == name
    assert node.interface(pod)["type"] == "internal"


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_in_open_vswitch_hold_what_the_contract_says_and_no_more(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, vlan=5)
    port, interface = node.port(pod), node.interface(pod)
    assert re.fullmatch(r"cni[0-9a-f]{12}", port["name"])
    assert node.openvswitch.port_names(node.bridge) == [port["name"]]
    assert port["external_ids"] == {
        "owner": "cni-ovs",
        "contNetwork": node.network,
        "contID": pod.container_id,
        "contIface": "net1",
        "contNetns": pod.sandbox.path,
    }
    assert port["tag"] == 5
    assert (port["trunks"], port["cvlans"], port["other_config"]) == ([], [], {})
    assert port["interfaces"] == interface["_uuid"]
    assert interface["type"] == ("" if kind == "veth" else kind)
    assert interface["external_ids"] == {} and interface["other_config"] == {} and interface["options"] == {}
    assert (interface["mtu_request"], interface["ofport_request"]) == ([], [])
    assert interface["ofport"] > 0 and interface["error"] == []


@pytest.mark.one_target
def test_the_ovs_library_sees_the_same_as_ovs_vsctl(node: Node) -> None:
    pod = node.attached(vlan=5)
    (port,) = (
        row
        for row in node.openvswitch.idl_rows("Port", ["name", "tag", "external_ids", "vlan_mode"])
        if row["external_ids"].get("contID") == pod.container_id
    )
    seen = node.port(pod)
    assert (port["name"], port["tag"], port["external_ids"]) == (seen["name"], [5], seen["external_ids"])


@pytest.mark.one_target
def test_the_name_follows_from_network_container_and_interface_alone(node: Node) -> None:
    pod = node.attachment(container_id="abc")

    def name(attachment: Attachment) -> str:
        attachment.add().ok()
        port = str(node.port(attachment)["name"])
        attachment.delete().silent()
        return port

    first = name(pod)
    same = node.attachment(container_id="abc", interface_type="internal", vlan=9, cniVersion="0.4.0")
    assert name(pod) == name(same) == first
    others = [
        node.attachment(container_id="abd"),
        node.attachment(container_id="abc", ifname="net2"),
        node.attachment(container_id="abc", name=f"{node.network}b"),
        node.attachment(container_id="abcn", ifname="et1"),  # the three parts may not run into one another
    ]
    assert len({first, *(name(other) for other in others)}) == 5
    node.assert_nothing_left()


@pytest.mark.one_target
def test_a_container_may_have_several_interfaces_of_one_network(node: Node) -> None:
    first = node.attached(ipam=node.host_local())
    second = node.attached(
        sandbox=first.sandbox,
        container_id=first.container_id,
        ifname="net2",
        interface_type="internal",
        ipam=node.host_local(),
    )
    assert first.sandbox.link("net1").kind == "veth"
    assert first.sandbox.link("net2").kind in INTERNAL_KINDS
    second.delete().silent()
    first.check().silent()
    first.delete().silent()
    node.assert_nothing_left()


# Packets


@pytest.mark.parametrize(
    "kinds", [("veth", "veth"), ("internal", "internal"), ("veth", "internal"), TAPS, TAP_AND_VETH]
)
def test_packets_pass_as_soon_as_add_has_returned(node: Node, kinds: tuple[str, str]) -> None:
    """One single packet each way, none repeated."""
    first, second = _pods(node, *kinds)
    for one, other in ((first, second), (second, first)):
        one.sandbox.run("ping", "-n", "-c", "1", "-W", "1", other.addresses[0])


@pytest.mark.one_target
@pytest.mark.parametrize("kinds", [("veth", "veth"), ("veth", "internal"), ("internal", "veth"), TAPS, TAP_AND_VETH])
def test_tcp_moves_more_than_100_mbit_per_second(node: Node, kinds: tuple[str, str]) -> None:
    first, second = _pods(node, *kinds)
    assert mbits(first, second) > 100
    assert mbits(first, second, "-R") > 100


@pytest.mark.one_target
def test_tcp_works_between_veths_over_ipv6(node: Node) -> None:
    first = node.attached(ipam=static("2001:db8:1::2/64"))
    second = node.attached(ipam=static("2001:db8:1::3/64"))
    assert mbits(first, second) > 100


@pytest.mark.userspace
def test_transmit_checksum_offload_is_off_on_the_containers_end(node: Node) -> None:
    pod = node.attached()
    features = pod.sandbox.run("ethtool", "-k", "net1").stdout
    assert re.search(r"^tx-checksumming: off", features, re.MULTILINE), features


@pytest.mark.one_target
def test_vlans_separate_and_the_same_vlan_connects(node: Node) -> None:
    five, also_five, six, none = (
        node.attached(ipam=node.host_local(), **({"vlan": vlan} if vlan else {})) for vlan in (5, 5, 6, None)
    )
    assert five.sandbox.pings(also_five.addresses[0])
    assert not five.sandbox.pings(six.addresses[0], timeout=1)
    assert not five.sandbox.pings(none.addresses[0], timeout=1)


@pytest.mark.one_target
@pytest.mark.parametrize(
    ("kinds", "mtu"),
    [
        (("veth", "veth"), 1280),
        (("veth", "veth"), 8000),
        (("internal", "veth"), 1280),
        pytest.param(("tap", "veth"), 1280, marks=pytest.mark.userspace),
    ],
)
def test_packets_of_the_full_mtu_pass_and_larger_ones_do_not(node: Node, kinds: tuple[str, str], mtu: int) -> None:
    """Internal ports and taps above 1500 are left out, for a limit of the userspace datapath.

    Its ovs-vswitchd no longer sees the MTU of a tap in another namespace, and cuts what it reads at about 1,500 bytes.
    """
    first, second = (node.attached(interface_type=kind, mtu=mtu, ipam=node.host_local()) for kind in kinds)
    ping = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s")
    first.sandbox.run(*ping, str(mtu - 28), second.addresses[0])
    assert first.sandbox.run(*ping, str(mtu - 27), second.addresses[0], check=False).returncode != 0


@pytest.mark.one_target
def test_other_attachments_go_on_while_one_comes_and_goes(node: Node) -> None:
    first, second = _pods(node, "veth", "internal")
    ping = first.sandbox.start("ping", "-n", "-i", "0.05", "-c", "60", "-W", "1", second.addresses[0])
    for kind in ("veth", "internal", "veth"):
        pod = node.attached(interface_type=kind, ipam=node.host_local())
        pod.delete().silent()
    out, _ = ping.communicate(timeout=30)
    lost = re.search(r"(\d+) packets transmitted, (\d+) received", out)
    assert lost is not None and lost[1] == lost[2] == "60", out


@pytest.mark.one_target
def test_ofports_differ_between_attachments(node: Node) -> None:
    ofports = sorted(node.interface(pod)["ofport"] for pod in _pods(node, "veth", "internal", "veth"))
    assert all(one < other for one, other in pairwise(ofports))
