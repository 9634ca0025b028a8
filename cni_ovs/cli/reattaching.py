"""Attaching anew what a running container has lost: its device is gone; port, namespace and address are still its own.

That is so when ovs-vswitchd was restarted on the userspace datapath, whose internal ports and taps are devices of that
process, when somebody has deleted a device, or when a container was restarted, which gives it a new namespace (what its
runtime has attached, that attaches again). What the lost device had (MAC, addresses, routes) is read from what is left
of it in the container: a tap stays there, dead. Else it is what was recorded (recorded.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cni_ovs.plugin.attachment import DEVICE
from cni_ovs.plugin.devices import MOVED, VHOST_USER

from . import attaching, kernel, recorded
from .database import Bridge, Port
from .failure import Failure
from .kernel import Link

_LINK_LOCAL = "fe80:"


class Gone(Failure):
    """There is no container any more."""


@dataclass(frozen=True)
class Loss:
    """An attachment, and whether it has lost its device.

    Attributes:
        bridge, port: its rows.
        reason: what is lost, for people; "" if nothing is.
        netns: the container's namespace; of one that was restarted, the new one.
        remains: the dead device in the container, if it is there.
    """

    bridge: Bridge
    port: Port
    reason: str
    netns: str
    remains: Link | None = None

    @property
    def ifname(self) -> str:
        """The name of the interface in the container."""
        return self.port.external_ids.get("contIface", "")


def look(bridge: Bridge, port: Port, running: dict[str, str]) -> Loss:
    """Whether an attachment has lost its device.

    Args:
        bridge, port: its rows.
        running: the namespaces of the running containers, by their id.

    Raises:
        Gone: its namespace cannot be entered.
    """
    kind = port.interface.type if port.interface else ""
    netns, ifname = port.external_ids.get("contNetns", ""), port.external_ids.get("contIface", "")
    if kind in VHOST_USER or DEVICE in port.external_ids:
        return Loss(bridge, port, "", netns)  # a socket, or hardware: neither is lost with ovs-vswitchd
    current = running.get(port.external_ids.get("contID", ""), netns)
    if current != netns and recorded.recorded(port) and not _is_same(netns, current):
        return Loss(bridge, port, "the container was restarted", current)
    try:
        inner = kernel.link(ifname, netns)
    except (OSError, ValueError) as error:
        what = f"the container of {ifname!r} is gone: its namespace {netns!r} cannot be entered ({error})"
        raise Gone(what, "`cni-ovs gc` removes its port; or start the container again") from error
    on_host = kernel.link(port.name) is not None
    if inner is None:
        return Loss(bridge, port, f"there is no interface {ifname} in the container", netns)
    if kind in MOVED:
        # If ovs-vswitchd has made a new device of that name on the host, the container has that of an earlier one.
        is_dead = inner.kind == "tun" and (on_host or not inner.carrier)
        return Loss(
            bridge, port, f"its {kind} device died with an earlier ovs-vswitchd" if is_dead else "", netns, inner
        )
    return Loss(bridge, port, "" if on_host else f"the host's end {port.name} of its veth pair is gone", netns, inner)


def _is_same(netns: str, other: str) -> bool:
    """Whether two paths are the same namespace; they are not if one of them is gone."""
    try:
        return kernel.identity(netns) == kernel.identity(other)
    except (OSError, ValueError):
        return False


def reattach(loss: Loss, socket_file: str) -> dict[str, Any]:
    """Attach anew, with the addresses, routes and MAC that the container had; returns the CNI result.

    Raises:
        CniError: as DEL and ADD; the port may be gone then.
        Failure: nobody knows the addresses.
    """
    record = recorded.of(loss.bridge, loss.port)
    config = {**record.config, "bridge": loss.bridge.name}
    if loss.remains is not None:
        record = replace(record, **_had(loss.remains, loss.netns))
        if loss.remains.mac:
            config["runtimeConfig"] = {**(config.get("runtimeConfig") or {}), "mac": loss.remains.mac}
    if not record.ips and config.get("ipam"):
        what = f"nobody knows which addresses {loss.ifname} had: the device is gone, and so is libcni's record of it"
        raise Failure(what, "restart the container, so that its runtime attaches it anew")
    own = loss.port.external_ids
    kept = {key: own[key] for key in (recorded.KEY, recorded.NAME) if key in own}
    config["external_ids"] = {**(config.get("external_ids") or {}), **kept}
    return attaching.replace(loss.port, replace(record, config=config), socket_file, loss.netns)


def _had(link: Link, netns: str) -> dict[str, Any]:
    """The addresses and routes that an interface has, in the form of a CNI result."""
    ips = [{"address": address} for address in link.addresses if not address.startswith(_LINK_LOCAL)]
    routes = []
    for route in kernel.routes(netns):
        if route.index != link.index or route.kernel:
            continue
        found: dict[str, Any] = {"dst": route.destination, "table": route.table, "scope": route.scope}
        more = {"gw": route.gateway, "priority": route.priority, "mtu": route.mtu}
        routes.append(found | {key: value for key, value in more.items() if value is not None})
    return {"ips": ips, "routes": routes}
