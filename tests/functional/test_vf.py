"""VFs of an SR-IOV NIC: into the container and back, with their representors on the bridge. The NIC is a stand-in."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support import interference
from tests.support.frames import Frame, Tag, captured, send
from tests.support.ipam import ScriptedIpam
from tests.support.nic import Nic, Vf
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import Attachment, Json, Target
from tests.support.processes import run, wait_for
from tests.support.sysfs import PF

MAC = {"mac": "02:00:00:00:00:0a"}
SOME = 12  # places at which a command is killed without --whole


@pytest.fixture
def nic(openvswitch: PrivateOpenVSwitch, target: Target, tmp_path: Path) -> Iterator[Nic]:
    made = Nic(openvswitch, target, tmp_path)
    try:
        yield made
    finally:
        made.node.clean()


def pod_of(nic: Nic, vf: Vf | None = None, **keys: Any) -> Attachment:
    return nic.node.attachment(deviceID=(vf or nic.vf).address, **keys)


def attached(nic: Nic, vf: Vf | None = None, **keys: Any) -> Attachment:
    pod = pod_of(nic, vf, **keys)
    pod.add().ok()
    return pod


def put_tap_in_place_of_vf(nic: Nic) -> None:
    vf = nic.vf
    nic.host.ip("link", "delete", vf.name)
    nic.host.ip("link", "add", vf.representor, "mtu", "1500", "type", "veth", "peer", "name", f"{vf.representor}x")
    nic.node.device(f"{vf.representor}x")
    nic.host.ip("tuntap", "add", vf.name, "mode", "tap")


# ADD, CHECK, DEL


def test_a_vf_goes_into_the_container_and_its_representor_becomes_the_port(nic: Nic) -> None:
    node, vf = nic.node, nic.vf
    nic.host.ip("link", "set", vf.name, "up")  # as some hosts leave it
    pod = attached(nic, mtu=1400, vlan=5, cni_args="MAC=02:00:00:00:00:0a", external_ids={"site": "a"})
    port = node.port(pod)
    assert port["name"] == vf.representor and port["tag"] == 5
    assert port["external_ids"] == {
        "owner": "cni-ovs",
        "contNetwork": node.network,
        "contID": pod.container_id,
        "contIface": "net1",
        "contNetns": pod.sandbox.path,
        "contDeviceID": vf.address,
        "contVfName": vf.name,
        "contVfKind": "veth",
        "contVfMac": vf.mac,
        "contVfMtu": "1500",
        "contRepresentorMtu": "1500",
        "contRepresentorState": "down",
        "site": "a",
    }
    assert node.interface(pod)["type"] == ""
    assert node.openvswitch.port_names(node.bridge) == [vf.representor]
    container, representor = pod.sandbox.link("net1"), nic.host.link(vf.representor)
    assert (container.name, container.mac, container.mtu, container.up) == ("net1", "02:00:00:00:00:0a", 1400, True)
    assert (representor.mtu, representor.up) == (1400, True)
    assert nic.host.addresses(vf.representor, link_local=True) == []
    assert nic.host.sysctl(f"net/ipv6/conf/{vf.representor}/accept_ra") == "0"
    assert vf.name not in nic.host.links()
    assert pod.result is not None
    assert pod.result["interfaces"] == [
        {"name": vf.representor, "mac": representor.mac, "mtu": 1400},
        {
            "name": "net1",
            "mac": "02:00:00:00:00:0a",
            "mtu": 1400,
            "sandbox": pod.sandbox.path,
            "pciID": vf.address,
        },
    ]
    pod.check().silent()
    pod.delete().silent()
    nic.assert_as_before()
    pod.delete().silent()


@pytest.mark.one_target
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_before_version_1_1_the_result_has_no_pci_address(nic: Nic, version: str) -> None:
    pod = attached(nic, cniVersion=version)
    assert pod.result is not None
    assert all(set(interface) <= {"name", "mac", "sandbox"} for interface in pod.result["interfaces"])
    pod.check().silent()
    pod.delete().silent()
    nic.assert_as_before()


def test_packets_pass_between_a_vf_another_vf_and_a_veth_as_soon_as_add_has_returned(nic: Nic) -> None:
    """One single packet each way, none repeated."""
    pods = [attached(nic, vf, ipam=nic.node.host_local("10.10.0.0/16", "fd00:10::/64")) for vf in nic.vfs]
    pods.append(nic.node.attached(ipam=nic.node.host_local("10.10.0.0/16", "fd00:10::/64")))
    for one in pods:
        for other in pods:
            if one is not other:
                for address in other.addresses:
                    one.sandbox.run("ping", "-n", "-c", "1", "-W", "1", address)
    for pod in pods:
        pod.check().silent()
        pod.delete().silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_the_vlans_of_a_vf_are_those_of_its_port(nic: Nic) -> None:
    access, trunk = attached(nic, vlan=5), nic.node.attached(trunk=[{"id": 5}, {"id": 6}])
    with captured(trunk.sandbox, "net1", nic.node.folder) as capture:
        send(access.sandbox, "net1", Frame("from the VF", ()))
        wait_for("it has come", lambda: [f.tags for f in capture.frames() if f.text == "from the VF"] == [(Tag(5),)])
    with captured(access.sandbox, "net1", nic.node.folder) as capture:
        for vlan in (6, 5):
            send(trunk.sandbox, "net1", Frame(f"in VLAN {vlan}", (Tag(vlan),)))
        wait_for("it has come", lambda: [f.text for f in capture.frames() if "VLAN" in f.text] == ["in VLAN 5"])
    access.check().silent()
    access.delete().silent()
    trunk.delete().silent()
    nic.assert_as_before()


@pytest.mark.one_target
@pytest.mark.parametrize("tool", ["the uplink", "its bond", "another member of that", "a bond of Open vSwitch"])
def test_without_bridge_it_is_the_one_that_has_the_uplink(nic: Nic, tool: str) -> None:
    node, uplink = nic.node, nic.uplink
    others = [f"{kind}{uplink[2:]}" for kind in ("bond", "pa", "pb")]
    for name in others:
        nic.host.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}x")
        node.device(name)
        node.device(f"{name}x")
    bond, member, second = others
    if tool in ("its bond", "another member of that"):
        nic.sysfs.interface(member)
        nic.sysfs.bond(bond, member, uplink)
    port = {"the uplink": uplink, "its bond": bond, "another member of that": member}.get(tool)
    if port is None:
        node.openvswitch.vsctl("add-bond", node.bridge, f"ob{uplink[2:]}", uplink, second)
    else:
        node.openvswitch.vsctl("add-port", node.bridge, port)
    node.add_bridge()
    pod = attached(nic, bridge=None)
    assert nic.vf.representor in node.openvswitch.port_names(node.bridge)
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_without_bridge_an_uplink_that_is_on_none_is_an_error(nic: Nic) -> None:
    error = pod_of(nic, bridge=None).add().error(7)
    assert "'bridge'" in error["msg"] and "'deviceID'" in error["msg"] and nic.uplink in error["msg"]
    nic.assert_as_before()


@pytest.mark.one_target
def test_a_vf_that_a_program_drives_stays_and_only_its_representor_is_attached(nic: Nic) -> None:
    vf, node = nic.vf, nic.node
    nic.sysfs.pci(vf.address, driver="vfio-pci")
    (nic.sysfs.root / "bus/pci/devices" / vf.address / "net" / vf.name / "phys_port_name").rmdir()
    (nic.sysfs.root / "bus/pci/devices" / vf.address / "net").rename(nic.sysfs.root / "unbound")
    pod = attached(nic, mtu=1400, ipam=node.host_local())
    assert "contVfName" not in node.port(pod)["external_ids"]
    assert pod.result is not None
    assert pod.result["interfaces"][1] == {"name": "net1", "sandbox": pod.sandbox.path, "pciID": vf.address}
    assert len(pod.result["ips"]) == 1
    assert set(pod.sandbox.links()) == pod.sandbox.initial_devices
    assert nic.host.link(vf.representor).mtu == 1400
    pod.check().silent()
    pod.delete().silent()
    nic.assert_as_before()
    error = pod_of(nic, cni_args="MAC=02:00:00:00:00:0a").add().error(7)
    assert "'deviceID'" in error["msg"] and "02:00:00:00:00:0a" in error["msg"]
    nic.assert_as_before()


@pytest.mark.one_target
def test_what_was_up_before_is_up_again_at_the_representor(nic: Nic) -> None:
    nic.host.ip("link", "set", nic.vf.representor, "up", "mtu", "1450")
    before = nic.state()[nic.vf.representor]
    pod = attached(nic, mtu=1300)
    pod.delete().silent()
    assert nic.state()[nic.vf.representor] == before


# CHECK finds differences


@pytest.mark.one_target
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ip -n {sandbox} link set net1 address 02:00:00:00:00:99", "MAC"),
        ("ip -n {sandbox} link set net1 mtu 1300", "MTU"),
        ("ip -n {sandbox} link set net1 down", "down"),
        ("ip -n {sandbox} link set net1 down name net9", "missing"),
        ("ip -n {host} link set {representor} down", "down"),
        ("ip -n {host} link set {representor} mtu 1300", "MTU"),
        ("ovs-vsctl --db={database} del-port {representor}", "missing"),
        ("ovs-vsctl --db={database} set port {representor} external_ids:contDeviceID=0000:03:00.7", "contDeviceID"),
    ],
)
def test_check_tells_what_differs(nic: Nic, change: str, said: str) -> None:
    pod = attached(nic, mtu=1400)
    pod.check().silent()
    names = {"sandbox": pod.sandbox.name, "host": nic.host.name, "representor": nic.vf.representor}
    words = change.format(**names, database=nic.node.openvswitch.remote).split()
    run(words)
    assert said in pod.check().error(106)["msg"]


# What is refused


@pytest.mark.one_target
def test_what_does_not_go_together_is_refused_and_nothing_is_changed(nic: Nic) -> None:
    nic.sysfs.pci("0000:00:01.0")
    mistakes: list[tuple[Json, list[str]]] = [
        ({"interface_type": "internal"}, ["'interface_type'", "'deviceID'"]),
        ({"deviceID": "0000:0a:00.5"}, ["'deviceID'", "0000:0a:00.5", "no such PCI device"]),
        ({"deviceID": "0000:00:01.0"}, ["'deviceID'", "not a virtual function"]),
        ({"deviceID": PF}, ["'deviceID'", "a physical function"]),
        ({"deviceID": "../../virtual"}, ["'deviceID'", "0000:03:00.5"]),
        ({"deviceID": 5}, ["'deviceID'", "5"]),
    ]
    for keys, texts in mistakes:
        pod = pod_of(nic)
        pod.config |= keys
        error = pod.add().error(7)
        assert all(text in error["msg"] for text in texts), error
        nic.assert_as_before()
    error = pod_of(nic, mtu=65).add().error(7)
    (nic.sysfs.root / "class/net" / nic.uplink / "phys_switch_id").write_text("\n")
    error = pod_of(nic).add().error(7)
    assert "not in switchdev mode" in error["msg"] and f"pci/{PF} mode switchdev" in error["details"]
    nic.assert_as_before()


@pytest.mark.one_target
def test_an_mtu_that_the_kernel_refuses_is_told_in_its_words_and_everything_is_given_back(nic: Nic) -> None:
    """A tap takes the VF's place: of a veth the kernel refuses no MTU that the configuration may have."""
    put_tap_in_place_of_vf(nic)
    before = nic.state()
    error = pod_of(nic, mtu=65530).add().error(103)
    assert "'mtu' 65530" in error["msg"] and "'deviceID'" in error["msg"], error
    assert nic.state() == before
    nic.node.assert_nothing_left()


