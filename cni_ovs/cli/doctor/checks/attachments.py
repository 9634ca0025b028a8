"""Attachments: that port, device and container belong together still."""

from __future__ import annotations

from collections.abc import Iterator

from cni_ovs.plugin import openflow, spoofing
from cni_ovs.plugin.attachment import DEVICE, FLOWS, name_of
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import tells_attachment

from ...database import Bridge, Port
from .. import paths
from ..attached import Attached
from ..examination import Check
from ..machine import WELL, Machine
from ..offload import has_transmit_checksum_offload
from ..problems import FAULT, WARNING, Finding, Problem, Skip

_SECONDS = 1.0  # for one bridge's answer
_COOKIE_TAG, _TAG_MASK = 0xC142 << 48, 0xFFFF << 48

_REATTACH = "cni-ovs reattach {target} {ifname} {db}"
REATTACH_ANYHOW = "cni-ovs reattach {target} {ifname} --force {db}"  # also what has not lost its device
PORT_STALE = Problem(
    "port_stale",
    WARNING,
    "port {port} has no container any more: {netns} is gone",
    "the container ended and nobody called DEL, as when a runtime has lost its record",
    "the runtime's garbage collection removes it and its address; or do it now (--dry-run only tells what would go):",
    "cni-ovs gc {db}",
)
DEVICE_LOST = Problem(
    "device_lost",
    FAULT,
    "{ifname} is not in {container} any more; its port {port} is still on {bridge}",
    "somebody deleted it; or ovs-vswitchd was restarted, whose internal port or tap it was (userspace datapath)",
    command=_REATTACH,
)
DEVICE_DEAD = Problem(
    "device_dead",
    FAULT,
    "{ifname} in {container} is dead: ovs-vswitchd has let go of it",
    "ovs-vswitchd was restarted: internal ports and taps of the userspace datapath end with it",
    command=_REATTACH,
)
DEVICE_DOWN = Problem(
    "device_down",
    FAULT,
    "{device} in {container} is down",
    "somebody set it down in the container",
    command="nsenter --net={netns} ip link set {device} up",
)
HOST_END_DOWN = Problem(
    "host_end_down",
    FAULT,
    "{port}, the host's end of {ifname} in {container}, is down",
    "somebody set it down on the host",
    command="ip link set {port} up",
)
PORT_REFUSED = Problem(
    "port_refused",
    FAULT,
    "ovs-vswitchd does not use {port}, the port of {ifname} in {container}: {error}",
    "the words behind the colon are its own",
    "mend what it says, or attach it anew:",
    REATTACH_ANYHOW,
)
OTHER_PORT_REFUSED = Problem(
    "other_port_refused",
    WARNING,
    "ovs-vswitchd does not use port {port} of bridge {bridge}: {error}",
    "a container or virtual machine has ended and its port is left, say, or an interface has another name now",
    "correct it; if it is not needed any more:",
    "{vsctl} del-port {bridge} {port}",
)
UPLINK_REFUSED = Problem(
    "uplink_refused",
    FAULT,
    "ovs-vswitchd does not use {port}, the only uplink of bridge {bridge}: {error}",
    "the interface does not exist on this host, or has another name now",
    "make the interface, or give the bridge the one that is meant (ovs-vsctl add-port), and remove this:",
    "{vsctl} del-port {bridge} {port}",
)
OFFLOAD_ON = Problem(
    "offload_on",
    FAULT,
    "TCP of {device} in {container} hangs, although ping works: transmit checksum offload is on",
    "somebody switched it on in the container; the userspace datapath passes packets on without their checksums",
    command="nsenter --net={netns} ethtool -K {device} tx off",
)
RULES_GONE = Problem(
    "rules_gone",
    FAULT,
    "{container} can forge addresses: the OpenFlow rules that check {ifname} are not on {bridge}",
    "ovs-vswitchd was restarted without ovs-ctl, which keeps them, or somebody removed them",
    command=REATTACH_ANYHOW,
)


def stale(machine: Machine) -> Iterator[Finding]:
    """Every port has a container."""
    for attached in machine.attached:
        if not attached.is_gone or _lives_elsewhere(machine, attached):
            continue
        if not machine.is_at_work(attached.port.external_ids):
            yield PORT_STALE.found(db=machine.cni_ovs, **attached.where)


def devices(machine: Machine) -> Iterator[Finding]:
    """Every port's device is in its container, alive and up."""
    for attached in machine.attached:
        problem = device_problem(machine, attached)
        if problem is not None and not machine.is_at_work(attached.port.external_ids):
            yield problem.found(db=machine.cni_ovs, **attached.where)


