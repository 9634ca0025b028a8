"""CNI contract, section "DEL" (points 18 to 20). What needs a stopped daemon is in tests/fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.ipam import ScriptedIpam
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.plugin import VERSIONS, Attachment

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize("version", VERSIONS)
def test_del_succeeds_again_and_again_and_without_any_add(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local())
    pod.delete().silent()
    pod.add().ok()
    pod.delete().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_del_succeeds_when_the_namespace_is_gone(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    pod.sandbox.delete()
    pod.delete().silent()
    node.assert_nothing_left()


def _empty(node: Node, pod: Attachment) -> str:
    return ""


def _plain_file(node: Node, pod: Attachment) -> str:
    path = node.folder / "no-namespace"
    path.write_text("")
    return str(path)


def _missing_path(node: Node, pod: Attachment) -> str:
    return "/run/netns/cniovs-no-such"


def _somebody_elses(node: Node, pod: Attachment) -> str:
    return node.sandbox().path


@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "netns", [_empty, _plain_file, _missing_path, _somebody_elses], ids=["empty", "plain-file", "missing", "foreign"]
)
def test_del_removes_everything_whatever_cni_netns_says(
    node: Node, kind: str, netns: Callable[[Node, Attachment], str]
) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    pod.delete(CNI_NETNS=netns(node, pod)).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_succeeds_without_cni_netns(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    pod.delete(CNI_NETNS=None).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_leaves_a_foreign_namespace_alone_although_it_has_an_interface_of_that_name(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    foreign = node.sandbox()
    foreign.ip("link", "add", "net1", "type", "veth", "peer", "name", "peer1")
    before = foreign.links()
    pod.delete(CNI_NETNS=foreign.path).silent()
    assert foreign.links() == before
    foreign.ip("link", "delete", "net1")
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_del_succeeds_when_the_bridge_is_gone(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    node.openvswitch.delete_bridge(node.bridge)
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize("kind", KINDS)
def test_del_needs_no_prev_result(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    pod.result = None
    assert "prevResult" not in pod.stdin("DEL")
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize("previous", [{}, {"cniVersion": "1.1.0"}, {"interfaces": "rubbish"}, None, []])
def test_del_is_not_stopped_by_a_prev_result_that_says_nothing(node: Node, previous: object) -> None:
    pod = node.attached(ipam=node.host_local())
    node.plugin.run(pod.environment("DEL"), {**pod.config, "prevResult": previous}).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_finds_the_port_by_its_record_when_somebody_deleted_the_devices(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    pod.sandbox.ip("link", "delete", "net1")
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_finds_the_devices_when_somebody_removed_the_port(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    node.openvswitch.vsctl("del-port", node.port(pod)["name"])
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_finds_a_port_by_its_record_that_somebody_moved_to_another_bridge(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    port = node.port(pod)
    other = node.add_bridge()
    node.openvswitch.vsctl(
        *("--", "remove", "Bridge", node.bridge, "ports", port["_uuid"]),
        *("--", "add", "Bridge", other, "ports", port["_uuid"]),
    )
    pod.delete().silent()
    assert node.openvswitch.port_names(other) == []
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_removes_one_attachment_and_no_other(node: Node) -> None:
    """The same container twice on one network, on another network, and another container with the same interface."""
    pod = node.attached(ipam=node.host_local())
    same = {"sandbox": pod.sandbox, "container_id": pod.container_id, "ipam": node.host_local()}
    second = node.attached(ifname="net2", **same)
    network = node.attached(ifname="net3", name=f"{node.network}-b", **same)
    other = node.attached(ipam=node.host_local())
    pod.delete().silent()
    assert "net1" not in pod.sandbox.links()
    for survivor in (second, network, other):
        survivor.check().silent()
    assert other.sandbox.pings(second.addresses[0])
    for survivor in (second, network, other):
        survivor.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_finds_a_port_by_its_name_when_its_record_is_lost(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    node.openvswitch.vsctl("clear", "Port", name, "external_ids")
    pod.delete().silent()
    assert node.openvswitch.port_names(node.bridge) == []
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize(
    "record",
    [
        ["external_ids:owner=somebody-else"],
        ["external_ids:owner=cni-ovs", "external_ids:contID=another", "external_ids:contIface=net1"],
    ],
    ids=["other-owner", "other-container"],
)
def test_del_does_not_touch_a_port_of_somebody_else_that_has_the_same_name(node: Node, record: list[str]) -> None:
    """The name follows from the attachment, so a first ADD tells it."""
    pod = node.attached()
    name = node.port(pod)["name"]
    pod.delete().silent()
    node.openvswitch.vsctl(
        *("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal"),
        *("--", "set", "Port", name, *record),
    )
    pod.delete().silent()
    assert node.openvswitch.port_names(node.bridge) == [name]
    node.openvswitch.vsctl("del-port", name)


@pytest.mark.one_target
@pytest.mark.contract(18)
@pytest.mark.parametrize("netns", ["the-same", "empty"])
def test_del_removes_a_port_that_ovs_cni_left_for_the_same_interface(node: Node, netns: str) -> None:
    pod = node.attachment(ipam=node.host_local())
    ids = {
        "owner": "ovs-cni.network.kubevirt.io",
        "contNetns": pod.sandbox.path,
        "contIface": "net1",
        "contPodUid": "1f4b",
    }
    node.host.run("ip", "link", "add", "vethold", "type", "veth", "peer", "name", "net1", "netns", pod.sandbox.name)
    node.openvswitch.vsctl(
        *("add-port", node.bridge, "vethold", "--", "set", "Port", "vethold"),
        *(f'external_ids:{key}="{value}"' for key, value in ids.items()),
    )
    if netns == "empty":  # there is nothing then that tells whose it is: it must stay
        pod.delete(CNI_NETNS="").silent()
        assert "vethold" in node.openvswitch.port_names(node.bridge)
        return
    pod.delete().silent()
    assert node.openvswitch.port_names(node.bridge) == []
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(18, 19)
def test_ipam_is_told_to_delete_in_every_case(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    pod.delete().silent()
    pod.delete(CNI_NETNS="").silent()
    pod.sandbox.delete()
    pod.delete().silent()
    node.openvswitch.delete_bridge(node.bridge)
    pod.delete().silent()
    assert ipam.calls == ["DEL"] * 4


# Order and errors of IPAM (19)


@pytest.mark.one_target
@pytest.mark.contract(19)
def test_our_own_resources_are_gone_before_ipam_is_told(node: Node) -> None:
    """The IPAM plugin itself looks whether the container's interface is still there."""
    seen = node.folder / "seen"
    ipam = node.scripted_ipam(DEL=f'nsenter --net="$CNI_NETNS" ip -o link > {seen}')
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    pod.add().ok()
    pod.delete().silent()
    assert "lo" in seen.read_text() and "net1" not in seen.read_text()
    node.assert_nothing_left()


