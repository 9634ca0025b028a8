"""One container, with a TARGET: that it is attached, its addresses, its gateways, and what was dropped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ... import kernel
from ...targets import Target
from .. import neighbours
from ..examination import Check
from ..machine import Machine, identity_of
from ..problems import FAULT, NOTE, WARNING, Finding, Problem, Skip

_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40  # linux/if_addr.h
_SCOPE_LINK = 253  # RT_SCOPE_LINK of linux/rtnetlink.h
_PATIENCE = 1.5  # seconds in which the kernel finds out whether an address is free
_DROPPED = ("rx_dropped", "tx_dropped", "rx_errors", "tx_errors")

NOT_ATTACHED = Problem(
    "not_attached",
    FAULT,
    "nothing of {container} is attached to Open vSwitch",
    "it never was, or somebody removed its port",
    "attach it: restart the pod, or cni-ovs attach {target} IFNAME BRIDGE",
)
ADDRESS_DUPLICATE = Problem(
    "address_duplicate",
    FAULT,
    "address {address} of {ifname} in {container} is not used: another node has it",
    "two nodes give out the same range, or somebody has set the address by hand",
    "give one of them another address, and each node a range of its own",
)
ADDRESS_TENTATIVE = Problem(
    "address_tentative",
    WARNING,
    "address {address} of {ifname} in {container} cannot be used yet",
    "the kernel cannot find out whether another node has it, because nothing passes",
    "see that interface and port are up and alive, and look once more",
)
GATEWAY_SILENT = Problem(
    "gateway_silent",
    FAULT,
    "gateway {gateway} of {ifname} in {container} does not answer ARP",
    "no router has this address on this bridge and VLAN, or the way to it is broken",
    "see that a router has it on VLAN {vlan} of {bridge} or beyond its uplink",
)
GATEWAY_WAS_SILENT = Problem(
    "gateway_was_silent",
    WARNING,
    "gateway {gateway} of {ifname} in {container} did not answer ARP when the container last asked",
    "no router has this address on this bridge and VLAN, or the way to it is broken",
    "ask once more:",
    "cni-ovs doctor {target} --probe {db}",
)
NO_DEFAULT_ROUTE = Problem(
    "no_default_route",
    NOTE,
    "{container} has no default route: it reaches only the subnets of its interfaces",
    "so it is meant, or the IPAM plugin's configuration has no routes",
    "if it should reach more, give the IPAM plugin `routes` (and `gateway`)",
)
PACKETS_DROPPED = Problem(
    "packets_dropped",
    NOTE,
    "port {port} of {ifname} in {container} has dropped {count} of {total} packets since it was made",
    "a limit (bandwidth) or a queue that was full",
    "if the number rises, look at limits and load",
)


def attached(machine: Machine) -> Iterator[Finding]:
    """The container has a port."""
    target = _target(machine)
    if machine.attached:
        return
    for _, port in machine.open_vswitch.ports():
        if port.is_of_ovs_cni and identity_of(port.external_ids.get("contNetns", "")) == target.identity:
            raise Skip("ovs-cni has attached it")
    yield NOT_ATTACHED.found(container=target.name, target=target.text)


def addresses(machine: Machine) -> Iterator[Finding]:
    """All addresses can be used."""
    ours, netns = _ours(machine), _target(machine).netns
    found = _unusable(netns)
    if any(index in ours and flags & _IFA_F_TENTATIVE for index, _, flags in found):  # perhaps it is new
        time.sleep(_PATIENCE)
        found = _unusable(netns)
    for index, address, flags in found:
        if index in ours:
            problem = ADDRESS_DUPLICATE if flags & _IFA_F_DADFAILED else ADDRESS_TENTATIVE
            yield problem.found(address=address, **ours[index])


def gateways(machine: Machine) -> Iterator[Finding]:
    """The gateways answer."""
    netns, ours = _target(machine).netns, _ours(machine)
    found, has_default = neighbours.gateways(netns)
    if not has_default:
        yield NO_DEFAULT_ROUTE.found(container=next(iter(ours.values()))["container"])
    vlans = {one.ifname: one.port.tag or 0 for one in machine.attached}
    for gateway in found:
        where = ours.get(gateway.index)
        if where is None:
            continue
        state = neighbours.probe(netns, gateway) if machine.probe else neighbours.state(netns, gateway)
        if state != neighbours.SILENT:
            continue
        values = {**where, "gateway": gateway.address}
        if machine.probe:
            yield GATEWAY_SILENT.found(vlan=vlans.get(where["ifname"], 0), **values)
        else:
            yield GATEWAY_WAS_SILENT.found(db=machine.cni_ovs, **values)


def drops(machine: Machine) -> Iterator[Finding]:
    """No packets were dropped."""
    machine.need_ovs_vswitchd()
    for one in machine.attached:
        numbers = one.interface.statistics if one.interface else {}
        count = sum(max(0, numbers.get(name, 0)) for name in _DROPPED)
        if count:
            total = count + sum(max(0, numbers.get(name, 0)) for name in ("rx_packets", "tx_packets"))
            yield PACKETS_DROPPED.found(count=count, total=total, **one.where)


def _unusable(netns: str) -> list[tuple[int, str, int]]:
    """The addresses that the kernel does not use (yet): index of the interface, address, IFA_F_ flags.

    Link-local ones are left out: the kernel makes them of the MAC, and waits with them for a second or two.
    """
    with kernel.connected(netns) as netlink:
        messages: list[Any] = list(netlink.get_addr())
    found = []
    for message in messages:
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if flags & (_IFA_F_DADFAILED | _IFA_F_TENTATIVE) and message["scope"] != _SCOPE_LINK:
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            found.append((message["index"], address, flags))
    return found


def _target(machine: Machine) -> Target:
    assert machine.target is not None, "such checks are made with a target only"
    return machine.target


def _ours(machine: Machine) -> dict[int, dict[str, str]]:
    """What messages say of each interface of ours, by its index in the container."""
    found = {one.link.index: one.where for one in machine.attached if one.link is not None}
    if not found:
        raise Skip("the container has no interface of ours")
    return found


CHECKS = (
    Check("attached", "ports of the container", attached, (NOT_ATTACHED,), of_machine=False, may_pass=True),
    Check(
        "addresses",
        "addresses of the container",
        addresses,
        (ADDRESS_DUPLICATE, ADDRESS_TENTATIVE),
        of_machine=False,
    ),
    Check(
        "gateways",
        "gateways of the container",
        gateways,
        (GATEWAY_SILENT, GATEWAY_WAS_SILENT, NO_DEFAULT_ROUTE),
        of_machine=False,
    ),
    Check("drops", "dropped packets of the container", drops, (PACKETS_DROPPED,), of_machine=False),
)
