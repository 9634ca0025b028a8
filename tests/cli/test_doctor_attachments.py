"""`cni-ovs doctor`: faults of ports, devices, uplinks and addresses, made for real, and mended by what it says."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_ovs.plugin.attachment import identity, port_name
from tests.runtime.machine import PrivateMounts
from tests.support.doctor import Doctor
from tests.support.ipam import ScriptedIpam, static
from tests.support.namespace import Namespace
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target


@pytest.fixture
def mounts() -> Iterator[PrivateMounts]:
    made = PrivateMounts("/var/lib")
    yield made
    made.close()


def sleeping(sandbox: Namespace) -> subprocess.Popen[str]:
    """A process in a container."""
    process = sandbox.start("sleep", "60")
    wait_for("it is in there", lambda: process.pid in sandbox.processes())
    return process


# Ports and devices


def test_a_port_whose_container_is_gone_is_found_and_removed(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    doctor.node.attached()
    doctor.node.vanish(pod)
    finding = doctor.finds("port_stale", code=3)
    assert pod.netns in finding["message"] and finding["command"] == "cni-ovs gc"
    doctor.type_in(finding)
    doctor.is_silent()


@pytest.mark.userspace
def test_a_container_whose_namespace_has_lost_its_path_is_not_gone(doctor: Doctor) -> None:
    """It was attached by the number of a process that has ended; another one is there."""
    sandbox = doctor.node.sandbox()
    sleeping(sandbox)
    for kind in ("veth", "internal"):
        process = sleeping(sandbox)
        doctor.cli.run("attach", str(process.pid), f"{kind[:4]}0", doctor.node.bridge, "--type", kind)
        process.kill()
        process.wait()
    doctor.is_silent()
    assert doctor.cli.run("gc").stdout.count("kept port") == 2


@pytest.mark.userspace
@pytest.mark.parametrize("kind", ["internal", "tap"])
def test_an_interface_that_died_with_ovs_vswitchd_is_found(private_doctor: Doctor, kind: str) -> None:
    node = private_doctor.node
    pod = node.attached(interface_type=kind)
    node.attached()
    node.openvswitch.ovs_vswitchd.stop()
    node.openvswitch.start_ovs_vswitchd()
    for words in ((), (pod.netns,)):
        finding = private_doctor.finds("device_dead", *words, code=4)
        assert finding["command"] == f"cni-ovs reattach {pod.sandbox.name} net1"
    private_doctor.type_in(finding)
    private_doctor.is_silent()


def test_an_interface_that_was_deleted_is_found(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    pod.sandbox.ip("link", "delete", "net1")
    finding = doctor.finds("device_lost", code=4)
    assert finding["command"] == f"cni-ovs reattach {pod.sandbox.name} net1"
    doctor.type_in(finding)
    doctor.is_silent()


def test_an_interface_that_is_down_is_found_and_set_up(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    pod.sandbox.ip("link", "set", "net1", "down")
    doctor.type_in(doctor.finds("device_down", code=4))
    doctor.is_silent()


def test_the_end_on_the_host_that_is_down_is_found_and_set_up(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    doctor.node.host.ip("link", "set", doctor.node.port(pod)["name"], "down")
    doctor.type_in(doctor.finds("host_end_down", code=4))
    doctor.is_silent()


def test_a_port_that_ovs_vswitchd_has_refused_is_found(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    name = doctor.node.port(pod)["name"]
    doctor.node.openvswitch.vsctl("set", "interface", name, "type=nonsense", check=False)
    finding = doctor.finds("port_refused", code=4)
    assert name in finding["message"]
    assert finding["command"] == f"cni-ovs reattach {pod.sandbox.name} net1 --force"
    doctor.node.openvswitch.vsctl("set", "interface", name, 'type=""')
    doctor.is_silent()


def test_a_container_whose_port_was_removed_is_found_and_what_is_left_of_it_removed(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    doctor.node.openvswitch.vsctl("del-port", doctor.node.port(pod)["name"])
    finding = doctor.finds("orphan", code=4)
    assert finding["message"].startswith(f"net1 in {pod.sandbox.name} leads nowhere")
    doctor.type_in(finding)
    doctor.is_silent()
    pod.add().ok()
    doctor.is_silent()


def test_a_device_like_ours_whose_container_cannot_be_found_is_found_and_removed(doctor: Doctor) -> None:
    doctor.node.host.ip("link", "add", "cni0123456789ab", "type", "veth", "peer", "name", "elsewhere")
    finding = doctor.finds("orphan_on_host", code=3)
    doctor.node.host.ip("link", "add", "other", "type", "bridge")
    doctor.node.host.ip("link", "set", "cni0123456789ab", "master", "other")
    doctor.is_silent()  # as it is with the kernel's datapath of another Open vSwitch
    doctor.node.host.ip("link", "delete", "other")
    doctor.type_in(finding)
    doctor.is_silent()


def test_a_device_like_ours_that_another_open_vswitch_has_is_left_alone(doctor: Doctor) -> None:
    """With the userspace datapath: it listens there."""
    name, host = "cni0123456789ab", doctor.node.host
    host.ip("link", "add", name, "up", "type", "veth", "peer", "name", "elsewhere")
    listens = (
        "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 3)); input()"
    )
    process = host.start(sys.executable, "-c", listens, name, stdin=subprocess.PIPE)
    doctor.node.helper(process.pid)
    index = str(host.link(name).index)
    wait_for("it listens", lambda: index in host.run("cat", "/proc/net/packet").stdout.split())
    doctor.is_silent()
    process.communicate("\n")
    doctor.finds("orphan_on_host", code=3)


def test_an_interface_that_has_another_name_now_is_no_fault_and_is_looked_at_all_the_same(doctor: Doctor) -> None:
    """Also if another one has its name."""
    sandbox = doctor.node.attached().sandbox
    sandbox.ip("link", "set", "net1", "down")
    sandbox.ip("link", "set", "net1", "name", "net7")
    sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "other")
    finding = doctor.finds("device_down", code=4)
    assert finding["message"].startswith("net7 in ")
    doctor.type_in(finding)
    doctor.is_silent()


def test_what_is_at_the_path_of_another_container_now_is_left_alone(doctor: Doctor) -> None:
    """As when a container was attached by the number of a process, which another process has now."""
    pod, stranger = doctor.node.attached(), doctor.node.sandbox()
    stranger.ip("link", "add", "net1", "mtu", "9000", "type", "veth", "peer", "name", "other")
    name = doctor.node.port(pod)["name"]
    doctor.node.openvswitch.vsctl("set", "port", name, f"external_ids:contNetns={stranger.path}")
    doctor.is_silent()


@pytest.mark.userspace
def test_a_dead_tap_whose_port_was_removed_is_found_and_removed(private_doctor: Doctor) -> None:
    node = private_doctor.node
    pod = node.attached(interface_type="internal")
    node.openvswitch.ovs_vswitchd.stop()
    node.openvswitch.vsctl("--no-wait", "del-port", node.port(pod)["name"])
    node.openvswitch.start_ovs_vswitchd()
    private_doctor.type_in(private_doctor.finds("orphan_tap", code=4))
    private_doctor.is_silent()


@pytest.mark.userspace
def test_offload_that_was_switched_on_again_is_found_and_switched_off(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    pod.sandbox.run("ethtool", "-K", "net1", "tx", "on")
    finding = doctor.finds("offload_on", code=4)
    assert finding["command"] == f"nsenter --net={pod.netns} ethtool -K net1 tx off"
    doctor.type_in(finding)
    doctor.is_silent()


def test_rules_against_forged_addresses_that_are_gone_are_found(private_doctor: Doctor) -> None:
    node = private_doctor.node
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(macspoofchk=True)))
    before = node.openvswitch.flows(node.bridge)
    private_doctor.cli.run("attach", sandbox.name, "net1", "--from", str(path))
    rules = node.openvswitch.flows(node.bridge) - before
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.start_ovs_vswitchd()
    finding = private_doctor.finds("rules_gone", code=4)
    assert finding["command"] == f"cni-ovs reattach {sandbox.name} net1 --force"
    private_doctor.type_in(finding)
    private_doctor.is_silent()
    assert node.openvswitch.flows(node.bridge) - before == rules > 0


# The way out


def test_a_bridge_without_uplink_is_a_note_and_no_fault(doctor: Doctor) -> None:
    node = doctor.node
    node.openvswitch.vsctl("del-port", doctor.uplink)
    pod = node.attached()
    assert doctor.finds("no_uplink", code=0)["level"] == "note"
    done = doctor.cli.run(*doctor.words())
    assert done.stdout.startswith("healthy: ") and "1 note" in done.stdout and done.stdout.count("\n") == 1
    assert "has no uplink" in doctor.cli.run(*doctor.words("--verbose")).stdout
    assert "has no uplink" in doctor.cli.run(*doctor.words(pod.netns)).stdout


def test_an_uplink_that_is_down_is_found_and_set_up(doctor: Doctor) -> None:
    doctor.node.attached()
    doctor.node.host.ip("link", "set", doctor.uplink, "down")
    finding = doctor.finds("uplink_down", code=4)
    assert finding["command"] == f"ip link set {doctor.uplink} up"
    doctor.type_in(finding)
    doctor.is_silent()


def test_an_uplink_without_carrier_is_found_also_behind_a_patch_port(doctor: Doctor) -> None:
    node = doctor.node
    other = node.add_bridge()
    for bridge, name, peer in ((node.bridge, "here", "there"), (other, "there", "here")):
        port, mate = f"{name}{other[2:]}", f"{peer}{other[2:]}"
        options = ["--", "set", "interface", port, "type=patch", f"options:peer={mate}"]
        node.openvswitch.vsctl("add-port", bridge, port, *options)
    node.openvswitch.vsctl("del-port", doctor.uplink, "--", "add-port", other, doctor.uplink)
    node.attached()
    doctor.is_silent()
    node.host.ip("link", "set", doctor.other_end, "down")
    finding = doctor.finds("uplink_no_carrier", code=4)
    assert other in finding["message"] and doctor.uplink in finding["message"]
    node.host.ip("link", "set", doctor.other_end, "up")
    doctor.is_silent()


def test_a_bond_of_which_a_part_is_down_is_found(doctor: Doctor) -> None:
    node = doctor.node
    node.openvswitch.vsctl("del-port", doctor.uplink)
    node.openvswitch.vsctl("add-bond", node.bridge, f"bond{doctor.uplink}", doctor.uplink, doctor.other_end)
    node.attached()
    node.host.ip("link", "add", "spare0", "up", "type", "veth", "peer", "name", "spare1")
    node.host.ip("link", "set", "spare1", "up")
    for name in ("spare0", "spare1"):
        node.device(name)
    doctor.is_silent()
    node.openvswitch.vsctl("add-bond-iface", f"bond{doctor.uplink}", "spare0")
    node.host.ip("link", "set", "spare0", "down")
    assert "works without spare0" in doctor.finds("bond_degraded", code=3)["message"]


def test_what_others_have_attached_is_no_uplink_and_is_told_when_it_is_gone(doctor: Doctor) -> None:
    """As ovs-docker, and programs that attach virtual machines, do it; the container is stopped, and then removed."""
    node = doctor.node
    node.attached()
    for ids in (("container_id=abc", "container_iface=eth1"), ("iface-id=vm-7",)):
        other, name = node.sandbox(), f"fo{secrets.token_hex(3)}"
        node.device(name)
        node.host.ip("link", "add", name, "up", "type", "veth", "peer", "name", "eth1", "netns", other.name)
        told = [f"external_ids:{pair}" for pair in ids]
        node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "interface", name, *told)
        doctor.is_silent()
        other.delete()
        node.wait_until_noticed(name)
        finding = doctor.finds("other_port_refused", code=3)
        assert f"port {name} of bridge {node.bridge}: its interface is gone" in finding["message"]
        doctor.type_in(finding)
        doctor.is_silent()


def test_one_of_several_uplinks_that_is_down_is_no_fault(doctor: Doctor) -> None:
    node = doctor.node
    node.attached()
    node.openvswitch.vsctl("add-port", node.bridge, doctor.other_end)
    spare = f"sp{secrets.token_hex(3)}"
    node.device(spare)
    node.host.ip("link", "add", spare, "type", "veth", "peer", "name", f"{spare}p")
    node.openvswitch.vsctl("add-port", node.bridge, spare)
    assert f"{spare}, one of several" in doctor.finds("uplink_one_of_several", code=3)["message"]


def test_an_uplink_that_is_not_there_is_found_and_removed(doctor: Doctor) -> None:
    node = doctor.node
    node.attached()
    node.openvswitch.vsctl("add-port", node.bridge, "nosuch0", check=False)
    finding = doctor.finds("other_port_refused", code=3)
    assert "No such device" in finding["message"]
    node.openvswitch.vsctl("del-port", doctor.uplink)
    finding = doctor.finds("uplink_refused", code=4)
    doctor.type_in(finding)
    assert "nosuch0" not in node.openvswitch.port_names(node.bridge)


def test_an_mtu_that_the_uplink_does_not_pass_is_found_and_made_smaller(doctor: Doctor) -> None:
    pod = doctor.node.attached(mtu=9000)
    finding = doctor.finds("mtu_too_large", code=3)
    assert "9000" in finding["message"] and "1500" in finding["message"]
    doctor.type_in(finding)
    assert pod.sandbox.link("net1").mtu == 1500
    doctor.is_silent()


@pytest.mark.userspace
@pytest.mark.parametrize(("kind", "largest"), [("vxlan", 1450), ("geneve", 1442)])
def test_an_mtu_that_a_tunnel_does_not_leave_is_found_and_made_smaller(doctor: Doctor, kind: str, largest: int) -> None:
    node = doctor.node
    node.host.ip("address", "add", "192.0.2.1/24", "dev", doctor.other_end)
    options = ["--", "set", "interface", f"tun-{kind}", f"type={kind}", "options:remote_ip=192.0.2.2"]
    node.openvswitch.vsctl("del-port", doctor.uplink, "--", "add-port", node.bridge, f"tun-{kind}", *options)
    pod = node.attached()
    doctor.type_in(doctor.finds("mtu_too_large", code=3))
    assert pod.sandbox.link("net1").mtu == largest
    doctor.is_silent()


@pytest.mark.userspace
def test_an_mtu_that_an_internal_port_does_not_carry_is_found_and_made_smaller(doctor: Doctor) -> None:
    doctor.node.attached(interface_type="internal", mtu=9000)
    doctor.type_in(doctor.finds("mtu_userspace", code=3))
    doctor.is_silent()


def test_a_vlan_that_the_uplink_does_not_carry_is_found_and_added(doctor: Doctor) -> None:
    vsctl = doctor.node.openvswitch.vsctl
    vsctl("set", "port", doctor.uplink, "trunks=1,2")
    doctor.node.attached(vlan=2)
    doctor.is_silent()
    doctor.node.attached(trunk=[{"id": 2}, {"id": 7}, {"id": 9}])
    finding = doctor.finds("vlan_not_carried", code=3)
    assert "VLAN 7, 9 of net1" in finding["message"]
    doctor.type_in(finding)
    assert doctor.node.openvswitch.row("Port", doctor.uplink)["trunks"] == [1, 2, 7, 9]
    doctor.is_silent()


def test_an_attachment_without_vlan_is_found_where_the_uplink_has_one(doctor: Doctor) -> None:
    doctor.node.openvswitch.vsctl("set", "port", doctor.uplink, "tag=5")
    doctor.node.attached()
    finding = doctor.finds("vlan_of_access_uplink", code=3)
    assert "VLAN 0 (untagged)" in finding["message"] and "which has VLAN 5" in finding["message"]


# Addresses


def test_an_address_that_nobody_has_is_found_and_returned(doctor: Doctor) -> None:
    node = doctor.node
    pod = node.attached(ipam=node.host_local())
    kept = node.attached(ipam=node.host_local())
    node.openvswitch.vsctl("del-port", node.port(pod)["name"])
    pod.sandbox.delete()
    wait_for("the devices are gone", lambda: "cni" not in "".join(set(node.host.links()) - {node.port(kept)["name"]}))
    doctor.is_silent()  # it is younger than a minute
    path = node.address_files / node.network / pod.addresses[0]
    then = time.time() - 100
    for address in (*pod.addresses, *kept.addresses):
        os.utime(node.address_files / node.network / address, (then, then))
    finding = doctor.finds("address_held_by_nobody", code=3)
    assert finding["command"] == f"rm {path}"
    doctor.type_in(finding)
    assert node.addresses_given_out() == kept.addresses
    doctor.is_silent()


def test_an_address_of_a_container_that_another_plugin_has_attached_is_left_alone(
    doctor: Doctor, mounts: PrivateMounts
) -> None:
    """The network was one of the plugin `bridge` before, say, and some containers are older than that."""
    node = doctor.node
    path = node.address_files / node.network / "10.10.0.9"
    path.parent.mkdir(parents=True)
    path.write_text("0123abc\r\neth0")
    os.utime(path, (1, 1))
    doctor.among(mounts)
    doctor.finds("address_held_by_nobody", code=3)
    cached = mounts.path("/var/lib/cni/results")
    cached.mkdir(parents=True, exist_ok=True)
    sandbox = node.sandbox()
    for known in (
        {"netns": sandbox.path, "result": {"cniVersion": "1.0.0"}},
        {"result": {"interfaces": [{"name": "eth0", "sandbox": sandbox.path}]}},
    ):
        (cached / f"{node.network}-0123abc-eth0").write_text(json.dumps(known))
        doctor.is_silent()
    sandbox.delete()
    doctor.finds("address_held_by_nobody", code=3)


def test_a_network_of_another_open_vswitch_is_not_looked_for_in_this_one(doctor: Doctor, tmp_path: Path) -> None:
    """Its bridge is to be made there, and its addresses are held by containers that are attached there."""
    path = doctor.node.address_files / "other" / "10.10.0.9"
    path.parent.mkdir(parents=True)
    path.write_text("0123abc\r\neth0")
    os.utime(path, (1, 1))
    flat, socket = tmp_path / "flat.conf", f"unix:{tmp_path}/db.sock"
    flat.write_text(json.dumps({"socket_file": socket, "bridge": "elsewhere"}))
    keys: dict[str, Any] = {"network": "other", "ipam": doctor.node.host_local()}
    doctor.configure("20-other.conflist", bridge="elsewhere", socket_file=socket, **keys)
    doctor.is_silent()
    doctor.configure("20-other.conflist", bridge=None, socket_file=None, configuration_path=str(flat), **keys)
    doctor.is_silent()
    flat.write_text(json.dumps({"socket_file": doctor.node.openvswitch.remote, "bridge": "elsewhere"}))
    found = {finding["problem"] for finding in doctor.examines()["findings"] if finding["level"] != "note"}
    assert found == {"bridge_missing", "address_held_by_nobody"}


def test_what_is_just_being_attached_or_removed_is_no_fault(doctor: Doctor, tmp_path: Path) -> None:
    """An IPAM plugin is slow both times."""
    node = doctor.node
    signs = {command: tmp_path / f"go-on-with-{command}" for command in ("ADD", "DEL")}
    waiting = {command: f"while [ ! -e '{sign}' ]; do sleep 0.02; done" for command, sign in signs.items()}
    scripted = node.scripted_ipam(ADD=f"{waiting['ADD']}; {ScriptedIpam.answer('10.77.0.2/24')}", DEL=waiting["DEL"])
    pod = node.attachment(ipam=scripted.config, cni_path=str(scripted.folder))
    running = pod.start("ADD")
    wait_for("IPAM is called", lambda: "ADD" in scripted.calls)
    path = node.address_files / node.network / "10.10.0.9"
    path.parent.mkdir(parents=True)
    path.write_text(f"{pod.container_id}\r\n{pod.ifname}")
    os.utime(path, (1, 1))
    doctor.is_silent()
    path.unlink()
    signs["ADD"].touch()
    assert running.wait().exit_code == 0
    running = pod.start("DEL")
    wait_for("IPAM is called", lambda: "DEL" in scripted.calls)
    assert node.leftovers(unreturned=1)
    doctor.is_silent()
    signs["DEL"].touch()
    assert running.wait().exit_code == 0


def test_beside_containers_that_come_and_go_it_finds_nothing(doctor: Doctor) -> None:
    node = doctor.node
    kinds: list[dict[str, Any]] = [{}, {"interface_type": "internal"}, {"macspoofchk": True}, {"vlan": 5}]
    pods = [node.attachment(ipam=node.host_local(), **keys) for keys in kinds]
    is_done = threading.Event()

    def come_and_go() -> None:
        while not is_done.is_set():
            for pod in pods:
                pod.add().ok()
                pod.delete().silent()

    cycles = threading.Thread(target=come_and_go)
    cycles.start()
    try:
        for _ in range(5):
            assert doctor.examines()["findings"] == []
    finally:
        is_done.set()
        cycles.join()


def test_a_removal_that_is_unfinished_is_found(doctor: Doctor) -> None:
    node = doctor.node
    pod = node.attachment()
    name = port_name(node.network, pod.container_id, pod.ifname)
    note = {**identity(node.network, pod.container_id, pod.ifname), "contNetns": pod.netns}
    mutation = ["external_ids", "insert", ["map", [[f"cni-ovs-detaching-{name}", json.dumps(note)]]]]
    this = [["name", "==", node.bridge]]
    node.openvswitch.transact({"op": "mutate", "table": "Bridge", "where": this, "mutations": [mutation]})
    finding = doctor.finds("removal_unfinished", code=3)
    assert pod.container_id[:12] in finding["message"] and finding["command"] == "cni-ovs gc"
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    doctor.is_silent()


# One container


def test_a_container_that_is_not_attached_is_told(doctor: Doctor) -> None:
    doctor.node.attached()
    sandbox = doctor.node.sandbox()
    finding = doctor.finds("not_attached", sandbox.name, code=4)
    assert sandbox.name in finding["message"]


def test_of_one_container_only_what_matters_to_it_is_told(doctor: Doctor) -> None:
    node = doctor.node
    pods = [node.attached(ipam=static(f"10.1.0.{number}/24")) for number in (2, 3)]
    pods[1].sandbox.ip("link", "set", "net1", "down")
    doctor.write("30-broken.conf", "{")
    found = doctor.examines(pods[0].netns)
    assert [finding["problem"] for finding in found["findings"]] == ["no_default_route"]
    assert found["exit_code"] == 0
    doctor.finds("device_down", pods[1].sandbox.name, code=4)
    process = sleeping(pods[1].sandbox)
    doctor.finds("device_down", str(process.pid), code=4)


def test_an_address_that_another_container_has_is_told(doctor: Doctor) -> None:
    node = doctor.node
    pods = [node.attached(ipam=static(f"fd00::{number}/64")) for number in (2, 3)]
    node.wait_for_flows()
    pods[1].sandbox.ip("address", "add", "fd00::2/64", "dev", "net1")
    refused = lambda: [a for a in pods[1].sandbox.addresses("net1") if a.duplicate]  # noqa: E731
    wait_for("the kernel has noticed", refused)
    finding = doctor.finds("address_duplicate", pods[1].netns, code=4)
    assert "fd00::2" in finding["message"]


def test_an_address_that_cannot_be_used_yet_is_told(doctor: Doctor) -> None:
    pod = doctor.node.attached()
    pod.sandbox.sysctl("net/ipv6/conf/net1/dad_transmits", 30)
    pod.sandbox.ip("address", "add", "fd00::2/64", "dev", "net1")
    assert "fd00::2" in doctor.finds("address_tentative", pod.netns, code=3)["message"]


@pytest.mark.parametrize(("own", "gateway"), [("10.1.0.2/24", "10.1.0.1"), ("fd00::2/64", "fd00::1")])
def test_a_gateway_that_does_not_answer_is_told_if_it_may_be_asked(doctor: Doctor, own: str, gateway: str) -> None:
    node = doctor.node
    default = {"dst": "::/0" if ":" in own else "0.0.0.0/0"}
    pod = node.attached(ipam=static(own, gateways=(gateway,), routes=(default,)))
    doctor.is_silent(pod.netns)
    finding = doctor.finds("gateway_silent", pod.netns, "--probe", code=4)
    assert gateway in finding["message"] and node.bridge in finding["remedy"]
    node.attached(ipam=static(f"{gateway}/{own.partition('/')[2]}"))
    doctor.is_silent(pod.netns, "--probe")


def test_each_gateway_of_a_route_with_several_is_asked(doctor: Doctor) -> None:
    pod = doctor.node.attached(ipam=static("10.1.0.2/24"))
    doctor.node.attached(ipam=static("10.1.0.3/24"))
    hops = [word for last in (3, 4) for word in ("nexthop", "via", f"10.1.0.{last}", "dev", "net1")]
    pod.sandbox.ip("route", "add", "default", *hops)
    assert "10.1.0.4" in doctor.finds("gateway_silent", pod.netns, "--probe", code=4)["message"]
    pod.sandbox.ip("route", "replace", "default", "dev", "net1")
    doctor.is_silent(pod.netns, "--probe")
    assert doctor.examines(pod.netns)["findings"] == []


def test_a_gateway_that_did_not_answer_is_told_without_asking_it_again(doctor: Doctor) -> None:
    node = doctor.node
    pod = node.attached(ipam=static("10.1.0.2/24", gateways=("10.1.0.1",), routes=({"dst": "0.0.0.0/0"},)))
    assert not pod.sandbox.pings("10.1.0.1", timeout=4)
    finding = doctor.finds("gateway_was_silent", pod.netns, code=3)
    assert finding["command"] == f"cni-ovs doctor {pod.sandbox.name} --probe"
