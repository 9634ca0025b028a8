"""Attachments that are not as ADD left them: what CHECK, which hardly any runtime calls, says of them.

Only of those of which it is known how they were made: `cni-ovs attach` has recorded it, or libcni keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cni_ovs.plugin import check, log, protocol
from cni_ovs.plugin.config import NetworkConfig, Reader, fill, lookup, usual_flat_file
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CHECK_FAILED, CniError
from cni_ovs.plugin.inet import parse_cidr
from cni_ovs.plugin.netns import SHORTAGE
from cni_ovs.plugin.protocol import Invocation

from ... import recorded
from ...attaching import values_of, variables_of
from ...failure import Failure
from ...recorded import Record
from ..attached import Attached, is_link_local
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, WARNING, Finding, Problem, Skip, Value
from .attachments import REATTACH_ANYHOW, device_problem, refusal

_SECONDS = 2.0  # for one attachment

ADDRESS_GONE = Problem(
    "address_gone",
    FAULT,
    "{device} in {container} does not have address {address} any more, nor another one of that kind",
    "somebody, or a program in the container, has removed it; routes may have gone with it",
    "give it back, or attach it anew as it was made{chain}:",
    REATTACH_ANYHOW,
)
ATTACHMENT_CHANGED = Problem(
    "attachment_changed",
    WARNING,
    "{ifname} in {container} is not as it was made: {difference}",
    "somebody, or a program in the container, has changed it",
    "if that is not meant, change it back, or attach it anew as it was made{chain}:",
    REATTACH_ANYHOW,
)
MEMBER_CHANGED = Problem(
    "member_changed",
    WARNING,
    "{ifname} in {container}, which is part of another interface there, is not as it was made: {difference}",
    "somebody has changed it; MAC, addresses and routes, which a bond, bridge or VRF may take, are not compared",
    "if that is not meant, change it back",
)


def changes(machine: Machine) -> Iterator[Finding]:
    """Everything is as it was made, as far as that is known."""
    pairs = [(one, recorded.known(one.port.external_ids)) for one in machine.attached if _is_well(one, machine)]
    known = [(one, record) for one, record in pairs if record is not None]
    if not known:
        raise Skip("of no attachment it is known how it was made")
    machine.need_ovs_vswitchd()
    log.configure("error", None)  # what the plugin would warn of is no finding
    for one, record in known:
        if machine.is_at_work(one.port.external_ids):
            continue
        chain = f" (but not {', '.join(record.others)} of its chain)" if record.others else ""
        values: dict[str, Value] = {"chain": chain, "db": machine.cni_ovs, **one.where}
        gone = _gone(one, record)
        for address in gone:
            yield ADDRESS_GONE.found(address=address, **values)
        difference = "" if gone else _difference(one, record, machine.address)
        if difference:
            problem = MEMBER_CHANGED if one.is_enslaved else ATTACHMENT_CHANGED
            yield problem.found(difference=difference, **values)


def _is_well(one: Attached, machine: Machine) -> bool:
    """Whether there is an interface to be looked at, of which no other check has something to say."""
    if one.link is None or not one.is_device or one.device != one.ifname:  # a program may rename it
        return False
    return device_problem(machine, one) is None and not refusal(one.port)


def _gone(one: Attached, record: Record) -> list[str]:
    """The addresses that it was given and does not have, nor has got others instead."""
    if one.is_enslaved:
        return []
    present = {(address.packed, address.prefix) for address in one.addresses}
    others = {len(address.packed) for address in one.addresses if not is_link_local(address)}
    given = [(ip["address"], *parse_cidr(ip["address"])[1:]) for ip in record.ips]
    return [text for text, packed, prefix in given if (packed, prefix) not in present and len(packed) not in others]


def _difference(one: Attached, record: Record, address: str) -> str:
    """What CHECK says; "" if all is well, or CHECK cannot be made.

    What plugins behind ours have changed in the container is theirs: their result does not tell all of it. And a bond
    or bridge in the container takes MAC and addresses to itself.

    Raises:
        Skip: this machine is short of something.
    """
    is_whole = recorded.by_hand(one.port.external_ids) is not None
    if not is_whole and (lookup(record.config, "configuration_path") or usual_flat_file()):
        return ""  # what was taken from there is not known, and it may say something else now
    interface = {"name": one.ifname, "sandbox": one.netns}
    result: dict[str, Any] = {"cniVersion": protocol.LATEST_VERSION, "interfaces": [interface]}
    if not one.is_enslaved:
        result["ips"] = [{**ip, "interface": 0} for ip in record.ips]
        if not record.others:
            interface["mac"] = record.mac
            result["routes"] = record.routes
    try:
        invocation, config = _prepared(one, {**values_of(record, {}), "prevResult": result, "socket_file": address})
        check.verify(invocation, config, Deadline(_SECONDS))
    except Failure:
        return ""  # it is no configuration
    except (CniError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in SHORTAGE:
            raise Skip(f"the machine is short of something: {cause.strerror}") from error
        return error.msg if isinstance(error, CniError) and error.code == CHECK_FAILED else ""
    return ""


def _prepared(one: Attached, values: dict[str, Any]) -> tuple[Invocation, NetworkConfig]:
    """What `check.verify` needs. MTU, OpenFlow rules and OVN are left out: others tell of them, or need not do it yet.

    Raises:
        CniError: ADD would not take such a configuration any more.
    """
    invocation = Invocation({**variables_of(one.port.external_ids), "CNI_COMMAND": "CHECK"})
    config = NetworkConfig()  # without the flat file of this machine, and without a log
    config.raw, config.values, config.name, config.type = b"", values, values["name"], "ovs"
    fill(config, Reader(values, lenient=False), values, invocation.args)
    config.mtu = config.ovn_port = None
    config.macspoofchk = config.ipspoofchk = False
    return invocation, config


CHECKS = (
    Check(
        "changes",
        "what has changed since it was attached",
        changes,
        (ADDRESS_GONE, ATTACHMENT_CHANGED, MEMBER_CHANGED),
        may_pass=True,
    ),
)
