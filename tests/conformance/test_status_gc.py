"""CNI contract, section "STATUS and GC" (points 23 and 24). STATUS with stopped daemons is in tests/fault."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import Attachment, Json
from tests.support.processes import wait_for

VALID = "cni.dev/valid-attachments"
OLDER = "cni.dev/attachments"


# STATUS (23)


@pytest.mark.contract(23)
def test_status_succeeds_when_an_add_would(node: Node) -> None:
    node.attachment().status().silent()
    node.attachment(ipam=node.host_local()).status().silent()


@pytest.mark.one_target
@pytest.mark.contract(23)
def test_status_names_a_missing_bridge_and_what_to_do_in_one_line(node: Node) -> None:
    error = node.attachment(bridge="nosuchbridge").status().error(50)
    assert "nosuchbridge" in error["msg"]
    assert "\n" not in error["msg"]


@pytest.mark.one_target
@pytest.mark.contract(23)
def test_status_names_a_database_that_is_not_there(node: Node) -> None:
    missing = str(node.folder / "no.sock")
    error = node.attachment(socket_file=missing).status().error(50)
    assert missing in error["msg"] and "\n" not in error["msg"]


def _reconfigurations(openvswitch: PrivateOpenVSwitch) -> int:
    return int(openvswitch.appctl("coverage/read-counter", "bridge_reconfigure"))


@pytest.mark.one_target
@pytest.mark.contract(23)
def test_status_writes_nothing_and_does_not_make_ovs_vswitchd_reconfigure(private_node: Node) -> None:
    switch = private_node.openvswitch
    pod = private_node.attached()
    switch.vsctl("set", "Open_vSwitch", ".", "external_ids:settled=1")
    database = switch.folder / "conf.db"
    before = (database.read_bytes(), _reconfigurations(switch))
    for _ in range(5):
        pod.status().silent()
    assert (database.read_bytes(), _reconfigurations(switch)) == before
    switch.vsctl("set", "Open_vSwitch", ".", "external_ids:settled=2")
    assert _reconfigurations(switch) > before[1]  # so this counter does count


@pytest.mark.contract(23)
def test_status_is_forwarded_to_ipam(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder))
    pod.status().silent()
    assert ipam.calls == ["STATUS"]
    ipam.act(STATUS=ipam.refuse(51, "no more addresses"))
    error = pod.status().error(50, 51)
    assert "no more addresses" in error["msg"] + error.get("details", "")


@pytest.mark.one_target
@pytest.mark.contract(23)
def test_status_reports_an_ipam_plugin_that_does_not_exist(node: Node) -> None:
    error = node.attachment(ipam={"type": "nosuchipam"}).status().error()
    assert "nosuchipam" in error["msg"]


# GC (24)


def _valid(*pods: Attachment) -> list[Json]:
    return [{"containerID": pod.container_id, "ifname": pod.ifname} for pod in pods]


def _three(node: Node, **keys: Any) -> tuple[Attachment, Attachment, Attachment]:
    first, second, third = (node.attached(ipam=node.host_local(), **keys) for _ in range(3))
    return first, second, third


@pytest.mark.one_target
@pytest.mark.contract(24)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("key", [VALID, OLDER])
def test_gc_removes_what_is_not_listed_with_its_link_and_address(node: Node, kind: str, key: str) -> None:
    first, second, third = _three(node, interface_type=kind)
    first.gc(**{key: _valid(second)}).silent()
    node.assert_nothing_left(keep=[second])
    second.check().silent()
    assert node.addresses_given_out() == second.addresses
    first.delete().silent()
    third.delete().silent()
    second.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(24)
@pytest.mark.parametrize("nothing", [None, []], ids=["null", "empty"])
def test_gc_with_an_empty_list_removes_everything_of_the_network(node: Node, nothing: object) -> None:
    _three(node)[0].gc(**{VALID: nothing}).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_without_the_key_removes_nothing(node: Node) -> None:
    pods = _three(node)
    pods[0].gc().silent()
    for pod in pods:
        pod.check().silent()


@pytest.mark.one_target
@pytest.mark.contract(24)
@pytest.mark.parametrize("rubbish", ["text", {"containerID": "a", "ifname": "b"}, [1], [{"containerID": 1}]])
def test_gc_with_a_malformed_list_removes_nothing_and_says_so(node: Node, rubbish: object) -> None:
    pods = _three(node)
    pods[0].gc(**{VALID: rubbish}).error(6, 7)
    for pod in pods:
        pod.check().silent()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_tells_interfaces_of_one_container_apart(node: Node) -> None:
    pod = node.attached(ipam=node.host_local())
    second = node.attached(ifname="net2", sandbox=pod.sandbox, container_id=pod.container_id, ipam=node.host_local())
    pod.gc(**{VALID: _valid(pod)}).silent()
    assert "net2" not in pod.sandbox.links()
    assert node.addresses_given_out() == pod.addresses
    pod.check().silent()
    second.delete().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_leaves_other_networks_and_foreign_ports_alone(node: Node) -> None:
    stale = node.attached()
    other = node.attached(name=f"{node.network}-b")
    node.openvswitch.vsctl("add-port", node.bridge, "foreign0", "--", "set", "Interface", "foreign0", "type=internal")
    node.openvswitch.vsctl(
        *("add-port", node.bridge, "foreign1", "--", "set", "Interface", "foreign1", "type=internal"),
        *("--", "set", "Port", "foreign1", f"external_ids:contNetwork={node.network}", "external_ids:contID=abc"),
    )
    stale.gc(**{VALID: []}).silent()
    other.check().silent()
    assert set(node.openvswitch.port_names(node.bridge)) == {"foreign0", "foreign1", node.port(other)["name"]}
    node.openvswitch.vsctl("del-port", "foreign0", "--", "del-port", "foreign1")
    other.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_removes_ports_whose_namespaces_and_devices_are_long_gone(node: Node) -> None:
    pods = _three(node)
    for pod in pods[:2]:
        pod.sandbox.delete()
    pods[0].gc(**{VALID: _valid(pods[2])}).silent()
    node.assert_nothing_left(keep=[pods[2]])
    pods[2].check().silent()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_finds_ports_of_the_network_on_a_bridge_that_is_no_longer_configured(node: Node) -> None:
    pod = node.attached()
    pod.config["bridge"] = node.add_bridge()
    pod.gc(**{VALID: []}).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(24)
def test_gc_goes_on_past_an_error_and_reports_it_at_the_end(node: Node) -> None:
    ipam = node.scripted_ipam()
    pods = [
        node.attachment(ipam=ipam.config, cni_path=str(ipam.folder), cniVersion="1.1.0", name=node.network)
        for _ in range(2)
    ]
    ipam.act(ADD=ipam.answer("10.77.0.2/24", version="1.1.0"))
    pods[0].add().ok()
    ipam.act(ADD=ipam.answer("10.77.0.3/24", version="1.1.0"))
    pods[1].add().ok()
    ipam.act(DEL=ipam.refuse(77, "not now"), GC=ipam.refuse(78, "not now either"))
    error = pods[0].gc(**{VALID: []}).error()
    assert "not now" in error["msg"] + error.get("details", "")
    assert "GC" in ipam.calls
    node.assert_nothing_left(unreturned=2)


@pytest.mark.contract(24, 25)
def test_gc_is_forwarded_to_ipam_with_the_list(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder))
    valid = _valid(pod)
    pod.gc(**{VALID: valid}).silent()
    assert ipam.calls == ["GC"]
    assert '"cni.dev/valid-attachments"' in ipam.stdin("GC") and pod.container_id in ipam.stdin("GC")


@pytest.mark.contract(24)
def test_an_add_is_refused_while_gc_returns_the_address_of_its_attachment(node: Node) -> None:
    """Its own address would be returned under it. A runtime tries again."""
    ipam = node.scripted_ipam()
    pod = node.attached(ipam=ipam.config, cni_path=str(ipam.folder))
    ipam.act(DEL="sleep 2")
    variables = node.plugin.environment(CNI_COMMAND="GC", CNI_PATH=pod.cni_path)
    collecting = node.plugin.start(variables, {**pod.config, VALID: []})
    wait_for("GC returns the address", lambda: "DEL" in ipam.calls)
    pod.add().error(11)
    collecting.wait().silent()
    node.assert_nothing_left()
    pod.add().ok()


@pytest.mark.contract(24)
@pytest.mark.one_target
def test_gc_waits_for_the_ipam_plugin_of_a_killed_add_but_not_three_times(node: Node) -> None:
    ipam = node.scripted_ipam(ADD="exec sleep 60")
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder))
    adding = pod.start("ADD")
    wait_for("the IPAM plugin is asked, and the port is there", lambda: ipam.calls == ["ADD"] and node.ports())
    adding.signal(signal.SIGKILL)
    adding.wait()
    done = pod.gc(**{VALID: []})
    done.silent()
    assert 4 < done.seconds < 8
    os.kill(ipam.pid("ADD"), signal.SIGKILL)
    wait_for("it has ended", lambda: not node.strangers())
    node.assert_nothing_left()
