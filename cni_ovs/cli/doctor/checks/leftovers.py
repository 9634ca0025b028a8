"""Devices like ours that no port in Open vSwitch knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_ovs.plugin import at_work
from cni_ovs.plugin.attachment import is_port_name
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.netns import Namespace

from ... import kernel
from ...targets import NAMED
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, WARNING, Finding, Problem

ORPHAN = Problem(
    "orphan",
    FAULT,
    "{ifname} in {container} leads nowhere: its other end, {port}, is on no bridge",
    "somebody removed its port from Open vSwitch (del-port, del-br), or the database was made anew",
    "attach it again: restart the pod, or cni-ovs attach; first remove what is left:",
    "ip link delete {port}",
)
ORPHAN_ON_HOST = Problem(
    "orphan_on_host",
    WARNING,
    "{port} is on no bridge, and its other end is in no container that can be found",
    "somebody removed its port, and the container has lost its name or is stuck",
    command="ip link delete {port}",
)
ORPHAN_TAP = Problem(
    "orphan_tap",
    FAULT,
    "{port} in {container} is dead: it has no port in Open vSwitch",
    "somebody removed the port of an internal port or tap (userspace datapath)",
    "attach it again: restart the pod, or cni-ovs attach; first remove what is left:",
    "nsenter --net={netns} ip link delete {port}",
)

_NOT_ASSIGNED = 0xFFFFFFFF  # NETNSA_NSID_NOT_ASSIGNED of linux/net_namespace.h


@dataclass(frozen=True)
class _Container:
    """A namespace that is looked at: its path, its number for this host, and its interfaces.

    `taps` are those that nobody has open.
    """

    path: str
    number: int
    names: dict[int, str]
    taps: list[str]

    @property
    def values(self) -> dict[str, str]:
        """What messages say of it."""
        return {"netns": self.path, "container": Path(self.path).name if "/netns/" in self.path else self.path}


def orphans(machine: Machine) -> Iterator[Finding]:
    """Every device like ours has a port."""
    known = {port.name for _, port in machine.open_vswitch.ports()}
    veths = [link.name for link in machine.host_links.values() if _is_suspect(link.name, link.kind, "veth", known)]
    containers = _containers(machine)
    taps = [(box, name) for box in containers for name in box.taps if _is_suspect(name, "tun", "tun", known)]
    if not veths and not taps:
        return
    known = {port.name for _, port in machine.read().ports()}  # an ADD or a DEL may have been faster
    for container, name in taps:
        if _is_suspect(name, "tun", "tun", known):
            yield ORPHAN_TAP.found(port=name, **container.values)
    with kernel.connected() as netlink:
        ends = {message.get_attr("IFLA_IFNAME"): message for message in netlink.get_links()}
    used = _with_sockets()
    for name in veths:
        if name not in ends or not _is_suspect(name, "veth", "veth", known):
            continue
        if ends[name].get_attr("IFLA_MASTER") or ends[name]["index"] in used:
            continue  # it is on a bridge, only not of this Open vSwitch
        box, ifname = _other_end(ends[name], containers)
        if box is not None:
            yield ORPHAN.found(port=name, ifname=ifname, **box.values)
        elif machine.target is None:
            yield ORPHAN_ON_HOST.found(port=name)


def _with_sockets() -> set[int]:
    """The interfaces of this host that some program receives packets from by itself, as the userspace datapath does."""
    try:
        lines = Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]
    except OSError:  # the kernel has no such sockets
        return set()
    return {int(line.split()[4]) for line in lines}  # the column Iface


def _is_suspect(name: str, kind: str, wanted: str, known: set[str]) -> bool:
    is_like_ours = is_port_name(name) and all(char in "0123456789abcdef" for char in name[3:])
    return kind == wanted and is_like_ours and name not in known and not at_work.is_add_alive(name)


def _other_end(message: Any, containers: list[_Container]) -> tuple[_Container | None, str]:
    """Where the other end of a veth is, and its name there."""
    index, number = message.get_attr("IFLA_LINK"), message.get_attr("IFLA_LINK_NETNSID")
    for box in containers:
        if box.number == number and index in box.names:
            return box, box.names[index]
    return None, ""


def _containers(machine: Machine) -> list[_Container]:
    """The namespaces that can be found: the target's, or those with names, and those of attachments."""
    if machine.target is not None:
        paths = [machine.target.netns]
    else:
        try:
            named = [str(NAMED / name) for name in sorted(os.listdir(NAMED))]
        except OSError:
            named = []
        paths = [*named, *(one.netns for one in machine.attached if one.is_visible)]
    found: dict[tuple[int, int], _Container | None] = {}
    with kernel.connected() as netlink:
        for path in paths:
            try:
                identity = kernel.identity(path)
                if identity not in found and identity != kernel.identity(kernel.OWN):
                    found[identity] = _container(path, netlink)
            except (CniError, OSError):  # it has gone, or is not for us to see
                continue
    return [container for container in found.values() if container is not None]


def _container(path: str, netlink: Any) -> _Container | None:
    """None for what is another host's business.

    The kernel gives a namespace a number when an interface of this host goes there, or has its other end there. One
    without may be of a second Open vSwitch.
    """
    namespace = Namespace(path)
    try:
        number = netlink.get_netnsid(fd=namespace.fd)["nsid"]
        if number == _NOT_ASSIGNED:
            return None
        links = namespace.netlink.links()
    finally:
        namespace.close()
    names = {link.index: link.name for link in links}
    taps = [link.name for link in links if link.kind == "tun" and not link.carrier and is_port_name(link.name)]
    return _Container(path, number, names, taps)


CHECKS = (Check("leftovers", "devices without a port", orphans, (ORPHAN, ORPHAN_TAP, ORPHAN_ON_HOST), may_pass=True),)
