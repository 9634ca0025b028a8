"""MACs and addresses that two containers have in one VLAN of one bridge."""

from __future__ import annotations

from collections.abc import Iterator

from cni_ovs.plugin.inet import format_ip, format_mac
from cni_ovs.plugin.netlink import IFA_DADFAILED

from ..attached import Attached
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, Finding, Problem, Skip

_LINK_LOCAL = bytes((0xFE, 0x80))

MAC_TWICE = Problem(
    "mac_twice",
    FAULT,
    "{device} in {container} and {other_device} in {other} have the same MAC, {value}, on {bridge}",
    "it was given to both, or one container is a copy of the other; packets for one go to the other",
    "give one of both another, or restart its pod",
)
ADDRESS_TWICE = Problem(
    "address_twice",
    FAULT,
    "{device} in {container} and {other_device} in {other} have the same address, {value}, on {bridge}",
    "somebody has set one by hand, or two networks with the same range are on one VLAN",
    "give one of both another, or its network a range or a VLAN of its own",
)


def doubles(machine: Machine) -> Iterator[Finding]:
    """No two containers have the same MAC or address."""
    if not machine.attached:
        raise Skip("nothing is attached")
    ours = {one.port.uuid for one in machine.attached}
    seen: dict[tuple[str, int, str], Attached] = {}
    for one in machine.everything_attached:
        if one.link is None or machine.is_at_work(one.port.external_ids):
            continue
        for problem, value in _values(one, is_told=machine.target is not None):
            # What a container sends without a tag is in the VLAN of `tag`; on a trunk it is in none.
            first = seen.setdefault((one.bridge.name, one.port.tag or 0, value), one)
            if first is one or not ours & {one.port.uuid, first.port.uuid}:
                continue
            if first.netns != one.netns:  # the interfaces of a bond have one MAC
                others = {"other_device": first.where["device"], "other": first.container}
                yield problem.found(value=value, **others, **one.where)


def _values(one: Attached, *, is_told: bool) -> Iterator[tuple[Problem, str]]:
    """What only one may have; the kernel makes link-local addresses of the MAC.

    Args:
        one: whose.
        is_told: whether another check tells that the kernel has found an address to be another's.
    """
    assert one.link is not None
    yield MAC_TWICE, format_mac(one.link.mac)
    for address in one.addresses:
        is_link_local = len(address.packed) == 16 and address.packed[:2] == _LINK_LOCAL
        if not is_link_local and not (is_told and address.flags & IFA_DADFAILED):
            yield ADDRESS_TWICE, format_ip(address.packed)


CHECKS = (
    Check("doubles", "MACs and addresses that two containers have", doubles, (MAC_TWICE, ADDRESS_TWICE), may_pass=True),
)
