"""What hangs where: bridges, their ports, and what is behind each port, from Open vSwitch and the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cni_ovs.plugin.attachment import DEVICE, IFB, RATE_LIMITER, SOCKET

from .. import database, kernel, recorded, wording
from ..kernel import Link
from . import counters
from .counters import Counters
from .sandboxes import Sandbox, Sandboxes

# Kinds of port. What Open vSwitch has besides is called by its own name for the type.
VETH, VF, TAP, INTERNAL, UPLINK, BOND = "veth", "vf", "tap", "internal", "uplink", "bond"
VHOST_USER, PATCH = "vhost-user", "patch"
_KINDS = {"dpdkvhostuser": VHOST_USER, "dpdkvhostuserclient": VHOST_USER, "dpdk": UPLINK, "patch": PATCH}
_IN_CONTAINER = (INTERNAL, TAP)  # the device itself is there, and nothing of it on the host


@dataclass(frozen=True)
class Attachment:
    """Whose a port is, as its external_ids tell; "" where they say nothing.

    Attributes:
        owner: "cni-ovs", "ovs-cni.network.kubevirt.io", or "" where another program has made the port.
        state: of the namespace, see sandboxes; None if nobody has looked.
        device: the interface in the container, if it has been found.
    """

    owner: str
    network: str
    container_id: str
    interface: str
    netns: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    container_name: str
    socket: str
    state: str | None = None
    device: Link | None = None

    @property
    def name(self) -> str:
        """What a person calls it: the pod, else the container, else its namespace."""
        if self.pod_name:
            return f"{self.pod_namespace}/{self.pod_name}" if self.pod_namespace else self.pod_name
        if self.container_name:
            return self.container_name
        return self.container_id[:12] if len(self.container_id) > 32 else self.container_id or self.netns

    @property
    def is_renamed(self) -> bool:
        """Whether the interface in the container has another name now than it was given."""
        return self.device is not None and bool(self.interface) and self.interface not in self.device.names

    @property
    def key(self) -> tuple[str, ...]:
        """What attachments of one pod, or of one container without a pod, have in common."""
        if self.pod_name:
            return (self.pod_namespace, self.pod_name, self.pod_uid)
        return (self.container_id,) if self.container_id else (self.netns, self.interface)


@dataclass(frozen=True)
class Port:
    """A port, and what is behind it.

    Attributes:
        row: as Open vSwitch has it.
        bridge: name of its bridge.
        kind: one of those above, or Open vSwitch's name for the type ("vxlan", "geneve", "gre", …).
        attachment: None for what is no container's.
        device: of the host's namespace, if there is one.
        peer: of a patch port, its other end: bridge and port.
        limits: bits per second that the container may receive, and send; None for what is not limited.
        counters: None if nobody has counted.
    """

    row: database.Port
    bridge: str
    kind: str
    attachment: Attachment | None = None
    device: Link | None = None
    peer: tuple[str, str] | None = None
    limits: tuple[int | None, int | None] = (None, None)
    counters: Counters | None = None

    @property
    def name(self) -> str:
        """The port's name."""
        return self.row.name

    @property
    def interface(self) -> database.Interface | None:
        """Its interface, or the first one of a bond."""
        return self.row.interface

    @property
    def vlan(self) -> str:
        """What it carries, for people."""
        return wording.vlan(self.row.vlan_mode, self.row.tag, self.row.trunks, self.row.cvlans)

    @property
    def remote(self) -> str | None:
        """Where a tunnel leads to, in words; None for what is no tunnel."""
        remote = self.interface.options.get("remote_ip") if self.interface else None
        return "where OpenFlow says" if remote == "flow" else remote

    @property
    def error(self) -> str | None:
        """What is wrong with it in Open vSwitch's eyes."""
        for interface in self.row.interfaces:
            if interface.error:
                return interface.error
            if interface.ofport == -1:
                return "ovs-vswitchd has refused it, see its log"
            if interface.ofport is None:
                return "ovs-vswitchd has not taken it"
        return None if self.row.interfaces else "it has no interface"

    @property
    def is_local(self) -> bool:
        """Whether it is the bridge's own port."""
        return self.name == self.bridge


@dataclass(frozen=True)
class Bridge:
    """A bridge with some of its ports."""

    row: database.Bridge
    ports: list[Port]

    @property
    def name(self) -> str:
        """The bridge's name."""
        return self.row.name


@dataclass(frozen=True)
class Topology:
    """All that there is, or what was asked for of it."""

    ovs_version: str | None
    bridges: list[Bridge] = field(default_factory=list)
    is_part: bool = False  # only that was asked for

    def ports(self) -> list[Port]:
        """Every port."""
        return [port for bridge in self.bridges for port in bridge.ports]


class Host:
    """What the kernel of this host has at one moment: its own devices, and the containers' namespaces, each read once.

    Args:
        inside: how to look into the containers; None to leave them alone.
        earlier: to read the counters only, if the devices still are those of this moment before.
    """

    def __init__(self, inside: Sandboxes | None, earlier: Host | None = None) -> None:
        self.counted = counters.devices()
        if earlier is not None and earlier.counted.keys() == self.counted.keys():
            self.devices: dict[str, Link] = earlier.devices
        else:
            self.devices = {name: link for link in kernel.links() for name in link.names}
        self._inside = inside

    def sandbox(self, path: str) -> Sandbox | None:
        """What is in a namespace; None if it is not to be looked at, or none is known."""
        return self._inside.of(path) if self._inside and path else None


