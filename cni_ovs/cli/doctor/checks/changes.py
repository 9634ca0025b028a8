"""Attachments that are not as ADD left them: what CHECK, which hardly any runtime calls, says of them.

Only of those of which it is known how they were made: `cni-ovs attach` has recorded it, or libcni keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cni_ovs.plugin import check, protocol
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CHECK_FAILED, CniError
from cni_ovs.plugin.inet import parse_cidr
from cni_ovs.plugin.protocol import Invocation

from ... import recorded
from ...attaching import values_of, variables_of
from ...recorded import Record
from ..attached import Attached
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, WARNING, Finding, Problem, Skip
from .attachments import device_problem, refusal

_SECONDS = 2.0  # for one attachment
_NOT_TAKEN = ("log_file", "log_level")

_REATTACH = "cni-ovs reattach {target} {ifname} --force {db}"
ADDRESS_GONE = Problem(
    "address_gone",
    FAULT,
    "{device} in {container} does not have address {address} any more",
    "somebody, or a program in the container, has removed it; routes may have gone with it",
    command=_REATTACH,
)
ATTACHMENT_CHANGED = Problem(
    "attachment_changed",
    WARNING,
    "{ifname} in {container} is not as it was made: {difference}",
    "somebody, or a program in the container, has changed it",
    "if that is not meant, change it back, or attach it anew as it was:",
    _REATTACH,
)


def changes(machine: Machine) -> Iterator[Finding]:
    """Everything is as it was made, as far as that is known."""
    pairs = [(one, recorded.known(one.port.external_ids)) for one in machine.attached if _is_well(one, machine)]
    known = [(one, record) for one, record in pairs if record is not None]
    if not known:
        raise Skip("of no attachment it is known how it was made")
    machine.need_ovs_vswitchd()
    for one, record in known:
        if machine.is_at_work(one.port.external_ids):
            continue
        gone = _gone(one, record)
        for address in gone:
            yield ADDRESS_GONE.found(address=address, db=machine.cni_ovs, **one.where)
        difference = "" if gone else _difference(one, record, machine.address)
        if difference:
            yield ATTACHMENT_CHANGED.found(difference=difference, db=machine.cni_ovs, **one.where)


def _is_well(one: Attached, machine: Machine) -> bool:
    """Whether it can be looked at, and no other check has something to say of its interface or port."""
    is_there = one.is_visible and (one.link is not None or not one.is_device)
    is_renamed = one.link is not None and one.device != one.ifname
    return is_there and not is_renamed and device_problem(machine, one) is None and not refusal(one.port)


def _gone(one: Attached, record: Record) -> list[str]:
    """The addresses that it was given and does not have."""
    if one.link is None:
        return []
    present = {(address.packed, address.prefix) for address in one.addresses}
    return [ip["address"] for ip in record.ips if parse_cidr(ip["address"])[1:] not in present]


def _difference(one: Attached, record: Record, address: str) -> str:
    """What CHECK says; "" if all is well, or CHECK cannot be made.

    What plugins behind ours have changed in the container is theirs: their result does not tell all of it.
    """
    interface = {"name": one.ifname, "sandbox": one.netns}
    result: dict[str, Any] = {"cniVersion": protocol.LATEST_VERSION, "interfaces": [interface]}
    if not record.others:
        interface["mac"] = record.mac
        result |= {"ips": [{**ip, "interface": 0} for ip in record.ips], "routes": record.routes}
    config = {key: value for key, value in values_of(record, {}).items() if key.lower() not in _NOT_TAKEN}
    config |= {"prevResult": result, "socket_file": address}
    invocation = Invocation(
        {**variables_of(one.port.external_ids), "CNI_COMMAND": "ADD"}
    )  # of which any version is right
    try:
        read = protocol.read(invocation, json.dumps(config).encode())
        read.macspoofchk = read.ipspoofchk = False  # another check looks at the rules
        check.verify(invocation, read, Deadline(_SECONDS))
    except (CniError, OSError) as error:
        return error.msg if isinstance(error, CniError) and error.code == CHECK_FAILED else ""
    return ""


CHECKS = (
    Check(
        "changes",
        "what has changed since it was attached",
        changes,
        (ADDRESS_GONE, ATTACHMENT_CHANGED),
        may_pass=True,
    ),
)