@pytest.mark.one_target
def test_a_vf_that_has_no_carrier_is_attached_all_the_same(nic: Nic) -> None:
    """A tap takes its place, which nobody has opened."""
    put_tap_in_place_of_vf(nic)
    before = nic.state()
    pod = pod_of(nic, mtu=1400)
    outcome = pod.add().ok()
    assert "no carrier yet" in outcome.stderr and outcome.seconds < 3
    pod.check().silent()
    pod.delete().silent()
    assert nic.state() == before
    nic.node.assert_nothing_left()


@pytest.mark.one_target
def test_a_representor_that_is_somebody_elses_port_is_an_error_and_no_overwrite(nic: Nic) -> None:
    node, vf = nic.node, nic.vf
    node.openvswitch.vsctl("add-port", node.bridge, vf.representor)
    before, state = node.openvswitch.row("Port", vf.representor), nic.state()
    pod = pod_of(nic, mtu=1300)
    assert vf.representor in pod.add().error(102)["msg"]
    pod.delete().silent()
    assert node.openvswitch.row("Port", vf.representor) == before
    assert nic.state() == state
    node.openvswitch.vsctl("del-port", vf.representor)
    nic.assert_as_before()


@pytest.mark.one_target
def test_a_representor_within_a_bond_of_open_vswitch_is_an_error_and_no_overwrite(nic: Nic) -> None:
    """Found out by the database, when the rows are sent."""
    node, vf = nic.node, nic.vf
    node.openvswitch.vsctl("add-bond", node.bridge, "bond9", vf.representor, nic.uplink)
    state = nic.state()
    pod = pod_of(nic, mtu=1300, ipam=node.host_local())
    assert vf.representor in pod.add().error(102)["msg"]
    assert nic.state() == state
    node.openvswitch.vsctl("del-port", "bond9")
    node.assert_nothing_left()


