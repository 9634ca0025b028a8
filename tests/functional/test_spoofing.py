"""Anti-spoofing: what is forged does not leave the port, and what is true does; shown with frames on the wire."""

from __future__ import annotations

import ipaddress
import shlex
import signal
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.frames import BROADCAST, captured, put_on_the_wire
from tests.support.iperf import mbits
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]
OTHER_MAC = bytes.fromhex("02000000beef")
OTHER_IPV4, OTHER_IPV6 = "10.9.9.9", "fd09::9"
ALL_NODES = "ff02::1"
IPV4, ARP, IPV6, VLAN, SERVICE_VLAN, LLDP = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x88CC
NO_MAC = bytes(6)


def ip(text: str) -> bytes:
    """The bytes of an address."""
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def ethernet(source: bytes, kind: int, payload: bytes, *tags: tuple[int, int], to: bytes = BROADCAST) -> bytes:
    """A frame; `tags` are pairs of protocol and VLAN, from the outside in."""
    head = to + source + b"".join(struct.pack("!HH", protocol, vlan) for protocol, vlan in tags)
    return (head + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp(sender: bytes, address: str, operation: int = 2) -> bytes:
    """An ARP message (RFC 826): `address` is at `sender`."""
    target = ip("10.77.0.200")
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + sender + ip(address) + NO_MAC + target


def ipv4(
    source: str, payload: bytes = b"\0\7\0\7\0\x08\0\0", protocol: int = 17, target: str = "255.255.255.255"
) -> bytes:
    """An IPv4 packet with a UDP datagram, if nothing else is given."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, ip(source), ip(target))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, payload: bytes = b"\0\7\0\7\0\x08\0\0", protocol: int = 17, target: str = ALL_NODES) -> bytes:
    """An IPv6 packet with a UDP datagram, if nothing else is given."""
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ip(source) + ip(target) + payload


def icmpv6(source: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message to all nodes."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = ip(source) + ip(ALL_NODES) + struct.pack("!II", len(message), 58) + message
    return ipv6(source, message[:2] + struct.pack("!H", checksum(pseudo)) + message[4:], 58)


def advertisement(source: str, target: str, *link: bytes) -> bytes:
    """A neighbour advertisement (RFC 4861): `target` is at `link`."""
    return icmpv6(source, 136, struct.pack("!I", 0x20000000) + ip(target) + b"".join(b"\2\1" + mac for mac in link))


def solicitation(source: str, target: str, *link: bytes) -> bytes:
    """A neighbour solicitation from somebody at `link`."""
    return icmpv6(source, 135, bytes(4) + ip(target) + b"".join(b"\1\1" + mac for mac in link))


def hop_by_hop(packet: bytes) -> bytes:
    """The same with a header for options (RFC 8200 section 4.3) and without a length: receivers go by the frame's."""
    return packet[:4] + b"\0\0\0" + packet[7:40] + b"\x3a\0\1\4\0\0\0\0" + packet[40:]


def link_local(mac: bytes) -> str:
    """The address that the kernel makes of a MAC."""
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]))


@dataclass(frozen=True)
class Me:
    """Whose frames they are."""

    mac: bytes
    four: str
    six: str

    @property
    def local(self) -> str:
        """The link-local address."""
        return link_local(self.mac)


