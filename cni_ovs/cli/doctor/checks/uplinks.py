"""The way out of a bridge: uplinks, MTU and VLANs along it."""

from __future__ import annotations

from collections.abc import Iterator

from cni_ovs.plugin.vlans import effective_mode

from ...database import Bridge
from .. import paths
from ..attached import Attached
from ..examination import Check
from ..machine import Machine
from ..paths import DEVICE, Uplink
from ..problems import FAULT, NOTE, WARNING, Finding, Problem, Skip

_USERSPACE_MTU = 1500
_SHOWN = 8  # VLANs in a message
_DOWN, _NO_CARRIER = "is down", "has no carrier"

NO_UPLINK = Problem(
    "no_uplink",
    NOTE,
    "bridge {bridge} has no uplink: its containers reach only each other",
    "so it is meant, or nobody has added one",
    "if they should reach more, add an interface of this host as uplink (ovs-vsctl add-port)",
)
UPLINK_DOWN = Problem(
    "uplink_down",
    FAULT,
    "uplink {uplink} of bridge {bridge} is down",
    "somebody set it down, or nobody set it up after boot",
    command="ip link set {uplink} up",
)
UPLINK_NO_CARRIER = Problem(
    "uplink_no_carrier",
    FAULT,
    "uplink {uplink} of bridge {bridge} has no carrier",
    "cable, switch port, or the other end of a virtual link",
    "see to its cable and to the switch at its other end",
)
UPLINK_ONE_OF_SEVERAL = Problem(
    "uplink_one_of_several",
    WARNING,
    "{uplink}, one of several uplinks of bridge {bridge}, {state}",
    "a cable, a switch port, or somebody set it down; or a container is behind it, in which its interface is down",
    "see to it (ip link set {uplink} up, its cable); or remove it from the bridge, if nothing needs it",
)
BOND_DEGRADED = Problem(
    "bond_degraded",
    WARNING,
    "bond {uplink} of bridge {bridge} works without {down}",
    "one of its interfaces is down or has no carrier",
    "see to cable and switch port of {down}",
)
MTU_TOO_LARGE = Problem(
    "mtu_too_large",
    WARNING,
    "{device} in {container} has MTU {size}, but {uplink} passes {largest} bytes",
    "`mtu` of the network is larger than what the uplink passes, or a tunnel leaves (VXLAN takes 50 bytes, Geneve 58)",
    "larger packets are lost; correct `mtu` of the network, and now:",
    "nsenter --net={netns} ip link set {device} mtu {largest}",
)
MTU_USERSPACE = Problem(
    "mtu_userspace",
    WARNING,
    "{device} in {container} has MTU {size}, but such a port passes {largest} bytes",
    "internal ports and taps of the userspace datapath carry no packets of more than 1500 bytes",
    "use interface_type veth, or a smaller `mtu`; now:",
    "nsenter --net={netns} ip link set {device} mtu {largest}",
)
MTU_OF_ENDS = Problem(
    "mtu_of_ends",
    WARNING,
    "{device} in {container} has MTU {size}, but its other end, {port}, has {other}: larger packets are lost",
    "somebody has changed one of the two",
    command="ip link set {port} mtu {size}",
)
MTU_REQUESTED = Problem(
    "mtu_requested",
    WARNING,
    "{device} in {container} has MTU {size}, but its other end, {port}, has {other}: larger packets are lost",
    "somebody has set `mtu_request` of the interface in Open vSwitch, which keeps to it",
    command="{vsctl} set interface {port} mtu_request={size}",
)
VLAN_NOT_CARRIED = Problem(
    "vlan_not_carried",
    WARNING,
    "VLAN {vlans} of {ifname} in {container} is not carried by uplink {uplink}",
    "`trunks` of the uplink do not have it",
    "the container reaches nothing beyond {bridge}; if it should:",
    "{vsctl} add port {uplink} trunks {numbers}",
)
VLAN_OF_ACCESS_UPLINK = Problem(
    "vlan_of_access_uplink",
    WARNING,
    "VLAN {vlans} of {ifname} in {container} is not carried by uplink {uplink}, which has VLAN {tag}",
    "the uplink is an access port (`tag`) of another VLAN",
    "give the container VLAN {tag}, or make the uplink a trunk (VLAN Configuration in ovs-vswitchd.conf.db(5))",
)


def uplinks(machine: Machine) -> Iterator[Finding]:
    """Every bridge with attachments has an uplink, and it is up."""
    seen: set[str] = set()
    for bridge in _bridges(machine):
        found = list(paths.all_uplinks(bridge, machine.open_vswitch, machine.host_links))
        if not found and not paths.uplinks(bridge, machine.host_links) and not _reaches_host(machine, bridge):
            yield NO_UPLINK.found(bridge=bridge.name)
        for uplink in found:
            if uplink.kind == DEVICE and uplink.port.name not in seen:
                seen.add(uplink.port.name)
                others = [other for other in found if other.kind == DEVICE and other.bridge is uplink.bridge]
                yield from _bad(machine, uplink, [other for other in others if other is not uplink])


