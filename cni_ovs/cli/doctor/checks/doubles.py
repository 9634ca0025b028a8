"""MACs and addresses that two containers have in one VLAN of one bridge."""

from __future__ import annotations

from collections.abc import Iterator

from cni_ovs.plugin.inet import format_ip, format_mac
from cni_ovs.plugin.netlink import IFA_DADFAILED
from cni_ovs.plugin.ovn import PORT_ID

from .. import paths
from ..attached import Attached, is_link_local
from ..examination import Check
from ..machine import Machine, identity_of
from ..problems import FAULT, Finding, Problem, Skip

MAC_TWICE = Problem(
    "mac_twice",
    FAULT,
    "{device} in {container} and {other_device} in {other} have the same MAC, {value}, on {bridge}",
    "both were given it, or a program in one of them has set it; packets for one go to the other",
    "give one of them another MAC",
)
ADDRESS_TWICE = Problem(
    "address_twice",
    FAULT,
    "{device} in {container} and {other_device} in {other} have the same address, {value}, on {bridge}",
    "somebody has set one by hand, or two networks with the same range are on one VLAN",
    "give one of them another address, or one of the networks a range or a VLAN of its own",
)


def doubles(machine: Machine) -> Iterator[Finding]:
    """No two containers have the same MAC or address."""
    if not machine.attached:
        raise Skip("nothing is attached")
    ours = {one.port.uuid for one in machine.attached}
    seen: dict[tuple[str, int, str], Attached] = {}
    for one in machine.everything_attached:
        if not _is_switched(one) or machine.is_at_work(one.port.external_ids):
            continue
        for problem, value in _values(one, is_told=machine.target is not None):
            first = seen.setdefault((one.bridge.name, one.port.tag or 0, value), one)
            if first is one or not ours & {one.port.uuid, first.port.uuid}:
                continue
            if identity_of(first.netns) != identity_of(one.netns):  # the interfaces of a bond have one MAC
                others = {"other_device": first.where["device"], "other": first.container}
                yield problem.found(value=value, **others, **one.where)


def _is_switched(one: Attached) -> bool:
    """Whether all on its bridge and VLAN get what it sends to all, without a tag: that is what the kernel sends.

    It is not so if OVN or another controller decides, nor on a trunk that does not carry packets without tags.
    """
    if one.link is None or not one.is_device or one.bridge.controllers:
        return False
    carried = paths.carried(one.port)
    is_ovns = one.interface is not None and PORT_ID in one.interface.external_ids
    return not is_ovns and (carried is None or (one.port.tag or 0) in carried)


def _values(one: Attached, *, is_told: bool) -> Iterator[tuple[Problem, str]]:
    """What only one may have: not link-local addresses, nor those that stand alone, as of a service that several serve.

    Args:
        one: whose.
        is_told: whether another check tells that the kernel has found an address to be another's.
    """
    assert one.link is not None
    if one.link.mac:
        yield MAC_TWICE, format_mac(one.link.mac)
    for address in one.addresses:
        stands_alone = address.prefix == len(address.packed) * 8
        if not (is_link_local(address) or stands_alone or (is_told and address.flags & IFA_DADFAILED)):
            yield ADDRESS_TWICE, format_ip(address.packed)


CHECKS = (
    Check("doubles", "MACs and addresses that two containers have", doubles, (MAC_TWICE, ADDRESS_TWICE), may_pass=True),
)