def ports(machine: Machine) -> Iterator[Finding]:
    """ovs-vswitchd has taken every port."""
    attached = machine.attached
    machine.need_ovs_vswitchd()
    ours = {one.port.uuid: one for one in attached}
    bridges = {one.bridge.name for one in attached}
    for bridge, port in machine.open_vswitch.ports():
        one = ours.get(port.uuid)
        error = refusal(port)
        if (
            not error
            and one is None
            and any(paths.is_gone(interface, machine.host_links) for interface in port.interfaces)
        ):
            error = "its interface is gone"
        if not error:
            continue
        values = {"error": error, "bridge": bridge.name, "port": port.name}
        if one is not None:
            if not one.is_gone and device_problem(machine, one) is None and not machine.is_at_work(port.external_ids):
                yield PORT_REFUSED.found(db=machine.cni_ovs, **{**one.where, **values})
        elif not port.is_ours and (machine.target is None or bridge.name in bridges):
            is_vital = bridge.name in bridges and _is_only_uplink(machine, bridge, port)
            problem = UPLINK_REFUSED if is_vital else OTHER_PORT_REFUSED
            yield problem.found(vsctl=machine.vsctl, **values)


def offload(machine: Machine) -> Iterator[Finding]:
    """Transmit checksum offload is off where the datapath does without."""
    concerned = [one for one in machine.attached if one.link is not None and one.is_userspace]
    if not concerned:
        raise Skip("nothing is attached to the userspace datapath")
    for attached in concerned:
        if attached.is_made_by_open_vswitch or DEVICE in attached.port.external_ids:
            continue
        try:
            is_on = has_transmit_checksum_offload(attached.netns, attached.device)
        except (CniError, OSError):  # it has just gone
            continue
        if is_on and not machine.is_at_work(attached.port.external_ids):
            yield OFFLOAD_ON.found(**attached.where)


def spoofing_rules(machine: Machine) -> Iterator[Finding]:
    """The rules that check addresses are there."""
    concerned = [one for one in machine.attached if one.port.external_ids.get(FLOWS) and not one.is_gone]
    if not concerned:
        raise Skip("no attachment has macspoofchk or ipspoofchk")
    machine.need_ovs_vswitchd()
    cookies: dict[str, set[int]] = {}
    for attached in concerned:
        bridge = attached.bridge.name
        if bridge not in cookies:
            cookies[bridge] = _cookies(machine, bridge)
        if not tells_attachment(attached.port.external_ids):
            continue
        cookie = spoofing.cookie(name_of(attached.port.external_ids))
        # A device that has its own problem gets its rules when that is mended.
        is_gone = cookie not in cookies[bridge] and device_problem(machine, attached) is None
        if is_gone and not machine.is_at_work(attached.port.external_ids):
            yield RULES_GONE.found(db=machine.cni_ovs, **attached.where)


def _lives_elsewhere(machine: Machine, attached: Attached) -> bool:
    """Whether its device is there, so its namespace is too: a process or another mount holds it without that path."""
    name = attached.port.name
    if attached.is_made_by_open_vswitch:
        return attached.is_userspace and name not in machine.host_links and name in machine.taps
    return attached.is_device and DEVICE not in attached.port.external_ids and name in machine.host_links


def device_problem(machine: Machine, attached: Attached) -> Problem | None:
    """What is wrong with a device; None also if it cannot be looked at."""
    if not attached.is_visible or not attached.is_device:
        return None
    link, host = attached.link, machine.host_links.get(attached.port.name)
    if link is None:
        return DEVICE_LOST
    is_dead = attached.is_made_by_open_vswitch and link.kind == "tun" and not link.carrier
    if is_dead and (link.up or host is not None) and machine.ovs_vswitchd == WELL:
        return DEVICE_DEAD
    if not link.up:
        return DEVICE_DOWN
    if host is not None and not host.up and not attached.is_made_by_open_vswitch:
        return HOST_END_DOWN
    return None


def refusal(port: Port) -> str:
    """Why ovs-vswitchd does not use a port; "" if it does."""
    for interface in port.interfaces:
        if interface.error:
            return interface.error
        if interface.ofport == -1:
            return "it has no OpenFlow number"
    return ""


def _is_only_uplink(machine: Machine, bridge: Bridge, port: Port) -> bool:
    names = [uplink.port.name for uplink in paths.uplinks(bridge, machine.host_links)]
    return names == [port.name]


def _cookies(machine: Machine, bridge: str) -> set[int]:
    """The cookies of a bridge's rules that are ours."""
    if not machine.address.startswith("unix:") or "/" in bridge:
        raise Skip("Open vSwitch is on another machine")
    try:
        switch = openflow.Switch(str(machine.folder / f"{bridge}.mgmt"), bridge, Deadline(_SECONDS))
        try:
            return set(switch.keys(_COOKIE_TAG, _TAG_MASK))
        finally:
            switch.close()
    except CniError as error:
        raise Skip(error.msg) from error


CHECKS = (
    Check("ports_stale", "ports whose containers are gone", stale, (PORT_STALE,), may_pass=True),
    Check(
        "devices",
        "interfaces in containers",
        devices,
        (DEVICE_LOST, DEVICE_DEAD, DEVICE_DOWN, HOST_END_DOWN),
        may_pass=True,
    ),
    Check(
        "ports",
        "ports that ovs-vswitchd has refused",
        ports,
        (PORT_REFUSED, UPLINK_REFUSED, OTHER_PORT_REFUSED),
        may_pass=True,
    ),
    Check("offload", "transmit checksum offload in containers", offload, (OFFLOAD_ON,), may_pass=True),
    Check("spoofing_rules", "OpenFlow rules that check addresses", spoofing_rules, (RULES_GONE,), may_pass=True),
)
