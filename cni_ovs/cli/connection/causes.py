"""Why a packet does not arrive, as far as it can be read from interfaces, routes, neighbours, ports and bridges."""

from __future__ import annotations

import errno
import shlex
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError

from cni_ovs.plugin.devices import MOVED
from cni_ovs.plugin.netlink import IFA_DADFAILED, IFA_TENTATIVE
from cni_ovs.plugin.vlans import effective_mode

from .. import database, kernel
from ..output import plain
from .ends import End, global_addresses

_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_ANSWERED = 0x02 | 0x04 | 0x08 | 0x10  # NUD_REACHABLE, STALE, DELAY, PROBE of linux/neighbour.h
_PUBLISHED = {"ipv4": "ARP", "ipv6": "neighbour discovery"}


@dataclass(frozen=True)
class Cause:
    """What is wrong, in a line, and what to do about it."""

    text: str
    remedy: str


def inside(end: End, command: str) -> str:
    """A command line that does something in a container's namespace."""
    return f"nsenter --net={shlex.quote(plain(end.netns))} {command}"


def no_address(first: End, second: End) -> Cause:
    """Why two ends have no address in common."""
    for end in (first, second):
        if not end.address("ipv4") and not end.address("ipv6"):
            where = f"{plain(end.ifname)} of {plain(end.name)}"
            command = inside(end, f"ip address add ADDRESS/LENGTH dev {shlex.quote(plain(end.link.name))}")
            return Cause(f"{where} has no address", f"attach it with an address, or: {command}")
    names = f"{plain(first.name)} and {plain(second.name)}"
    return Cause(f"{names} have no addresses of the same family", "give both an IPv4 or both an IPv6 address")


def of_one_address(first: End, second: End, family: str | None) -> Cause | None:
    """Why a packet from one end to the other would not leave: it has that address itself. None if it has not."""
    address = second.address(family) if family else None
    if address is None or address not in {str(own.ip) for own in global_addresses(first.link)}:
        return None
    return Cause(
        f"{plain(first.name)} and {plain(second.name)} have the same address {address}",
        "give one of them another address; does IPAM keep its records where both can see them?",
    )


def of_silence(sender: End, receiver: End, family: str) -> Cause:
    """Why nothing that one end sends is answered by the other."""
    gateway = _gateway(sender, receiver, family)
    return (
        _link(sender)
        or _link(receiver)
        or _port(sender)
        or _port(receiver)
        or _address(sender, family)
        or _address(receiver, family)
        or (None if gateway else separated(sender, receiver))
        or _route(sender, receiver, family)
        or _route(receiver, sender, family)
        or _macs(sender, receiver)
        or _neighbour(sender, receiver, family, gateway)
    )


def _link(end: End) -> Cause | None:
    where = f"{plain(end.ifname)} of {plain(end.name)}"
    if not end.link.up:
        command = inside(end, f"ip link set {shlex.quote(plain(end.link.name))} up")
        return Cause(f"{where} is down", command)
    if end.link.carrier:
        return None
    if end.port is None:
        return Cause(f"{where} has no carrier: what is at its other end is down or gone", "set its other end up")
    if end.port.interface is not None and end.port.interface.type in MOVED:
        command = f"cni-ovs reattach {shlex.quote(plain(end.name))} {shlex.quote(plain(end.ifname))}"
        return Cause(f"{where} is dead: its device ended with an earlier ovs-vswitchd", command)
    return Cause(
        f"{where} has no carrier: port {plain(end.port.name)} is down", f"ip link set {plain(end.port.name)} up"
    )


def _port(end: End) -> Cause | None:
    interface = end.port.interface if end.port else None
    if interface is None:
        return None
    what = f"port {plain(interface.name)} of {plain(end.name)}"
    if interface.error:
        return Cause(f"Open vSwitch cannot use {what}: {plain(interface.error)}", "attach the container anew")
    if interface.ofport is None or interface.ofport < 0:
        return Cause(f"Open vSwitch does not use {what}", "does ovs-vswitchd run? See `cni-ovs doctor`")
    if interface.admin_state == "down" and interface.type not in MOVED:  # of these the device is not on the host
        return Cause(f"{what} is down on the host", f"ip link set {plain(interface.name)} up")
    return None


def separated(sender: End, receiver: End) -> Cause | None:
    """Why nothing can pass between two ends, by how they are attached; None if it could."""
    return _bridges(sender, receiver) or _vlans(sender, receiver)