# What is forged: name -> the frame, and which of the two keys keeps it back.
FORGED: dict[str, tuple[Callable[[Me], bytes], tuple[str, ...]]] = {
    "Ethernet source": (lambda me: ethernet(OTHER_MAC, IPV4, ipv4(me.four)), ("mac",)),
    "Ethernet source, broadcast": (lambda me: ethernet(BROADCAST, IPV4, ipv4(me.four)), ("mac",)),
    "Ethernet source, tagged": (lambda me: ethernet(OTHER_MAC, IPV4, ipv4(me.four), (VLAN, 7)), ("mac",)),
    "ARP sender's MAC": (lambda me: ethernet(me.mac, ARP, arp(OTHER_MAC, me.four)), ("mac",)),
    "ARP request sender's MAC": (lambda me: ethernet(me.mac, ARP, arp(OTHER_MAC, me.four, 1)), ("mac",)),
    "ARP sender's address": (lambda me: ethernet(me.mac, ARP, arp(me.mac, OTHER_IPV4)), ("ip",)),
    "ARP request sender's address": (lambda me: ethernet(me.mac, ARP, arp(me.mac, OTHER_IPV4, 1)), ("ip",)),
    "ARP sender's address, tagged": (lambda me: ethernet(me.mac, ARP, arp(me.mac, OTHER_IPV4), (VLAN, 7)), ("ip",)),
    "IPv4 source": (lambda me: ethernet(me.mac, IPV4, ipv4(OTHER_IPV4)), ("ip",)),
    "IPv4 source, tagged": (lambda me: ethernet(me.mac, IPV4, ipv4(OTHER_IPV4), (VLAN, 7)), ("ip",)),
    "IPv4 source, priority-tagged": (lambda me: ethernet(me.mac, IPV4, ipv4(OTHER_IPV4), (VLAN, 0)), ("ip",)),
    "IPv4 source 0.0.0.0": (lambda me: ethernet(me.mac, IPV4, ipv4("0.0.0.0")), ("ip",)),
    "IPv4 source, two tags": (lambda me: ethernet(me.mac, IPV4, ipv4(OTHER_IPV4), (VLAN, 0), (VLAN, 0)), ("mac", "ip")),
    "ARP in two tags": (lambda me: ethernet(me.mac, ARP, arp(OTHER_MAC, me.four), (VLAN, 0), (VLAN, 0)), ("mac", "ip")),
    "ARP in a service tag": (
        lambda me: ethernet(me.mac, ARP, arp(OTHER_MAC, me.four), (SERVICE_VLAN, 0), (VLAN, 0)),
        ("mac", "ip"),
    ),
    "IPv6 source": (lambda me: ethernet(me.mac, IPV6, ipv6(OTHER_IPV6)), ("ip",)),
    "IPv6 source, link-local": (lambda me: ethernet(me.mac, IPV6, ipv6("fe80::9")), ("ip",)),
    "IPv6 source ::": (lambda me: ethernet(me.mac, IPV6, ipv6("::")), ("ip",)),
    "advertisement's target": (lambda me: ethernet(me.mac, IPV6, advertisement(me.six, OTHER_IPV6, me.mac)), ("ip",)),
    "advertisement's target, from link-local": (
        lambda me: ethernet(me.mac, IPV6, advertisement(me.local, OTHER_IPV6, me.mac)),
        ("ip",),
    ),
    "advertisement's source": (lambda me: ethernet(me.mac, IPV6, advertisement(OTHER_IPV6, me.six, me.mac)), ("ip",)),
    "advertisement's MAC": (lambda me: ethernet(me.mac, IPV6, advertisement(me.six, me.six, OTHER_MAC)), ("mac",)),
    "advertisement with two MACs": (
        lambda me: ethernet(me.mac, IPV6, advertisement(me.six, me.six, me.mac, OTHER_MAC)),
        ("mac", "ip"),
    ),
    "advertisement's target, tagged": (
        lambda me: ethernet(me.mac, IPV6, advertisement(me.six, OTHER_IPV6, me.mac), (VLAN, 7)),
        ("ip",),
    ),
    "solicitation's MAC": (lambda me: ethernet(me.mac, IPV6, solicitation(me.six, OTHER_IPV6, OTHER_MAC)), ("mac",)),
    "solicitation's source": (lambda me: ethernet(me.mac, IPV6, solicitation(OTHER_IPV6, me.six, me.mac)), ("ip",)),
    "solicitation that claims another's address": (
        lambda me: ethernet(me.mac, IPV6, solicitation("::", OTHER_IPV6)),
        ("ip",),
    ),
    "advertisement in a packet without a length": (
        lambda me: ethernet(me.mac, IPV6, hop_by_hop(advertisement(me.six, OTHER_IPV6, OTHER_MAC))),
        ("mac", "ip"),
    ),
    "ARP of IEEE 802": (lambda me: ethernet(me.mac, ARP, b"\0\6" + arp(me.mac, OTHER_IPV4)[2:]), ("mac", "ip")),
    "router advertisement": (lambda me: ethernet(me.mac, IPV6, icmpv6(me.local, 134, bytes(12))), ("ip",)),
    "redirect": (lambda me: ethernet(me.mac, IPV6, icmpv6(me.local, 137, bytes(36))), ("ip",)),
    "neither IP nor ARP": (lambda me: ethernet(me.mac, LLDP, b"x" * 50), ("ip",)),
}
TRUE: dict[str, Callable[[Me], bytes]] = {
    "IPv4": lambda me: ethernet(me.mac, IPV4, ipv4(me.four)),
    "IPv4, tagged": lambda me: ethernet(me.mac, IPV4, ipv4(me.four), (VLAN, 7)),
    "ARP reply": lambda me: ethernet(me.mac, ARP, arp(me.mac, me.four)),
    "ARP request": lambda me: ethernet(me.mac, ARP, arp(me.mac, me.four, 1)),
    "ARP probe": lambda me: ethernet(me.mac, ARP, arp(me.mac, "0.0.0.0", 1)),
    "DHCP": lambda me: ethernet(me.mac, IPV4, ipv4("0.0.0.0", struct.pack("!HHHH", 68, 67, 8, 0))),
    "IPv6": lambda me: ethernet(me.mac, IPV6, ipv6(me.six)),
    "IPv6, link-local": lambda me: ethernet(me.mac, IPV6, ipv6(me.local)),
    "advertisement": lambda me: ethernet(me.mac, IPV6, advertisement(me.six, me.six, me.mac)),
    "advertisement without a MAC": lambda me: ethernet(me.mac, IPV6, advertisement(me.six, me.six)),
    "advertisement, from link-local": lambda me: ethernet(me.mac, IPV6, advertisement(me.local, me.six, me.mac)),
    "advertisement of link-local": lambda me: ethernet(me.mac, IPV6, advertisement(me.local, me.local, me.mac)),
    "solicitation": lambda me: ethernet(me.mac, IPV6, solicitation(me.six, OTHER_IPV6, me.mac)),
    "solicitation for duplicates": lambda me: ethernet(me.mac, IPV6, solicitation("::", me.six)),
    "solicitation for routers": lambda me: ethernet(me.mac, IPV6, icmpv6("::", 133, bytes(4))),
    "listener report": lambda me: ethernet(me.mac, IPV6, icmpv6("::", 143, bytes(4))),
}