@pytest.mark.one_target
def test_an_interface_name_that_the_container_has_is_an_error_and_stays(nic: Nic) -> None:
    pod = pod_of(nic)
    pod.sandbox.ip("tuntap", "add", "net1", "mode", "tap")
    before = pod.sandbox.link("net1")
    pod.add().error(102)
    pod.delete().silent()
    assert pod.sandbox.link("net1") == before
    assert "rep" in str(nic.state())
    pod.sandbox.ip("link", "delete", "net1")
    nic.assert_as_before()


@pytest.mark.one_target
def test_add_again_of_what_is_attached_is_refused_and_harms_nothing(nic: Nic) -> None:
    pod = attached(nic, ipam=nic.node.host_local())
    pod_again = pod.run("ADD")
    pod_again.error(102)
    pod.check().silent()
    other = pod_of(nic)
    assert nic.vf.representor in other.add().error(102, 11)["msg"]
    other.delete().silent()
    pod.check().silent()
    pod.delete().silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_of_two_adds_for_one_vf_at_once_one_wins_and_nothing_is_damaged(nic: Nic) -> None:
    for _ in range(5):
        pods = [pod_of(nic, ipam=nic.node.host_local(), mtu=1400) for _ in range(3)]
        outcomes = [running.wait() for running in [pod.start("ADD") for pod in pods]]
        [winner] = [pod for pod, outcome in zip(pods, outcomes, strict=True) if outcome.exit_code == 0]
        for pod, outcome in zip(pods, outcomes, strict=True):
            if pod is winner:
                pod.result = outcome.result
            else:
                # 7: it has looked before the other one took the interface, which sysfs here does not know.
                outcome.error(102, 11, 7)
                pod.delete().silent()
        winner.check().silent()
        winner.delete().silent()
        nic.assert_as_before()