def _bridges(sender: End, receiver: End) -> Cause | None:
    first, second = sender.bridge, receiver.bridge
    if first is None or second is None or first.name == second.name or sender.port is None:
        return None
    names = f"{plain(first.name)} and {plain(second.name)}"
    if _has_patch(first) and _has_patch(second):
        return None
    return Cause(
        f"they are on different bridges, {names}, and no patch port connects these",
        "attach both to one bridge, or connect these by patch ports or by a router",
    )


def _has_patch(bridge: database.Bridge) -> bool:
    return any(interface.type == "patch" for port in bridge.ports for interface in port.interfaces)


def _vlans(sender: End, receiver: End) -> Cause | None:
    if sender.vlan is None or receiver.vlan is None or sender.vlan == receiver.vlan:
        return None
    if sender.bridge is None or receiver.bridge is None:
        return None
    if sender.bridge.name != receiver.bridge.name and not (
        _keeps_vlans(sender.bridge) and _keeps_vlans(receiver.bridge)
    ):
        return None
    names = [f"{plain(end.name)} {f'in VLAN {end.vlan}' if end.vlan else 'in none'}" for end in (sender, receiver)]
    return Cause(
        f"they are in different VLANs: {names[0]}, {names[1]}",
        "attach both with the same `vlan`, or connect the VLANs by a router, if they are to reach each other",
    )


def _keeps_vlans(bridge: database.Bridge) -> bool:
    """Whether no patch port of a bridge puts frames of one VLAN into another."""
    patches = [port for port in bridge.ports if any(interface.type == "patch" for interface in port.interfaces)]
    return all(effective_mode(port.vlan_mode, port.tag) == "trunk" for port in patches)


def _address(end: End, family: str) -> Cause | None:
    """Whether an address may not be used, because another has it or may have it (RFC 4862 section 5.4)."""
    try:
        with kernel.connected(end.netns) as asked:
            found = list(asked.get_addr(family=_FAMILIES[family], index=end.link.index))
    except (OSError, NetlinkError):
        return None
    address = end.address(family)
    for message in found:
        if message.get_attr("IFA_ADDRESS") != address:
            continue
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if flags & IFA_DADFAILED:
            command = inside(end, f"ip address delete {address} dev {shlex.quote(plain(end.link.name))}")
            return Cause(f"{address} of {plain(end.name)} is a duplicate: another has answered for it", command)
        if flags & IFA_TENTATIVE:
            what = f"{address} of {plain(end.name)} may not be used yet: the kernel asks whether another has it"
            return Cause(what, "try again in some seconds")
    return None


def _way(sender: End, receiver: End, family: str) -> Any:
    """The route from an end to the other's address, as rtnetlink tells it; NetlinkError or OSError if there is none."""
    with kernel.connected(sender.netns) as asked:
        (message, *_) = asked.route("get", dst=receiver.address(family), family=_FAMILIES[family])
    return message


def _gateway(sender: End, receiver: End, family: str) -> str | None:
    """The router by which an end sends to the other, if it does so by its interface that is meant."""
    try:
        message = _way(sender, receiver, family)
    except (OSError, NetlinkError):
        return None
    gateway = message.get_attr("RTA_GATEWAY")
    return str(gateway) if gateway and message.get_attr("RTA_OIF") == sender.link.index else None


def _route(sender: End, receiver: End, family: str) -> Cause | None:
    destination = receiver.address(family)
    add = inside(sender, f"ip route add {receiver.subnet(family)} dev {shlex.quote(plain(sender.link.name))}")
    try:
        message = _way(sender, receiver, family)
    except (OSError, NetlinkError) as error:
        if isinstance(error, NetlinkError) and error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES):
            return Cause(f"{plain(sender.name)} has no route to {destination}", add)
        return None
    if message.get_attr("RTA_OIF") == sender.link.index:
        return None
    return Cause(f"the route of {plain(sender.name)} to {destination} does not leave by {plain(sender.ifname)}", add)


def _macs(sender: End, receiver: End) -> Cause | None:
    if sender.link.mac != receiver.link.mac or sender.port is None or receiver.port is None:
        return None
    return Cause(f"both interfaces have the MAC address {sender.link.mac}", "attach one of them anew")