def checked(node: Node, *checks: str, kind: str = "veth") -> Attachment:
    """A container with addresses of both families, and these checks."""
    keys: dict[str, Any] = {f"{check}spoofchk": True for check in checks}
    return node.attached(interface_type=kind, ipam=node.host_local("10.77.0.0/24", "fd77::/64"), **keys)


def me(pod: Attachment) -> Me:
    """Who the container is."""
    four, six = sorted(pod.addresses, key=lambda address: ":" in address)
    return Me(bytes.fromhex(pod.sandbox.link(pod.ifname).mac.replace(":", "")), four, six)


def arrives(node: Node, sender: Attachment, receiver: Attachment, frames: dict[str, bytes]) -> set[str]:
    """Which of the frames come from one container to another.

    After them a frame is sent that passes: what is not there before that one does not pass.
    """
    end = TRUE["IPv4"](me(sender)) + b"end"
    with captured(receiver.sandbox, receiver.ifname, node.folder) as capture:
        put_on_the_wire(sender.sandbox, sender.ifname, *frames.values(), end)
        wait_for("the last frame has come", lambda: end in capture.raw())
        came = capture.raw()
    # Open vSwitch takes an outer tag away that names no VLAN.
    return {name for name, frame in frames.items() if {frame, without_priority_tag(frame)} & set(came)}


def without_priority_tag(frame: bytes) -> bytes:
    """The frame without an outer tag of VLAN 0."""
    return frame[:12] + frame[16:] if frame[12:16] in (b"\x81\0\0\0", b"\x88\xa8\0\0") else frame