@pytest.mark.one_target
def test_a_container_that_gets_a_new_namespace_gets_its_vf_again(nic: Nic) -> None:
    """Nobody has called DEL."""
    pod = attached(nic, mtu=1400, runtimeConfig=MAC)
    before = pod.sandbox
    again = nic.node.attachment(container_id=pod.container_id, deviceID=nic.vf.address)
    again.add().ok()
    assert set(before.links()) == before.initial_devices
    assert again.container_interface["mac"] == nic.vf.mac and again.container_interface["mtu"] == 1500
    again.check().silent()
    again.delete().silent()
    nic.assert_as_before()


# Giving it back


@pytest.mark.one_target
def test_a_vf_that_the_kernel_has_given_back_under_another_name_is_what_it_was_after_del(nic: Nic) -> None:
    """The kernel gives back what a namespace had that is gone; here that is done by hand before."""
    vf = nic.vf
    pod = attached(nic, mtu=1400, cni_args="MAC=02:00:00:00:00:0a")
    pod.sandbox.ip("link", "set", "net1", "down", "name", "dev7")
    pod.sandbox.ip("link", "set", "dev7", "netns", nic.host.name)
    nic.sysfs.rename(vf.name, "dev7")
    pod.sandbox.delete()
    running = pod.start("DEL")
    assert running.ends_within(10)
    running.wait().silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_del_waits_for_a_vf_that_comes_back_from_a_namespace_that_is_being_deleted(nic: Nic) -> None:
    vf = nic.vf
    pod = attached(nic, mtu=1400)
    nowhere = nic.node.sandbox()
    pod.sandbox.ip("link", "set", "net1", "netns", nowhere.name)
    pod.sandbox.delete()
    running = pod.start("DEL")
    assert not running.ends_within(0.5)
    nowhere.ip("link", "set", "net1", "name", vf.name)
    nowhere.ip("link", "set", vf.name, "netns", nic.host.name)
    outcome = running.wait().silent()
    assert outcome.seconds < 2.5
    nic.assert_as_before()