@pytest.mark.contract(19)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_ipam_is_reported_at_the_end_and_a_retry_works(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder))
    pod.add().ok()
    ipam.act(DEL=ipam.refuse(77, "not now"))
    assert "not now" in pod.delete().error(77)["msg"]
    node.assert_nothing_left(unreturned=1)
    ipam.act()
    pod.delete().silent()
    node.assert_nothing_left()


def _unreturned(node: Node) -> tuple[ScriptedIpam, Attachment]:
    """A pod whose DEL could not return its address, and the plugin that refused it."""
    ipam = node.scripted_ipam()
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder))
    ipam.act(ADD=ipam.answer("10.77.0.2/24", version="1.1.0"), DEL=ipam.refuse(77, "not now"))
    pod.add().ok()
    pod.delete().error(77)
    return ipam, pod


def test_gc_returns_an_address_that_del_could_not_return(node: Node) -> None:
    ipam, pod = _unreturned(node)
    ipam.act()
    other = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder), name=f"{node.network}x")
    other.gc(**{"cni.dev/valid-attachments": []}).silent()
    node.assert_nothing_left(unreturned=1)  # of another network
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert ipam.environment("DEL")["CNI_CONTAINERID"] == pod.container_id
    node.assert_nothing_left()


def test_gc_keeps_the_note_of_a_container_that_it_is_told_to_keep(node: Node) -> None:
    ipam, pod = _unreturned(node)
    pod.gc(**{"cni.dev/valid-attachments": [{"containerID": pod.container_id, "ifname": "net1"}]}).silent()
    node.assert_nothing_left(unreturned=1)
    ipam.act()
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    node.assert_nothing_left()


def test_gc_keeps_the_address_of_an_attachment_that_was_made_anew(node: Node) -> None:
    ipam, pod = _unreturned(node)
    pod.add().ok()
    calls = len(ipam.calls)
    pod.gc(**{"cni.dev/valid-attachments": [{"containerID": pod.container_id, "ifname": "net1"}]}).silent()
    assert "DEL" not in ipam.calls[calls:]
    node.assert_nothing_left(keep=[pod])


@pytest.mark.contract(19, 8)
def test_del_ends_in_time_when_ipam_hangs_and_has_removed_the_port(node: Node) -> None:
    ipam = node.scripted_ipam(DEL="sleep 300")
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder), timeout=2)
    pod.add().ok()
    outcome = pod.start("DEL").wait(timeout=10)
    outcome.error(11)
    assert outcome.seconds < 5
    node.assert_nothing_left(unreturned=1)


@pytest.mark.one_target
@pytest.mark.contract(18)
def test_del_of_a_container_that_was_attached_under_the_same_id_in_a_new_namespace(
    node: Node,
) -> None:
    """A runtime restarts a sandbox under its old id: the port of the old namespace must not stay in the way."""
    pod = node.attached(ipam=node.host_local())
    old: Namespace = pod.sandbox
    old.delete()
    pod.delete().silent()
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    pod.result = None
    pod.add().ok()
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()
