"""The topology as a tree, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from rich.tree import Tree

from cni_ovs.plugin.vswitch import OVS_CNI

from .. import database, wording
from ..kernel import Link
from ..wording import short
from . import counters, sandboxes
from .model import BOND, INTERNAL, PATCH, UPLINK, VF, Attachment, Bridge, Port, Topology

_ID_LENGTH = 12  # of a container's id, as container runtimes show it


def tree(topology: Topology) -> Tree:
    """What hangs where."""
    version = f"Open vSwitch {short(topology.ovs_version)}" if topology.ovs_version else "Open vSwitch"
    root = Tree(Text(version), guide_style="dim")
    if not topology.bridges:
        root.add(Text("no port is like that" if topology.is_part else "there is no bridge"))
    named = {port.name: port for port in topology.ports()}
    for bridge in topology.bridges:
        branch = root.add(_bridge(bridge))
        for mirror in bridge.row.mirrors:
            branch.add(_mirror(mirror, named))
        for port in sorted(bridge.ports, key=order):
            leaf = branch.add(_port(port))
            lines = _attachment(port, port.attachment) if port.attachment else []
            lines += _limits(port) + _traffic(port)
            if lines:
                leaf.add(Text("\n").join(lines))
    return root


def order(port: Port) -> tuple[bool, bool, bool, str, str]:
    """In which order people look at ports: the bridge's own, uplinks, what leads elsewhere, and containers by name."""
    name = port.attachment.name if port.attachment else ""
    return not port.is_local, port.attachment is not None, port.kind not in (UPLINK, BOND), name, port.name


def device(link: Link, *, addresses: bool = True) -> str:
    """A device: its addresses but the link-local ones, MAC, MTU and state."""
    shown = [address for address in link.addresses if not address.startswith("fe80:")] if addresses else []
    return _listed([*shown[:8], f"MAC {link.mac}" if link.mac else "", f"MTU {link.mtu}", state(link)])


def state(link: Link) -> str:
    """Whether packets may pass."""
    return ("up" if link.carrier else "up, no carrier") if link.up else "down"


def whose(attachment: Attachment) -> str:
    """The pod, or else the container."""
    if attachment.pod_name:
        return f"pod {short(attachment.name)}"
    return f"container {short(attachment.name)}" if attachment.name else "a container without a name"


def _bridge(bridge: Bridge) -> Text:
    row = bridge.row
    words = [f"datapath {short(row.datapath_type or 'system')}"]
    if row.fail_mode:
        words.append(f"fail mode {short(row.fail_mode)}")
    words += [f"controller {short(target)}" for target in row.controllers]
    if row.controllers and row.datapath_id:
        words.append(f"datapath id {short(row.datapath_id)}")
    return Text.assemble((short(row.name), "bold blue"), "  bridge, ", _listed(words))


def _mirror(mirror: database.Mirror, named: dict[str, Port]) -> Text:
    """What is copied, seen from the containers: what enters the switch at a port comes from the container."""

    def ports(names: list[str]) -> str:
        texts = []
        for name in names:
            port = named.get(name)
            texts.append(f"{whose(port.attachment)}" if port and port.attachment else short(name))
        return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")

    both = [name for name in mirror.sources if name in mirror.destinations]
    sources = [name for name in mirror.sources if name not in both]
    destinations = [name for name in mirror.destinations if name not in both]
    parts = ["everything"] if mirror.everything else []
    parts += [
        f"{what} {ports(names)}"
        for what, names in (("from and to", both), ("from", sources), ("to", destinations))
        if names and not mirror.everything
    ]
    copied = "; ".join(parts) or "nothing"
    if mirror.vlans:
        copied += f" in VLAN {wording.ranges(mirror.vlans)}"
    output = "nobody"
    if mirror.output is not None:
        output = ports([mirror.output])
    elif mirror.output_vlan is not None:
        output = f"VLAN {mirror.output_vlan}"
    return Text.assemble((short(mirror.name), "bold magenta"), f"  mirror, copies {copied}, for {output}")


def _port(port: Port) -> Text:
    name = "bold" if port.attachment is None else "bold green"
    text = Text.assemble((short(port.name), name), "  ", _listed([*_kind(port), *_leads_to(port)]))
    if port.error:
        text.append(f"\n{short(port.error, 300)}", "bold red")
    return text