@pytest.mark.one_target
def test_a_vf_that_has_gone_altogether_keeps_del_waiting_for_no_longer_than_it_may(nic: Nic) -> None:
    """The kernel removes a veth with its namespace, and the tree still tells of the VF."""
    pod = attached(nic, ipam=nic.node.host_local())
    pod.sandbox.delete()
    wait_for("the kernel has removed it", lambda: nic.vf.representor not in nic.host.links())
    outcome = pod.delete().silent()
    assert outcome.seconds < 4
    assert "is not there any more" in outcome.stderr
    nic.make(nic.vf)
    nic.assert_as_before()


@pytest.mark.one_target
def test_a_vf_that_was_unplugged_is_no_reason_for_del_to_fail_or_wait(nic: Nic) -> None:
    pod = attached(nic)
    pod.sandbox.delete()
    (nic.sysfs.root / "bus/pci/devices" / nic.vf.address).unlink()
    assert pod.delete().silent().seconds < 1
    wait_for("the kernel has removed it", lambda: nic.vf.representor not in nic.host.links())
    nic.make(nic.vf)
    nic.assert_as_before()


@pytest.mark.one_target
def test_an_interface_that_the_container_has_put_in_its_place_is_not_taken(nic: Nic) -> None:
    pod = attached(nic)
    pod.sandbox.ip("link", "set", "net1", "down", "name", "hidden")
    pod.sandbox.ip("tuntap", "add", "net1", "mode", "tap")
    assert "is not there any more" in pod.delete().silent().stderr
    assert pod.sandbox.link("net1").kind == "tun"
    assert "net1" not in nic.host.links()


@pytest.mark.one_target
def test_a_name_that_is_taken_on_the_host_meanwhile_does_not_keep_the_vf_from_coming_back(nic: Nic) -> None:
    pod = attached(nic)
    nic.host.ip("tuntap", "add", nic.vf.name, "mode", "tap")
    before = set(nic.host.links())
    outcome = pod.delete().silent()
    assert "is taken" in outcome.stderr
    [name] = set(nic.host.links()) - before
    assert nic.host.link(name).mac == nic.vf.mac
    assert set(pod.sandbox.links()) == pod.sandbox.initial_devices
    nic.host.ip("link", "delete", nic.vf.name)
    nic.host.ip("link", "set", name, "name", nic.vf.name)
    nic.assert_as_before()


@pytest.mark.one_target
def test_the_name_of_the_containers_interface_may_be_one_that_the_host_has(nic: Nic) -> None:
    nic.host.ip("tuntap", "add", "eth0", "mode", "tap")
    nic.node.device("eth0")
    before = nic.host.link("eth0")
    pod = attached(nic, ifname="eth0")
    pod.check().silent()
    pod.delete().silent()
    assert nic.host.link("eth0") == before
    nic.host.ip("link", "delete", "eth0")
    nic.assert_as_before()