def _neighbour(sender: End, receiver: End, family: str, gateway: str | None) -> Cause:
    """The last that can be looked at: who answers ARP, or neighbour discovery."""
    destination = receiver.address(family) or ""
    asked = gateway or destination
    if _state(sender, asked, family) & _ANSWERED:
        if gateway:
            return Cause(
                f"router {gateway} is there, and no answer comes from {destination} behind it",
                f"does it forward packets, and has {plain(receiver.name)} a route back by it?",
            )
        setting = "net.ipv4.icmp_echo_ignore_all" if family == "ipv4" else "net.ipv6.icmp.echo_ignore_all"
        return Cause(
            f"{plain(receiver.name)} answers {_PUBLISHED[family]} but no ping: a packet filter, or a setting of it,"
            " drops echo requests",
            f"{inside(receiver, 'nft list ruleset')}; {inside(receiver, f'sysctl {setting}')}",
        )
    text = f"nobody answers {_PUBLISHED[family]} for {asked}"
    text += f", the router to {destination}" if gateway else ""
    for end in (sender, receiver):
        if end.bridge is not None and end.bridge.fail_mode == "secure":
            return Cause(
                f"{text}; bridge {plain(end.bridge.name)} forwards only what OpenFlow rules let pass",
                f"ovs-ofctl dump-flows {plain(end.bridge.name)}",
            )
        if end.port is not None and end.port.external_ids.get("contFlows"):
            return Cause(
                f"{text}; OpenFlow rules check what {plain(end.name)} sends (macspoofchk, ipspoofchk)",
                "its MAC and addresses must be those that it was attached with",
            )
    return Cause(text, _trace(sender))


def _trace(sender: End) -> str:
    """How to see what a bridge does with a packet of an end."""
    if sender.bridge is None or sender.port is None:
        return "look where the packets end: tcpdump -e at each interface on the way"
    bridge, port = shlex.quote(plain(sender.bridge.name)), plain(sender.port.name)
    return f"ovs-appctl ofproto/trace {bridge} {shlex.quote(f'in_port={port},dl_src={sender.link.mac}')}"


def _state(end: End, address: str, family: str) -> int:
    """What the kernel knows of a neighbour: bits of NUD_…; 0 for nothing."""
    try:
        with kernel.connected(end.netns) as asked:
            found = list(asked.get_neighbours(_FAMILIES[family], ifindex=end.link.index))
    except (OSError, NetlinkError):
        return 0
    states = [int(message["state"]) for message in found if message.get_attr("NDA_DST") == address]
    return states[0] if states else 0


def of_small_packets(first: End, second: End, largest: int | None, expected: int, *, told: bool) -> Cause:
    """Why large packets do not pass although small ones do."""
    text = f"packets of more than {largest} bytes vanish, and the interfaces have MTU {expected}"
    if largest is None:
        return Cause("packets that may not be split vanish", "what is between the interfaces?")
    if told:
        text = f"a router on the way takes packets of {largest} bytes, and the interfaces have MTU {expected}"
    for end in (first, second):
        interface = end.port.interface if end.port else None
        if interface is not None and interface.mtu is not None and interface.mtu < expected:
            return Cause(
                f"{text}: port {plain(interface.name)} of {plain(end.name)} has MTU {interface.mtu}",
                f"ip link set {plain(interface.name)} mtu {expected}",
            )
    return Cause(
        f"{text}: something between them has a smaller MTU",
        f"configure `mtu` {largest} for the network, or raise that MTU",
    )


def of_no_tcp(first: End, second: End, small: int | None) -> Cause:
    """Why TCP does not pass although pings do; `small`: the largest packet, if large ones vanish."""
    for end in (first, second):
        if end.bridge is not None and end.bridge.datapath_type == "netdev" and _leaves_checksums(end):
            return Cause(
                f"TCP does not pass: transmit checksum offload is on for {plain(end.ifname)} of {plain(end.name)},"
                " and a userspace bridge passes such packets on with a wrong checksum",
                inside(end, f"ethtool -K {shlex.quote(plain(end.link.name))} tx off"),
            )
    if small is not None:
        return Cause(
            f"TCP hangs: packets of more than {small} bytes vanish", f"configure `mtu` {small} for the network"
        )
    return Cause(
        "TCP does not pass although pings do: a packet filter on the way or in a container",
        inside(second, "nft list ruleset"),
    )


def _leaves_checksums(end: End) -> bool:
    if end.link.kind != "veth":
        return False
    try:
        with kernel.inside(end.netns):
            device: Any = IoctlEthtool(end.link.name)
            try:
                features = device.get_features()
                names = [name for name in features.keys() if name.startswith("tx-checksum-ip")]  # noqa: SIM118 - no dict
                return any(features.is_active(name) for name in names)
            finally:
                device.close()
    except (OSError, NetlinkError):
        return False
