"""Where packets leave a bridge: its uplinks, also those behind patch ports, and what they carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyroute2.netlink.exceptions import NetlinkError

from cni_ovs.plugin.inet import parse_ip
from cni_ovs.plugin.netlink import Link
from cni_ovs.plugin.vlans import effective_mode

from .. import kernel
from ..database import Bridge, Interface, OpenVSwitch, Port
from ..topology.model import attachment_of

# What a tunnel adds to a packet, its inner Ethernet header included: over IPv4, which IPv6 exceeds by _IPV6_MORE.
# Geneve with eight bytes of options, as OVN has.
_OVERHEAD = {"vxlan": 50, "geneve": 58, "gre": 42, "ip6gre": 42}
_IPV6_MORE = 20
_TUNNELS = (*_OVERHEAD, "stt", "erspan", "ip6erspan", "lisp", "gtpu", "bareudp", "srv6")
PATCH, TUNNEL, DEVICE = "patch", "tunnel", "device"
SYSTEM = ("", "system")  # types of interfaces that are devices of the kernel


@dataclass(frozen=True)
class Uplink:
    """A port by which packets leave a bridge.

    Attributes:
        bridge, port: where it is; the bridge may be one behind a patch port.
        kind: PATCH, TUNNEL or DEVICE.
    """

    bridge: Bridge
    port: Port
    kind: str


def uplinks(bridge: Bridge, host_links: dict[str, Link]) -> list[Uplink]:
    """The uplinks of one bridge, patch ports among them."""
    found = []
    for port in bridge.ports:
        kind = _kind(bridge, port, host_links)
        if kind is not None:
            found.append(Uplink(bridge, port, kind))
    return found


def all_uplinks(bridge: Bridge, open_vswitch: OpenVSwitch, host_links: dict[str, Link]) -> Iterator[Uplink]:
    """Those of a bridge and of all bridges behind its patch ports, without these."""
    seen, waiting = {bridge.name}, [bridge]
    while waiting:
        for uplink in uplinks(waiting.pop(), host_links):
            if uplink.kind != PATCH:
                yield uplink
                continue
            peers = {interface.options.get("peer") for interface in uplink.port.interfaces}
            for other, port in open_vswitch.ports():
                if other.name not in seen and any(interface.name in peers for interface in port.interfaces):
                    seen.add(other.name)
                    waiting.append(other)


def is_gone(interface: Interface, host_links: dict[str, Link]) -> bool:
    """Whether the kernel's device of an interface is not there any more; ovs-vswitchd calls that no error."""
    return interface.type in SYSTEM and interface.ifindex == 0 and interface.name not in host_links


def mtu(uplink: Uplink, host_links: dict[str, Link]) -> int | None:
    """The largest packet that an uplink passes, in bytes; None if that is not known."""
    of_interfaces = (_mtu(interface, uplink.kind, host_links) for interface in uplink.port.interfaces)
    return min((number for number in of_interfaces if number is not None), default=None)


def carried(port: Port) -> set[int] | None:
    """The VLANs that a port carries, 0 for untagged packets; None for all (ovs-vswitchd.conf.db(5))."""
    mode = effective_mode(port.vlan_mode, port.tag)
    own = {port.tag or 0}
    if mode in ("access", "dot1q-tunnel"):
        return own
    if not port.trunks:
        return None
    return set(port.trunks) if mode == "trunk" else own | set(port.trunks)


def _kind(bridge: Bridge, port: Port, host_links: dict[str, Link]) -> str | None:
    """None for what is no uplink: attachments of anybody, virtual machines, interfaces of the host."""
    interface = port.interface
    if interface is None or attachment_of(port) is not None or port.name == bridge.name:
        return None
    if interface.type == PATCH:
        return PATCH
    if interface.type in _TUNNELS:
        return TUNNEL
    if interface.type in SYSTEM:
        link = host_links.get(interface.name)
        return None if link is not None and link.kind == "tun" else DEVICE
    return DEVICE if interface.type in ("dpdk", "afxdp", "afxdp-nonpmd") else None


def _mtu(interface: Interface, kind: str, host_links: dict[str, Link]) -> int | None:
    if kind == DEVICE:
        link = host_links.get(interface.name)
        return link.mtu if link is not None else interface.mtu
    remote = interface.options.get("remote_ip", "")
    try:
        is_ipv6 = len(parse_ip(remote)) == 16
    except ValueError:  # "flow": any
        remote, is_ipv6 = "", False
    overhead = _OVERHEAD.get(interface.type)
    below = host_links.get(interface.status.get("tunnel_egress_iface", "")) or (_towards(remote, host_links))
    if overhead is None or below is None:
        return None
    return below.mtu - overhead - (_IPV6_MORE if is_ipv6 else 0)


def _towards(address: str, host_links: dict[str, Link]) -> Link | None:
    """The interface of the host by which an address is reached."""
    if not address:
        return None
    try:
        with kernel.connected() as netlink:
            (route, *_) = netlink.route("get", dst=address)
    except (NetlinkError, OSError, ValueError):
        return None
    index = route.get_attr("RTA_OIF")
    return next((link for link in host_links.values() if link.index == index and link.name != "lo"), None)