@pytest.mark.one_target
@pytest.mark.parametrize("netns", [None, ""])
def test_del_needs_no_namespace_of_the_runtime_and_no_correct_configuration(nic: Nic, netns: str | None) -> None:
    pod = attached(nic, mtu=1400)
    pod.result = None
    pod.config |= {"deviceID": "nonsense", "bridge": 5, "mtu": "x"}
    pod.delete(CNI_NETNS=netns).silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_gc_gives_back_the_vfs_of_containers_that_are_unknown_and_keeps_the_others(nic: Nic) -> None:
    gone, kept = (attached(nic, vf, ipam=nic.node.host_local(), mtu=1400) for vf in nic.vfs)
    valid = [{"containerID": kept.container_id, "ifname": kept.ifname}]
    kept.gc(**{"cni.dev/valid-attachments": valid}).silent()
    assert set(gone.sandbox.links()) == gone.sandbox.initial_devices
    kept.check().silent()
    assert nic.node.openvswitch.port_names(nic.node.bridge) == [nic.vfs[1].representor]
    kept.gc(**{"cni.dev/valid-attachments": []}).silent()
    nic.assert_as_before()


@pytest.mark.one_target
def test_an_address_that_could_not_be_returned_is_returned_by_gc(nic: Nic) -> None:
    ipam = nic.node.scripted_ipam(ADD=ScriptedIpam.answer("10.77.0.2/24"), DEL="exit 1")
    pod = pod_of(nic, cniVersion="1.1.0", ipam=ipam.config, cni_path=str(ipam.folder))
    pod.add().ok()
    pod.delete().error()
    nic.node.assert_nothing_left(unreturned=1)
    ipam.act(DEL="")
    pod.gc(**{"cni.dev/valid-attachments": []})
    assert ipam.calls.count("DEL") == 2
    nic.assert_as_before()


@pytest.mark.one_target
def test_records_that_make_no_sense_do_not_keep_del_from_removing_the_port(nic: Nic) -> None:
    for key, value in [
        ("contVfName", "../x"),
        ("contDeviceID", "../../x"),
        ("contVfMac", "nonsense"),
        ("contVfMtu", "-1"),
        ("contRepresentorMtu", "9" * 50),
        ("contNetns", "/nonexistent"),
    ]:
        pod = attached(nic)
        nic.node.openvswitch.vsctl("set", "Port", nic.vf.representor, f'external_ids:{key}="{value}"')
        pod.delete().silent()
        assert nic.node.openvswitch.port_names(nic.node.bridge) == []
        if "net1" in pod.sandbox.links():
            pod.sandbox.ip("link", "set", "net1", "down", "name", nic.vf.name)
            pod.sandbox.ip("link", "set", nic.vf.name, "netns", nic.host.name)
        nic.host.ip("link", "set", nic.vf.representor, "down")
        nic.assert_as_before()


# Failures and kills


@pytest.mark.one_target
@pytest.mark.parametrize("reason", ["route", "ipam", "sigterm"])
def test_an_add_that_fails_late_gives_everything_back(nic: Nic, reason: str) -> None:
    if reason == "route":
        ipam = {**nic.node.host_local(), "routes": [{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}]}
        pod = pod_of(nic, ipam=ipam, mtu=1400, runtimeConfig=MAC)
        pod.add().error(103)
    else:
        scripted = nic.node.scripted_ipam(ADD="exit 1" if reason == "ipam" else "sleep 300")
        options: dict[str, Any] = {"ipam": scripted.config, "cni_path": str(scripted.folder), "cniVersion": "1.0.0"}
        pod = pod_of(nic, mtu=1400, cni_args="MAC=02:00:00:00:00:0a", **options)
        running = pod.start("ADD")
        if reason == "sigterm":
            wait_for("the VF is in the container", lambda: "net1" in pod.sandbox.links())
            running.signal(signal.SIGTERM)
        running.wait().error()
    nic.assert_as_before()


@pytest.mark.one_target
def test_a_bridge_that_is_removed_meanwhile_leaves_nothing_but_perhaps_the_vf_in_its_container(nic: Nic) -> None:
    scripted = nic.node.scripted_ipam()
    pod = pod_of(nic, ipam=scripted.config, cni_path=str(scripted.folder), cniVersion="1.0.0", timeout=5)
    database, bridge = nic.node.openvswitch.remote, nic.node.bridge
    scripted.act(ADD=f"ovs-vsctl --db={database} del-br {bridge} >&2\n{ScriptedIpam.answer('10.77.0.2/24')}")
    if pod.add().exit_code == 0:
        pod.delete().silent()
        # Its rows went with the bridge, so nobody knows of the VF; the container has it until it is gone.
        assert pod.ifname in pod.sandbox.links()
        assert nic.node.ports() == []
        return
    nic.assert_as_before()