@pytest.mark.parametrize("checks", [("mac",), ("ip",), ("mac", "ip")], ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_forged_leaves_the_port_and_all_that_is_true_does(
    node: Node, kind: str, checks: tuple[str, ...]
) -> None:
    pod, receiver = checked(node, *checks, kind=kind), node.attached()
    who = me(pod)
    frames = {f"true {name}": make(who) for name, make in TRUE.items()}
    frames |= {f"forged {name}": make(who) for name, (make, _) in FORGED.items()}
    came = arrives(node, pod, receiver, frames)
    kept_back = {f"forged {name}" for name, (_, by) in FORGED.items() if set(by) & set(checks)}
    assert came == frames.keys() - kept_back


def test_without_the_keys_every_forged_frame_arrives(node: Node) -> None:
    """So each of them is one that could do harm."""
    pod, receiver = checked(node), node.attached()
    who = me(pod)
    frames = {name: make(who) for name, (make, _) in FORGED.items()}
    assert arrives(node, pod, receiver, frames) == frames.keys()


def rules(node: Node) -> list[str]:
    """The rules on the bridge that have a cookie."""
    socket = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    said = node.host.run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", socket).stdout
    return [line for line in said.splitlines() if "cookie=0xc142" in line]


def without_rules(node: Node) -> bool:
    """Whether nothing is left of any port's rules."""
    return not rules(node)


@pytest.mark.parametrize("kind", KINDS)
def test_containers_that_are_checked_reach_each_other_at_once(node: Node, kind: str) -> None:
    one, other = (checked(node, "mac", "ip", kind=kind) for _ in range(2))
    for address in other.addresses:
        assert one.sandbox.pings(address)
    assert mbits(one, other) > 1
    one.check().silent()
    other.check().silent()
    one.delete().silent()
    other.check().silent()
    assert other.sandbox.pings(other.addresses[0])
    other.delete().silent()
    assert without_rules(node)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_forged_leaves_a_running_container_while_it_is_attached_and_detached(node: Node, kind: str) -> None:
    """The container sets its end up by itself, as soon as that is there, and sends all the time."""
    receiver = node.attached()
    pod = node.attachment(
        interface_type=kind, ipam=node.host_local("10.77.0.0/24"), macspoofchk=True, ipspoofchk=True, timeout=5
    )
    frame = ethernet(OTHER_MAC, IPV4, ipv4(OTHER_IPV4))
    sending = pod.sandbox.start("python3", "-c", SEND_ALWAYS, frame.hex())
    try:
        with captured(receiver.sandbox, receiver.ifname, node.folder) as capture:
            for _ in range(4):
                pod.add().ok()
                pod.delete().silent()
            node.openvswitch.ovsdb_server.freeze()
            failing = pod.start("ADD")
            time.sleep(0.5)
            node.openvswitch.ovsdb_server.thaw()
            failing.wait(timeout=15)
            pod.delete().silent()
            time.sleep(0.2)
            assert frame not in capture.raw()
            unchecked = node.attachment(sandbox=pod.sandbox, interface_type=kind)
            unchecked.add().ok()
            wait_for("without the keys it arrives", lambda: frame in capture.raw())
            unchecked.delete().silent()
    finally:
        sending.kill()
        sending.communicate(timeout=5)


SEND_ALWAYS = """import fcntl, os, socket, struct, sys
frame = bytes.fromhex(sys.argv[1])
control = socket.socket()
while True:
    for index, name in socket.if_nameindex():
        if name == "lo":
            continue
        try:
            fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", name.encode(), 0x1043))
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                out.bind((name, 0))
                for _ in range(20):
                    out.send(frame)
        except OSError:
            pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_while_an_add_is_undone_nothing_forged_leaves_the_port(node: Node, kind: str) -> None:
    receiver, ipam = node.attached(), node.scripted_ipam()
    pod = node.attachment(
        cniVersion="1.0.0",
        interface_type=kind,
        ipam=ipam.config,
        cni_path=str(ipam.folder),
        macspoofchk=True,
        timeout=4,
    )
    stop = f"kill -STOP {node.openvswitch.ovsdb_server.pid}"
    ipam.act(ADD=f"sleep 0.5; {stop}; exit 1")
    frame = ethernet(OTHER_MAC, IPV4, ipv4(OTHER_IPV4))
    sending = pod.sandbox.start("python3", "-c", SEND_ALWAYS, frame.hex())
    try:
        with captured(receiver.sandbox, receiver.ifname, node.folder) as capture:
            pod.add().error()
            time.sleep(0.5)
            node.openvswitch.ovsdb_server.thaw()
            pod.delete().silent()
            assert frame not in capture.raw()
    finally:
        node.openvswitch.ovsdb_server.thaw()
        sending.kill()
        sending.communicate(timeout=5)
    assert without_rules(node)
    node.assert_nothing_left(keep=[receiver])


def test_a_hung_ovs_vswitchd_does_not_keep_del_from_returning_the_address(node: Node) -> None:
    pod = checked(node, "mac", "ip")
    pod.config["timeout"] = 4
    node.openvswitch.ovs_vswitchd.freeze()
    try:
        outcome = pod.delete()
        outcome.error(11)
        assert outcome.seconds < 5
        assert node.addresses_given_out() == [] and node.ports() == []
    finally:
        node.openvswitch.ovs_vswitchd.thaw()
    pod.delete().silent()
    assert without_rules(node)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_others_hold_for_what_passes(node: Node, kind: str) -> None:
    one, other = checked(node, "mac", "ip", kind=kind), checked(node, kind=kind)
    socket = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    node.host.run("ovs-ofctl", "add-flow", socket, "priority=5,icmp,actions=drop")
    assert not one.sandbox.pings(me(other).four, timeout=1)
    assert one.sandbox.pings(me(other).six)
    node.host.run("ovs-ofctl", "del-flows", socket, "icmp")
    assert one.sandbox.pings(me(other).four)


@pytest.mark.parametrize("checks", [("mac",), ("ip",), ("mac", "ip")], ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_missing_and_foreign_rules_and_says_how_to_mend_them(
    node: Node, kind: str, checks: tuple[str, ...]
) -> None:
    pod = checked(node, *checks, kind=kind)
    pod.check().silent()
    socket = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    cookie = rules(node)[0].split("cookie=")[1].split(",")[0]
    before = sorted(line.partition("priority")[2] for line in rules(node))
    for damage in (
        ["del-flows", socket, "arp"],
        ["del-flows", socket],
        ["add-flow", socket, f"cookie={cookie},priority=65010,reg15=0,actions=NORMAL"],
    ):
        node.host.run("ovs-ofctl", *damage)
        error = pod.check().error(106)
        assert f"OpenFlow rules with cookie {cookie}" in error["msg"]
        commands = error["details"].partition("commands: ")[2].split("; ")
        for command in commands:
            # As a person would type it, but for the switch, which is where only this test knows it.
            words = [socket if word == node.bridge else word for word in shlex.split(command)]
            node.host.run(*words)
        pod.check().silent()
        assert sorted(line.partition("priority")[2] for line in rules(node)) == before


def test_check_says_that_the_bridge_has_got_a_controller(node: Node) -> None:
    pod = checked(node, "mac")
    node.openvswitch.vsctl("set-controller", node.bridge, "tcp:127.0.0.1:6653")
    assert "has a controller" in pod.check().error(106)["msg"]
    node.openvswitch.vsctl("del-controller", node.bridge)
    assert "are missing" in pod.check().error(106)["msg"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_add_that_fails_leaves_no_rules(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam(ADD="sleep 0.3; exit 1")
    pod = node.attachment(
        cniVersion="1.0.0",
        interface_type=kind,
        ipam=ipam.config,
        cni_path=str(ipam.folder),
        macspoofchk=True,
        ipspoofchk=True,
    )
    pod.add().error(104)
    assert without_rules(node)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_add_has_put_there_goes_with_del(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam(ADD="sleep 1; exit 1")
    pod = node.attachment(
        cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder), ipspoofchk=True
    )
    running = pod.start("ADD")
    wait_for("there are rules", lambda: rules(node))
    running.signal(signal.SIGKILL)
    running.wait()
    del pod.config["ipspoofchk"]  # what is recorded counts
    pod.delete().silent()
    assert without_rules(node)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_del_removes_rules_whose_port_is_gone_and_needs_no_ovs_vswitchd(node: Node, kind: str) -> None:
    pod, other = (checked(node, "mac", kind=kind) for _ in range(2))
    node.openvswitch.vsctl("del-port", node.port(pod)["name"])
    assert rules(node)
    pod.delete().silent()
    assert {line.split("cookie=")[1][:18] for line in rules(node)} == {
        f"0xc142{node.port(other)['name'].removeprefix('cni')}"
    }
    node.openvswitch.ovs_vswitchd.stop()
    outcome = other.delete()
    node.openvswitch.start_ovs_vswitchd()
    outcome.silent()
    assert without_rules(node)
    node.assert_nothing_left()


def test_gc_removes_rules_with_their_ports_and_those_whose_port_somebody_else_has_removed(node: Node) -> None:
    kept, stale, gone = (checked(node, "mac") for _ in range(3))
    node.openvswitch.vsctl("del-port", node.port(gone)["name"])
    kept.gc(**{"cni.dev/valid-attachments": [{"containerID": kept.container_id, "ifname": kept.ifname}]}).silent()
    kept.check().silent()
    ours = {f"0xc142{node.port(kept)['name'].removeprefix('cni')}"}
    assert {line.split("cookie=")[1][:18] for line in rules(node)} == ours
    assert stale.container_id not in {port["external_ids"]["contID"] for port in node.ports()}


def test_gc_keeps_the_rules_of_a_port_whose_record_was_edited(node: Node) -> None:
    pod = checked(node, "mac", "ip")
    before = len(rules(node))
    node.openvswitch.vsctl("remove", "port", node.port(pod)["name"], "external_ids", "contIface")
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert len(rules(node)) == before


def test_rules_that_a_port_has_left_behind_do_not_cut_off_the_next_one_with_its_number(node: Node) -> None:
    one = node.attached(ipam=node.host_local("10.77.0.0/24"), macspoofchk=True, ofport_request=77)
    node.openvswitch.vsctl("del-port", node.port(one)["name"])
    node.host.run("ip", "link", "delete", one.container_interface["name"], check=False)
    other = node.attached(ipam=node.host_local("10.77.0.0/24"), macspoofchk=True, ofport_request=77)
    third = node.attached(ipam=node.host_local("10.77.0.0/24"))
    assert node.interface(other)["ofport"] == 77
    assert other.sandbox.pings(third.addresses[0])
    other.check().silent()
    one.delete().silent()
    other.check().silent()


def test_a_stale_port_is_swept_with_its_rules(node: Node) -> None:
    stale, pod = checked(node, "mac", "ip"), node.attachment(ipam=node.host_local())
    stale.config["name"] = pod.config["name"]
    assert rules(node)
    node.vanish(stale)
    pod.config["name"] = stale.config["name"]
    assert rules(node)
    for _ in range(3):
        pod.add().ok()
        pod.delete().silent()
    assert without_rules(node)


def test_check_finds_that_a_restart_of_ovs_vswitchd_has_lost_the_rules(node: Node) -> None:
    pod = checked(node, "mac", "ip")
    node.openvswitch.ovs_vswitchd.stop()
    node.openvswitch.start_ovs_vswitchd()
    wait_for("the port is back", lambda: node.interface(pod)["ofport"] not in ([], -1))
    assert "are missing" in pod.check().error(106)["msg"]


@pytest.mark.parametrize("checks", ["macspoofchk", "ipspoofchk"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["set-controller", "BRIDGE", "tcp:127.0.0.1:6653"], "has a controller"),
        (["set-fail-mode", "BRIDGE", "secure"], "has fail_mode=secure"),
    ],
)
def test_a_bridge_whose_rules_are_anothers_is_refused(node: Node, checks: str, settings: list[str], said: str) -> None:
    node.openvswitch.vsctl(*(node.bridge if word == "BRIDGE" else word for word in settings))
    keys: dict[str, Any] = {checks: True}
    pod = node.attachment(ipam=node.host_local(), **keys)
    error = pod.add().error(7)
    assert checks in error["msg"] and node.bridge in error["msg"] and said in error["msg"]
    node.assert_nothing_left()


def test_a_bridge_that_does_not_speak_openflow_1_3_is_refused_with_a_remedy(node: Node) -> None:
    node.openvswitch.vsctl("set", "bridge", node.bridge, "protocols=OpenFlow10")
    pod = node.attachment(macspoofchk=True)
    error = pod.add().error(108)
    assert "OpenFlow 1.3" in error["msg"]
    node.assert_nothing_left()
    node.openvswitch.vsctl(*shlex.split(error["details"])[1:])
    pod.add().ok()
    assert rules(node)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ipspoofchk": True}, "'ipspoofchk' needs 'ipam'"),
        ({"macspoofchk": "yes"}, "invalid 'macspoofchk': \"yes\": must be true or false"),
        ({"ipspoofchk": 1}, "invalid 'ipspoofchk': 1: must be true or false"),
        ({"macspoofchk": True, "socket_file": "tcp:127.0.0.1:6640"}, "needs Open vSwitch on this machine"),
        ({"macspoofcheck": True}, "unknown key 'macspoofcheck': there are 'macspoofchk' and 'ipspoofchk'"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(node: Node, keys: dict[str, Any], said: str) -> None:
    pod = node.attachment(**keys)
    assert said in pod.add().error(7)["msg"]
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_checking_costs_an_add_little(node: Node, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(40):
        checks = number % 2 == 0
        pod = node.attachment(interface_type=kind, ipam=node.host_local(), macspoofchk=checks, ipspoofchk=checks)
        seconds[checks].append(pod.add().ok().seconds)
        pod.delete().silent()
    without, with_ = (statistics.median(seconds[checks]) * 1000 for checks in (False, True))
    with capsys.disabled():
        print(f"\n{kind}: ADD {without:.1f} ms, with macspoofchk and ipspoofchk {with_:.1f} ms, 20 each in turn")  # noqa: T201 - the figures are what the test is for
    assert with_ < 3 * without
