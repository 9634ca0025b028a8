"""Attaching anew what a running container has lost: its device is gone; port, namespace and address are still its own.

That is so when ovs-vswitchd was restarted on the userspace datapath, whose internal ports and taps are devices of that
process, when somebody has deleted a device, or when a container was restarted, which gives it a new namespace (what its
runtime has attached, that attaches again). What the lost device had (MAC, addresses, routes) is read from what is left
of it in the container: a tap stays there, dead. Else it is what was recorded (recorded.py).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network
from typing import Any

from cni_ovs.plugin.attachment import DEVICE, FLOWS, RATE_LIMITER
from cni_ovs.plugin.config import DEFAULT_SOCKET, lookup
from cni_ovs.plugin.devices import MOVED, VHOST_USER
from cni_ovs.plugin.netlink import RT_TABLE_MAIN
from cni_ovs.plugin.netns import is_own
from cni_ovs.plugin.ovn import PORT_ID

from . import attaching, database, kernel, mirrored, recorded, runtimes
from .attaching import Attached
from .belongings import Belonging
from .database import Bridge, Port
from .failure import Failure
from .kernel import Link, Route
from .recorded import Record

_LINK_LOCAL = "fe80:"
_REMEDY = "see `cni-ovs gc`"
_KINDS = ("tun", "openvswitch")  # of the device of an internal port or a tap: userspace datapath, kernel's


class Gone(Failure):
    """The container's namespace is gone."""


@dataclass(frozen=True)
class Loss:
    """An attachment, and whether it has lost its device.

    Attributes:
        belonging: its port, or the note of one.
        reason: what is lost, for people; "" if nothing is.
        remains: the device in the container that is dead, or is to be replaced.
        netns: the container's namespace, if it has another one now.
    """

    belonging: Belonging
    reason: str
    remains: Link | None = None
    netns: str = ""


def look(belonging: Belonging) -> Loss:
    """Whether an attachment has lost its device.

    Raises:
        Gone: its namespace cannot be entered, or is perhaps another one.
        Failure: there is another interface.
    """
    restarted = _restarted(belonging)
    if belonging.hangs is None:
        if not restarted:
            _in_container(belonging)
        return Loss(belonging, "attaching it anew was interrupted", netns=restarted)
    if restarted:
        return Loss(belonging, "the container was restarted", netns=restarted)
    _, port = belonging.hangs
    kind = port.interface.type if port.interface else ""
    if kind in VHOST_USER or DEVICE in port.external_ids:
        return Loss(belonging, "")  # a socket, or hardware: neither is lost with ovs-vswitchd
    inner = _in_container(belonging)
    on_host = kernel.link(port.name) is not None
    if inner is None:
        return Loss(belonging, f"there is no interface {belonging.ifname} in the container")
    if kind in MOVED:
        if inner.name != port.name or inner.kind not in _KINDS:
            raise _is_another(belonging, inner)
        # If ovs-vswitchd has made a new device of that name on the host, the container has that of an earlier one.
        is_dead = inner.kind == "tun" and (on_host or (inner.up and not inner.carrier))
        return Loss(belonging, f"its {kind} device died with an earlier ovs-vswitchd" if is_dead else "", inner)
    if not on_host:
        raise _is_another(belonging, inner)
    return Loss(belonging, "", inner)


def _restarted(belonging: Belonging) -> str:
    """The namespace of a container that was restarted since `cni-ovs attach` attached it; "" of another."""
    ids = belonging.external_ids
    record = recorded.by_hand(ids)
    if record is None or not record.process or not recorded.is_process_gone(ids):
        return ""
    running = runtimes.containers().containers
    return next((one.netns for one in running if one.id == ids.get("contID")), "")


def _in_container(belonging: Belonging) -> Link | None:
    """The interface in the container."""
    netns, ifname = belonging.netns, belonging.ifname
    try:
        inner = kernel.link(ifname, netns)
    except OSError as error:
        what = f"the namespace {netns!r} of {ifname!r} cannot be entered: {error.strerror or error}"
        raise Gone(what, _REMEDY) from error
    is_another = is_own(netns) or recorded.is_process_gone(belonging.external_ids)
    if is_another or (inner is None and _may_be_another(belonging)):
        raise Gone(f"the namespace {netns!r} is another one than that which had {ifname!r}", _REMEDY)
    return inner


def _may_be_another(belonging: Belonging) -> bool:
    """Whether the namespace is known by the number of a process only, which nothing tells to be the one that it was."""
    ids, netns = belonging.external_ids, belonging.netns
    record = recorded.by_hand(ids) or recorded.interrupted(ids)
    if not kernel.process(netns) or (record is not None and record.process):
        return False
    container_id = ids.get("contID", "")  # of nerdctl with the namespace of containerd in front
    return not any(container_id.endswith(one.id) and netns == one.netns for one in runtimes.containers().containers)


def _is_another(belonging: Belonging, inner: Link) -> Failure:
    ifname, netns = belonging.ifname, belonging.netns
    return Failure(
        f"{ifname} in the container is another interface ({inner.kind or 'hardware'}), or its other end is not here",
        f"if nobody needs it: nsenter --net={netns} ip link delete {ifname}",
    )