@pytest.mark.one_target
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["ADD", "DEL", "GC", "ADD that undoes"])
def test_killed_at_any_call_del_gives_everything_back(
    nic: Nic, command: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = [{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}] if "undoes" in command else []
    ipam = {**nic.node.host_local(), "routes": routes}
    verb = command.partition(" ")[0]
    sandbox = nic.node.sandbox()

    def prepare() -> Attachment:
        pod = pod_of(nic, sandbox=sandbox, ipam=ipam, mtu=1400, runtimeConfig=MAC, timeout=5)
        if verb != "ADD":
            pod.add().ok()
        pod.config["cni.dev/valid-attachments"] = []
        return pod

    pod = prepare()
    outcome, calls = interference.record(pod, verb)
    assert outcome.exit_code == (1 if routes else 0), outcome
    pod.delete().silent()
    nic.assert_as_before()
    first = next(index for index, call in enumerate(calls) if call.line.startswith("read(0,"))
    points = interference.around_visible(calls[first:])
    tries = points if request.config.getoption("--whole") else points[:: max(1, len(points) // SOME)]
    died = 0
    for point in tries:
        pod = prepare()
        died += interference.killed(pod, verb, point, outcome.exit_code)
        pod.delete().silent()
        if verb == "GC":
            pod.gc().silent()
        try:
            nic.assert_as_before()
        except AssertionError as error:
            raise AssertionError(f"killed at {point}: {error}") from error
    with capsys.disabled():
        print(f"\n{command} of a VF killed: {died} of {len(tries)} tries at {len(points)} points")  # noqa: T201
    assert died >= len(tries) / 2


@pytest.mark.one_target
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_an_add_or_del_in_which_any_call_fails_leaves_nothing(
    nic: Nic, command: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox = nic.node.sandbox()

    def prepare() -> Attachment:
        pod = pod_of(nic, sandbox=sandbox, mtu=1400, runtimeConfig=MAC, timeout=5)
        if command == "DEL":
            pod.add().ok()
        return pod

    pod = prepare()
    _, calls = interference.record(pod, command)
    pod.delete().silent()
    first = next(index for index, call in enumerate(calls) if call.line.startswith("read(0,"))
    # What is asked by ioctl, whether a file is a namespace, has nothing that it could be short of.
    points = [call for call in calls[first:] if call.visible and call.name != "ioctl"]
    tries = points if request.config.getoption("--whole") else points[:: max(1, len(points) // SOME)]
    succeeded = 0
    for point, reason in zip(tries, cycle(("ENOMEM", "EINTR", "ENOBUFS")), strict=False):
        pod = prepare()
        outcome, _ = interference.failing(pod, command, point, reason)
        succeeded += outcome.exit_code == 0
        if command == "DEL" or outcome.exit_code == 0:
            pod.delete().silent()  # a runtime tries again
        try:
            nic.assert_as_before()
        except AssertionError as error:
            raise AssertionError(f"{reason} in {point}: {outcome}: {error}") from error
    with capsys.disabled():
        print(f"\n{command} of a VF: {succeeded} of {len(tries)} tries succeeded, of {len(points)} calls")  # noqa: T201


@pytest.mark.one_target
def test_the_file_of_a_device_plugin_is_left_as_it_is(nic: Nic) -> None:
    file = nic.node.folder / "device.json"
    written = json.dumps({"type": "pci", "version": "1.1.0", "pci": {"pci-address": nic.vf.address}})
    file.write_text(written)
    pod = attached(nic, runtimeConfig={"CNIDeviceInfoFile": str(file)})
    pod.delete().silent()
    assert file.read_text() == written
    file.unlink()
    pod = attached(nic, runtimeConfig={"CNIDeviceInfoFile": str(file)})
    pod.delete().silent()
    assert not file.exists()
    nic.assert_as_before()
