"""A port that cni-ovs has attached, together with what its container has of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.devices import MOVED, VHOST_USER
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import tells_attachment
from cni_ovs.plugin.netlink import Address, Link
from cni_ovs.plugin.netns import Namespace, is_gone
from cni_ovs.plugin.vswitch import USERSPACE

from .. import kernel, recorded
from ..database import Bridge, Interface, Port
from ..targets import NAMED


@dataclass(frozen=True)
class Attached:
    """A port of ours, and what its container has of it.

    Attributes:
        bridge, port: where it is in Open vSwitch.
        is_gone: whether its namespace is provably gone.
        link: the interface in the container; None if there is none, or it cannot be looked at.
        is_visible: whether the container can be looked at.
        device: what the interface is called there now; "" if it is not known.
        addresses: those of the interface.
    """

    bridge: Bridge
    port: Port
    is_gone: bool
    is_visible: bool
    link: Link | None
    device: str = ""
    addresses: tuple[Address, ...] = ()

    @property
    def netns(self) -> str:
        """The path of its namespace; may be empty."""
        return self.port.external_ids.get("contNetns", "")

    @property
    def ifname(self) -> str:
        """The name that the interface in the container was given."""
        return self.port.external_ids.get("contIface", "")

    @property
    def container(self) -> str:
        """The container, for people: the pod, or the name of the namespace, or its id."""
        known = recorded.known_as(self.port.external_ids)
        if known:
            return known
        return Path(self.netns).name if _is_named(self.netns) else self.port.external_ids.get("contID", "")[:12]

    @property
    def where(self) -> dict[str, str]:
        """What messages say of it, and the row's UUID: a port that is attached anew has the same name."""
        values = {
            "uuid": self.port.uuid,
            "port": self.port.name,
            "ifname": self.ifname,
            "device": self.device or self.ifname,
            "container": self.container,
            "netns": self.netns,
        }
        return {**values, "bridge": self.bridge.name, "target": self.target}

    @property
    def target(self) -> str:
        """What stands for its container as TARGET on the command line."""
        return Path(self.netns).name if _is_named(self.netns) else self.netns

    @property
    def interface(self) -> Interface | None:
        """Its interface in Open vSwitch."""
        return self.port.interface

    @property
    def is_made_by_open_vswitch(self) -> bool:
        """Whether it is an internal port or a tap."""
        return self.interface is not None and self.interface.type in MOVED

    @property
    def is_device(self) -> bool:
        """Whether there should be an interface in the container; not so for vhost-user, and VFs that programs drive."""
        ids = self.port.external_ids
        is_driven = attachments.DEVICE in ids and "contVfName" not in ids
        return not is_driven and self.interface is not None and self.interface.type not in VHOST_USER

    @property
    def is_enslaved(self) -> bool:
        """Whether the interface belongs to a bond, bridge or VRF in the container."""
        return self.link is not None and self.link.master != 0

    @property
    def is_userspace(self) -> bool:
        """Whether its bridge has the userspace datapath."""
        return self.bridge.datapath_type == USERSPACE


def is_link_local(address: Address) -> bool:
    """Whether an address is one that each link may have (RFC 3927, RFC 4291)."""
    return ip_address(address.packed).is_link_local


def look(bridge: Bridge, port: Port, host_links: dict[str, Link], host_ends: dict[int, int]) -> Attached:
    """A port of ours, and what its container has of it now.

    Args:
        bridge, port: where it is.
        host_links: the interfaces of this host, by name.
        host_ends: by index, the indexes of the other ends of the veths among them.
    """
    netns = port.external_ids.get("contNetns", "")
    unseen = Attached(bridge, port, False, False, None)
    if "\0" in netns or not netns.startswith("/"):
        return unseen
    if is_gone(netns) or recorded.is_process_gone(port.external_ids):  # another one may have its number
        return Attached(bridge, port, True, False, None)
    if not tells_attachment(port.external_ids):
        return unseen
    try:
        namespace = Namespace(netns)
    except CniError:  # it is not for us to see, or has just gone
        return unseen
    try:
        inside, name, outer = namespace.netlink, port.external_ids["contIface"], host_links.get(port.name)
        link = inside.link(name)
        if outer is not None and outer.kind == "veth":  # ours is its other end, whatever that is called
            index = host_ends.get(outer.index, 0)
            if kernel.other_ends(inside).get(index) != outer.index:
                return unseen  # at this path is another namespace now
            if link is None or link.index != index:
                link = inside.link(index)
                name = link.name if link is not None else name
        addresses = inside.addresses(link.index) if link is not None else ()
        return Attached(bridge, port, False, True, link, name, tuple(addresses))
    except (CniError, OSError):
        return unseen
    finally:
        namespace.close()


def _is_named(netns: str) -> bool:
    """Whether people know a namespace by its name: not those of pods, nor what would be taken for an option."""
    return netns.rpartition("/")[0] in (str(NAMED), "/var/run/netns") and not Path(netns).name.startswith(("cni-", "-"))