def build(openvswitch: database.OpenVSwitch, host: Host, wanted: Callable[[Port], bool] = lambda _: True) -> Topology:
    """What hangs where: all bridges, with the ports that are wanted. Only into their containers anybody looks."""
    peers = {
        port.name: (bridge.name, port.interface.options.get("peer", ""))
        for bridge, port in openvswitch.ports()
        if port.interface and port.interface.type == "patch"
    }
    bridges = []
    for bridge in openvswitch.bridges:
        found = [_port(bridge, port, host, peers) for port in bridge.ports]
        bridges.append(Bridge(bridge, [_counted(port, host) for port in found if wanted(port)]))
    return Topology(openvswitch.ovs_version, bridges)


def attachment_of(port: database.Port) -> Attachment | None:
    """Whose a port is; None if it is no container's."""
    ids = port.external_ids
    if not (port.is_ours or port.is_of_ovs_cni):
        ids = _of_others(port)
        if not ids:
            return None
    return Attachment(
        owner=ids.get("owner", ""),
        network=ids.get("contNetwork", ""),
        container_id=ids.get("contID", ""),
        interface=ids.get("contIface", ""),
        netns=ids.get("contNetns", ""),
        pod_namespace=ids.get("contPodNamespace", ""),
        pod_name=ids.get("contPodName", ""),
        pod_uid=ids.get("contPodUid", ""),
        container_name=ids.get(recorded.NAME, ""),
        socket=ids.get(SOCKET, ""),
    )


def _of_others(port: database.Port) -> dict[str, str]:
    """What ovs-docker and programs that attach virtual machines (`iface-id`) tell of an interface."""
    ids = port.interface.external_ids if port.interface else {}
    if "container_id" in ids:
        return {"contID": ids["container_id"], "contIface": ids.get("container_iface", "")}
    return {"contID": ids["iface-id"]} if ids.get("iface-id") else {}


def _port(bridge: database.Bridge, row: database.Port, host: Host, peers: dict[str, tuple[str, str]]) -> Port:
    """A port, as far as Open vSwitch and the host tell of it."""
    attachment = attachment_of(row)
    device = host.devices.get(row.interface.name) if row.interface else None
    return Port(row, bridge.name, _kind(row, attachment, device), attachment, device, _peer(row, peers))


def _counted(port: Port, host: Host) -> Port:
    """The same, with what its container tells."""
    attachment = port.attachment
    sandbox = host.sandbox(attachment.netns) if attachment else None
    if attachment and sandbox:
        attachment = replace(attachment, state=sandbox.state, device=_inside(port, attachment.interface, sandbox))
    limits = _limits(port.row, attachment, sandbox)
    return replace(port, attachment=attachment, limits=limits, counters=_counters(port.row, port.kind, host, sandbox))


def _inside(port: Port, interface: str, sandbox: Sandbox) -> Link | None:
    """A port's interface in its container. A name alone is no proof where there is another: names are given again."""
    if port.device is not None and port.device.peer is not None:
        return sandbox.other_end(port.device)
    names = (port.name, interface) if port.kind in _IN_CONTAINER else (interface, port.name)
    return sandbox.link(*filter(None, names))


def _kind(row: database.Port, attachment: Attachment | None, device: Link | None) -> str:
    if len(row.interfaces) > 1:
        return BOND
    type_of_row = row.interface.type if row.interface else ""
    if type_of_row not in ("", "system"):
        return _KINDS.get(type_of_row, type_of_row)
    if attachment is None:
        return UPLINK
    if DEVICE in row.external_ids:
        return VF
    return {None: VETH, "tun": TAP}.get(device.kind, device.kind or VETH) if device else VETH


def _peer(row: database.Port, peers: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Bridge and port that a patch port leads to, if that port leads back; else there is no connection."""
    wanted = peers.get(row.name, ("", ""))[1]
    bridge, back = peers.get(wanted, ("", ""))
    return (bridge, wanted) if back == row.name else None


def _counters(row: database.Port, kind: str, host: Host, sandbox: Sandbox | None) -> Counters | None:
    """What has passed, from where it is counted best; None if that is nowhere."""
    if row.interface is None:
        return None
    name = row.interface.name
    if kind in _IN_CONTAINER and sandbox is not None and name in sandbox.counted:
        return counters.of_far_end(sandbox.counted[name], counters.CONTAINER)
    if kind != BOND and name in host.counted:
        of_end = counters.of_far_end if kind == INTERNAL else counters.of_near_end
        return of_end(host.counted[name], counters.HOST)
    return counters.of_statistics(interface.statistics for interface in row.interfaces)


def _limits(
    row: database.Port, attachment: Attachment | None, sandbox: Sandbox | None
) -> tuple[int | None, int | None]:
    """What a container may receive and send, in bits per second; see the plugin's bandwidth.py for who limits."""
    qos = row.qos or {}
    receive = _integer(qos.get("max-rate")) or 8 * (_integer(qos.get("cir")) or 0) or None
    policing = row.interface.ingress_policing_rate if row.interface else 0
    send: int | None = policing * 1000 or None
    if sandbox and attachment and attachment.device:
        send = sandbox.limits.get(attachment.device.name, send)
        if row.external_ids.get(RATE_LIMITER) == IFB:
            receive = sandbox.limits.get(f"ifb{row.name[3:]}", receive)
    return receive, send


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