def reattach(loss: Loss, socket_file: str) -> tuple[Attached, Record]:
    """Attach anew, with the addresses, routes and MAC that the container had; with what it was made.

    Raises:
        CniError: as DEL and ADD; the port may be gone then.
        Failure: nobody knows all that it had.
    """
    belonging = loss.belonging
    if belonging.hangs is None:
        record = recorded.interrupted(belonging.external_ids)
        if record is None:
            raise Failure("nobody knows what it was made with", _REMEDY)
        return attaching.reattach(belonging.external_ids, record, socket_file, None, loss.netns), record
    bridge, port = belonging.hangs
    _refuse_member(loss)
    record = _wanted(loss, bridge, port)
    _refuse_missing(lookup(record.config, "bridge"), belonging, bridge.name, socket_file)
    if not record.ips and lookup(record.config, "ipam"):
        what = f"nobody knows which addresses {belonging.ifname} had: the device is gone, and no record has them"
        raise Failure(what, "restart the container, so that its runtime attaches it anew")
    record = replace(record, mirrors=mirrored.of(socket_file, port.uuid))
    return attaching.reattach(port.external_ids, record, socket_file, port, loss.netns), record


def _wanted(loss: Loss, bridge: Bridge, port: Port) -> Record:
    """With what a port is attached anew.

    Raises:
        Failure: as `reattach`.
    """
    record = recorded.known(port.external_ids) or _by_rows(bridge, port, loss.remains)
    is_alive = not loss.reason  # so it is wanted as it was made
    if not is_alive or not lookup(record.config, "bridge"):
        record = replace(record, config={**record.config, "bridge": bridge.name})
    logical_port = port.interface.external_ids.get(PORT_ID) if port.interface else None
    record = replace(record, config=recorded.with_ovn_port(record.config, logical_port))
    host = kernel.link(port.name)
    if host is not None and host.kind == "veth" and host.mac:
        record = replace(record, host_mac=host.mac)
    if loss.remains is None:
        return replace(record, mac="") if DEVICE in port.external_ids else record  # the VF has its MAC
    had = _had(loss.remains, loss.belonging.netns)
    if is_alive:
        return _united(record, had, kernel.routes(loss.belonging.netns))
    if had.ips:
        record = replace(record, ips=had.ips, routes=had.routes)
    return replace(record, mac=had.mac)


def _by_rows(bridge: Bridge, port: Port, remains: Link | None) -> Record:
    """What the rows tell, unless the attachment had more than that: nothing may be unprotected, or unlimited, then."""
    is_limited = RATE_LIMITER in port.external_ids or port.qos is not None
    is_limited |= port.interface is not None and port.interface.ingress_policing_rate > 0
    lost = [what for what, had in (("anti-spoofing", FLOWS in port.external_ids), ("limits", is_limited)) if had]
    if lost:
        what = f"nobody knows which {' and '.join(lost)} it had: neither `cni-ovs attach` nor libcni has recorded that"
        raise Failure(what, "restart the container, so that its runtime attaches it anew")
    record = recorded.from_rows(bridge, port)
    return record if remains is None else replace(record, config={**record.config, "mtu": remains.mtu})


def finish(belonging: Belonging, socket_file: str) -> None:
    """Do what an interrupted `reattach` had still to do behind ADD, if there is a note of one.

    Raises:
        CniError: Open vSwitch does not answer.
        Failure: another one is just doing it.
    """
    record = recorded.interrupted(belonging.note) if belonging.note is not None else None
    if record is not None and belonging.hangs is not None:
        attaching.finish(belonging.external_ids, record, socket_file)


def _refuse_missing(wanted: Any, belonging: Belonging, present: str, socket_file: str) -> None:
    """Refuse to remove a port that could not be made again, because the bridge it was made on is gone."""
    if wanted == present or not isinstance(wanted, str):
        return
    if database.read(socket_file).bridge(wanted) is None:
        what = f"{belonging.ifname} was made on bridge {wanted!r}, which is not there; now it is on {present!r}"
        vsctl = "ovs-vsctl" if socket_file == DEFAULT_SOCKET else f"ovs-vsctl --db={shlex.quote(socket_file)}"
        raise Failure(what, f"make that bridge, if it is meant: {vsctl} add-br {shlex.quote(wanted)}")


def _refuse_member(loss: Loss) -> None:
    """Refuse to take an interface that is alive out of what it belongs to, which has its addresses."""
    if loss.remains is not None and loss.remains.master and not loss.reason:
        ifname, netns = loss.belonging.ifname, shlex.quote(loss.belonging.netns)
        raise Failure(
            f"{ifname} belongs to a bond, bridge or VRF in the container, which would lose it",
            f"if that is meant, release it first: nsenter --net={netns} ip link set {shlex.quote(ifname)} nomaster",
        )


def _united(record: Record, had: Record, routes: list[Route]) -> Record:
    """What an interface that is alive has, and what it was given and does not have any more; with its first MAC.

    Args:
        record: what it was made with.
        had: what it has.
        routes: all those of the container: what leads elsewhere by another interface now stays there.
    """
    addresses = {ip_interface(ip["address"]) for ip in had.ips}
    missing = [ip for ip in record.ips if ip_interface(ip["address"]) not in addresses]
    present = {(ip_network(route.destination), route.table) for route in routes}
    lost = [
        route
        for route in record.routes
        if (ip_network(route["dst"], strict=False), route.get("table", RT_TABLE_MAIN)) not in present
    ]
    return replace(record, mac=record.mac or had.mac, ips=[*had.ips, *missing], routes=[*had.routes, *lost])


def _had(link: Link, netns: str) -> Record:
    """The MAC, addresses and routes that an interface has."""
    ips = [{"address": address} for address in link.addresses if not address.startswith(_LINK_LOCAL)]
    routes = []
    # Those that lead to the gateways of others come first.
    for route in sorted(kernel.routes(netns), key=lambda route: route.gateway is not None):
        if route.index != link.index or route.comes_by_itself:
            continue
        found: dict[str, Any] = {"dst": route.destination, "table": route.table, "scope": route.scope}
        more = {"gw": route.gateway, "priority": route.priority, "mtu": route.mtu, "onlink": route.onlink or None}
        routes.append(found | {key: value for key, value in more.items() if value is not None})
    return Record({}, ips, routes, link.mac or "")