def mtu(machine: Machine) -> Iterator[Finding]:
    """No container has a larger MTU than its way out."""
    largest: dict[str, tuple[int, str] | None] = {}
    for bridge in _bridges(machine):
        found = paths.all_uplinks(bridge, machine.open_vswitch, machine.host_links)
        known = [(paths.mtu(uplink, machine.host_links), uplink.port.name) for uplink in found]
        # Of several, the largest: whether a packet leaves by another is not known.
        largest[bridge.name] = max(((number, name) for number, name in known if number is not None), default=None)
    for attached in machine.attached:
        if attached.link is None:
            continue
        size, way = attached.link.mtu, largest[attached.bridge.name]
        host = None if attached.is_made_by_open_vswitch else machine.host_links.get(attached.port.name)
        if host is not None and host.kind == "veth" and host.mtu < min(size, way[0] if way else size):
            is_requested = attached.interface is not None and attached.interface.mtu_request is not None
            problem = MTU_REQUESTED if is_requested else MTU_OF_ENDS
            yield problem.found(size=size, other=host.mtu, vsctl=machine.vsctl, **attached.where)
        if attached.is_userspace and attached.is_made_by_open_vswitch and size > _USERSPACE_MTU:
            yield MTU_USERSPACE.found(size=size, largest=_USERSPACE_MTU, **attached.where)
        elif way is not None and size > way[0]:
            yield MTU_TOO_LARGE.found(size=size, largest=way[0], uplink=way[1], **attached.where)


def vlans(machine: Machine) -> Iterator[Finding]:
    """The uplinks carry the VLANs of all attachments."""
    ways = {bridge.name: paths.uplinks(bridge, machine.host_links) for bridge in _bridges(machine)}
    for attached in machine.attached:
        found = ways[attached.bridge.name]
        missing = [_not_carried(attached, uplink) for uplink in found]
        if not found or not all(missing):
            continue
        vlans, uplink = missing[0], found[0]
        values = {**attached.where, "uplink": uplink.port.name, "vlans": _listed(vlans)}
        if effective_mode(uplink.port.vlan_mode, uplink.port.tag) in ("access", "dot1q-tunnel"):
            yield VLAN_OF_ACCESS_UPLINK.found(tag=uplink.port.tag or 0, **values)
        else:
            numbers = [str(vlan) for vlan in sorted(vlans)]
            yield VLAN_NOT_CARRIED.found(vsctl=machine.vsctl, numbers=numbers, **values)


def _bridges(machine: Machine) -> list[Bridge]:
    """Those with attachments that matter."""
    found = {attached.bridge.name: attached.bridge for attached in machine.attached}
    if not found:
        raise Skip("nothing is attached")
    return list(found.values())


def _reaches_host(machine: Machine, bridge: Bridge) -> bool:
    """Whether this host is on the bridge by an interface that is up: it may be the way out."""
    names = [i.name for port in bridge.ports for i in port.interfaces if i.type == "internal" and not port.is_ours]
    return any(machine.host_links[name].up for name in names if name in machine.host_links)


def _bad(machine: Machine, uplink: Uplink, others: list[Uplink]) -> Iterator[Finding]:
    """What is wrong with an uplink; `others` are those of the same bridge."""
    states = _states(machine, uplink)
    bad = {name: state for name, state in states.items() if state}
    where = {"bridge": uplink.bridge.name}
    if bad and len(bad) < len(states):
        yield BOND_DEGRADED.found(uplink=uplink.port.name, down=", ".join(bad), **where)
    elif bad and any("" in _states(machine, other).values() for other in others):
        for name, state in bad.items():
            yield UPLINK_ONE_OF_SEVERAL.found(uplink=name, state=state, **where)
    else:
        for name, state in bad.items():
            yield (UPLINK_DOWN if state == _DOWN else UPLINK_NO_CARRIER).found(uplink=name, **where)


def _states(machine: Machine, uplink: Uplink) -> dict[str, str]:
    """What is wrong with each interface of an uplink, "" for nothing; without those that are not there.

    That one is not there is told by the check of ports.
    """
    states = {}
    for interface in uplink.port.interfaces:
        link = machine.host_links.get(interface.name)
        if paths.is_gone(interface, machine.host_links) or (link is None and interface.admin_state is None):
            continue
        up = interface.admin_state == "up" if link is None else link.up
        carrier = interface.link_state == "up" if link is None else link.carrier
        states[interface.name] = "" if up and carrier else _NO_CARRIER if up else _DOWN
    return states


def _not_carried(attached: Attached, uplink: Uplink) -> set[int]:
    """The VLANs of an attachment that an uplink does not carry."""
    carried = paths.carried(uplink.port)
    if carried is None:
        return set()
    port = attached.port
    wanted = paths.carried(port)
    if wanted is None:  # a trunk of all: without a word on VLANs it is for packets without tags
        wanted = {0} if port.vlan_mode is None else set()
    return wanted - carried


def _listed(vlans: set[int]) -> str:
    words = [str(vlan) if vlan else "0 (untagged)" for vlan in sorted(vlans)]
    return ", ".join(words[:_SHOWN]) + (", …" if len(words) > _SHOWN else "")


CHECKS = (
    Check(
        "uplinks",
        "uplinks of bridges with attachments",
        uplinks,
        (NO_UPLINK, UPLINK_DOWN, UPLINK_NO_CARRIER, UPLINK_ONE_OF_SEVERAL, BOND_DEGRADED),
        may_pass=True,
    ),
    Check(
        "mtu",
        "MTU of containers and of their way out",
        mtu,
        (MTU_OF_ENDS, MTU_REQUESTED, MTU_TOO_LARGE, MTU_USERSPACE),
        may_pass=True,
    ),
    Check("vlans", "VLANs that uplinks have to carry", vlans, (VLAN_NOT_CARRIED, VLAN_OF_ACCESS_UPLINK)),
)