def _kind(port: Port) -> list[str]:
    kind = {INTERNAL: "internal", VF: "VF representor"}.get(port.kind, short(port.kind))
    number = port.interface.ofport if port.interface else None
    taken = number is not None and number >= 0 and not port.is_local
    return [kind, "the bridge's own" if port.is_local else "", port.vlan, f"OpenFlow {number}" if taken else ""]


def _leads_to(port: Port) -> list[str]:
    """What is at the other end of a port that is no container's."""
    interface = port.interface
    if port.kind == PATCH:
        if port.peer is None:
            peer = interface.options.get("peer") if interface else None
            return [f"to {short(peer)}, which does not lead back" if peer else "to nowhere"]
        return [f"to {short(port.peer[0])} ({short(port.peer[1])})"]
    if port.remote is not None and interface:
        key = interface.options.get("key")
        return [f"to {short(port.remote)}", f"key {short(key)}" if key else ""]
    if port.kind == BOND:
        return ["of " + ", ".join(short(member.name) for member in port.row.interfaces), port.row.bond_mode or ""]
    if port.attachment is not None or port.device is None:
        return []
    speed = interface.link_speed if interface and port.kind == UPLINK else None
    return [wording.bits(speed) if speed else "", device(port.device)]


def _attachment(port: Port, attachment: Attachment) -> list[Text]:
    head = Text(whose(attachment), "bold")
    if attachment.interface:
        head.append(f"  {short(attachment.interface)}", "bold cyan")
    lines = [head, *_inside(port, attachment)]
    is_named = attachment.pod_name or attachment.container_name
    container = short(attachment.container_id[:_ID_LENGTH]) if is_named else ""
    lines.append(
        Text(
            _listed(
                [
                    f"network {short(attachment.network)}" if attachment.network else "",
                    f"container {container}" if container else "",
                    short(attachment.netns, 108),
                    f"socket {short(attachment.socket, 108)}" if attachment.socket else "",
                    "of ovs-cni" if attachment.owner == OVS_CNI else "",
                    "of another program" if not attachment.owner else "",
                ]
            ),
            "dim",
        )
    )
    return lines


def _inside(port: Port, attachment: Attachment) -> list[Text]:
    """The interface in the container, or what is wrong with it."""
    if attachment.device is not None:
        other = [f"is called {short(attachment.device.name)} there"] if attachment.is_renamed else []
        return [Text(_listed([*other, device(attachment.device)]))]
    problem = missing(port, attachment)
    return [Text(problem, "bold yellow")] if problem else []


def missing(port: Port, attachment: Attachment) -> str:
    """Why there is no interface to be shown; "" where there need be none, or nobody has looked."""
    if attachment.state == sandboxes.GONE:
        is_held = port.device is not None and port.device.peer is not None
        return "its namespace is not at that path any more, but elsewhere" if is_held else "its namespace is gone"
    if attachment.state == sandboxes.UNREADABLE:
        return "its namespace cannot be read"
    is_driven = port.kind == VF and "contVfName" not in port.row.external_ids  # by a program, past the kernel
    if attachment.state == sandboxes.READ and attachment.device is None and not attachment.socket and not is_driven:
        return "this interface is not in its namespace"
    return ""


def _is_end(port: Port) -> bool:
    """Whether somebody is behind a port: a container, or the host. Otherwise it leads on: to a network, or a bridge."""
    return port.attachment is not None or port.kind == INTERNAL


def _limits(port: Port) -> list[Text]:
    names = ("receives", "sends") if _is_end(port) else ("sends out", "takes in")
    limits = [f"{what} at most {wording.bits(limit)}" for what, limit in zip(names, port.limits, strict=True) if limit]
    return [Text(", ".join(limits))] if limits else []


def _traffic(port: Port) -> list[Text]:
    counted = port.counters
    if counted is None or counted.is_zero:
        return []
    names = ("received", "sent") if _is_end(port) else ("sent out", "took in")
    both = (
        (names[0], counted.in_bytes, counted.in_packets, counted.in_drops, counted.in_errors),
        (names[1], counted.out_bytes, counted.out_packets, counted.out_drops, counted.out_errors),
    )
    texts = []
    for way, size, packets, drops, errors in both:
        text = f"{way} {wording.amount(size)} in {packets} packet{'' if packets == 1 else 's'}"
        text += f", {drops} dropped" if drops else ""
        texts.append(text + (f", {errors} errors" if errors else ""))
    if counted.source == counters.OPEN_VSWITCH:
        texts[-1] += " (as of the last 5 s)"
    return [Text("; ".join(texts), "dim")]


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word for word in words if word)
