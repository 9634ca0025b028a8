"""The topology as nodes and edges, for pictures. Texts are harmless already (wording.plain)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .. import wording
from ..kernel import Link
from ..wording import short
from . import tree
from .model import BOND, INTERNAL, PATCH, UPLINK, Attachment, Bridge, Port, Topology

# Kinds of node besides bridges. All but containers are what is outside.
CONTAINER, TUNNEL, HOST, OTHER = "container", "tunnel", "host", "other"  # and UPLINK
_ADDRESSES = 3  # of an interface; more are counted


@dataclass(frozen=True)
class Slot:
    """One port of a node.

    Attributes:
        bridge: name of the bridge that the port is on.
        vlan: what the port carries; "" where that is nothing special.
        port: its name and OpenFlow number.
        lines: the interface in the container, its addresses, and so on.
        problem: what is wrong; "" for nothing.
    """

    bridge: str
    vlan: str
    port: str
    lines: list[str]
    problem: str = ""


@dataclass(frozen=True)
class Node:
    """What is behind one or more ports."""

    kind: str
    title: str
    slots: list[Slot] = field(default_factory=list)


@dataclass(frozen=True)
class Patch:
    """Two patch ports that lead to each other; bridge, port and what it carries of each."""

    ends: tuple[tuple[str, str, str], tuple[str, str, str]]


@dataclass(frozen=True)
class Graph:
    """A picture's content. The names of bridges are as in the database; only `bridges` has how they are written.

    Attributes:
        bridges: the lines of each bridge, by its name.
        outside: uplinks, tunnels' remote ends and the host; each is at one bridge.
        containers: pods and containers, each perhaps at several bridges.
        patches: connections between bridges.
    """

    bridges: dict[str, list[str]]
    outside: list[Node]
    containers: list[Node]
    patches: list[Patch]


def graph(topology: Topology) -> Graph:
    """What a picture of the topology shows.

    A bridge's own port is left out where the host does not use it: it is down, and has no address.
    """
    ports = sorted(topology.ports(), key=tree.order)
    shown = {port.name for port in ports if port.kind == PATCH}
    containers: dict[tuple[str, ...], Node] = {}
    outside: dict[tuple[str, ...], Node] = {}
    patches = []
    for port in ports:
        if port.attachment is not None:
            title = tree.whose(port.attachment)
            node = containers.setdefault(port.attachment.key, Node(CONTAINER, title))
            node.slots.append(_slot(port, _inside(port.attachment), _problem(port)))
        elif port.peer and port.peer[1] in shown:
            if port.name <= port.peer[1]:
                other = next(found for found in ports if found.name == port.peer[1])
                patches.append(Patch((_end(port), _end(other))))
        elif not (port.is_local and _is_unused(port)):
            kind, title, lines = _outside(port)
            key = (port.bridge, title) if kind == TUNNEL else (port.bridge, title, port.row.uuid)
            outside.setdefault(key, Node(kind, title)).slots.append(_slot(port, lines, short(port.error or "")))
    bridges = {bridge.name: _bridge(bridge) for bridge in topology.bridges}
    return Graph(bridges, list(outside.values()), list(containers.values()), patches)


def _bridge(bridge: Bridge) -> list[str]:
    lines = [short(bridge.name, 24), f"datapath {short(bridge.row.datapath_type or 'system', 16)}"]
    if bridge.row.fail_mode:
        lines.append(f"fail mode {short(bridge.row.fail_mode, 16)}")
    return lines + [short(target, 28) for target in bridge.row.controllers[:2]]


def _slot(port: Port, lines: list[str], problem: str) -> Slot:
    number = port.interface.ofport if port.interface else None
    name = short(port.name) + (f" ({number})" if number is not None and number >= 0 and not port.is_local else "")
    vlan = port.vlan if port.attachment or port.vlan != wording.ALL_VLANS else ""
    return Slot(port.bridge, vlan, name, lines, problem)


def _end(port: Port) -> tuple[str, str, str]:
    return port.bridge, short(port.name), "" if port.vlan == wording.ALL_VLANS else port.vlan


def _outside(port: Port) -> tuple[str, str, list[str]]:
    """Kind, title and lines of what is no container's."""
    interface = port.interface
    if port.remote is not None and interface is not None:
        key = interface.options.get("key")
        return TUNNEL, f"{short(port.kind)} to {short(port.remote)}", [f"key {short(key)}"] if key else []
    if port.kind == PATCH:
        if port.peer is not None:
            return OTHER, f"bridge {short(port.peer[0])}", ["not in this picture"]
        return OTHER, "nothing", ["the peer of this patch port does not lead back"]
    if port.kind == BOND:
        return UPLINK, f"bond {short(port.name)}", [short(member.name) for member in port.row.interfaces[:_ADDRESSES]]
    if port.kind == UPLINK:
        speed = interface.link_speed if interface else None
        lines = [wording.bits(speed)] if speed else []
        return UPLINK, f"uplink {short(port.name)}", lines + (_device(port.device) if port.device else [])
    kind = HOST if port.kind == INTERNAL else OTHER
    title = f"host: {short(port.name)}" if kind == HOST else f"{short(port.kind)} {short(port.name)}"
    return kind, title, _device(port.device) if port.device else []


def _device(link: Link) -> list[str]:
    return [f"MTU {link.mtu}, {tree.state(link)}", *_few(_global(link))]


def _inside(attachment: Attachment) -> list[str]:
    """The interface in the container, with its first address in the same line."""
    first = short(attachment.interface) or "interface unknown"
    if attachment.device is None:
        return [first]
    if attachment.is_renamed:
        first += f", now {short(attachment.device.name)}"
    if not attachment.device.up:
        first += " (down)"
    addresses = _few(_global(attachment.device))
    return [f"{first}  {addresses[0]}", *addresses[1:]] if addresses else [first]


def _problem(port: Port) -> str:
    problem = tree.missing(port, port.attachment) if port.attachment is not None else ""
    return problem or short(port.error or "")


def _is_unused(port: Port) -> bool:
    return port.error is None and (port.device is None or not (port.device.up or _global(port.device)))


def _global(link: Link) -> list[str]:
    return [address for address in link.addresses if not address.startswith("fe80:")]


def _few(addresses: Iterable[str]) -> list[str]:
    texts = list(addresses)
    more = len(texts) - _ADDRESSES
    return texts if more <= 0 else [*texts[:_ADDRESSES], f"and {more} more"]
